//! What was charged, and what each card does.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline::{Env, Error, Result, Timestamp};

use super::{Charge, ChargeRequest, ChargeStatus, Options};

/// From this amount on every card is declined: 10,000.00.
const AMOUNT_LIMIT_MINOR: i64 = 1_000_000;

/// Every charge by its idempotency key, in memory and line by line in a file.
#[derive(Debug)]
pub(super) struct Ledger {
    env: Env,
    late: Duration,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: BTreeMap<String, Entry>,
    /// Keys whose first request of a flaky card has failed.
    failed_once: Vec<String>,
    file: Option<File>,
}

/// A charge, and how it will stand later if it is pending now.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    charge: Charge,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due: Option<(Timestamp, ChargeStatus)>,
}

/// What the HTTP side does with a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// Answer now.
    Now(Charge),
    /// Answer after this pause, by reading the charge again.
    After(Duration),
    /// Never answer.
    Never,
    /// Fail, this once.
    Fail,
}

impl Ledger {
    pub(super) fn open(options: Options, env: Env) -> Result<Self> {
        let mut entries = Entries::default();
        if let Some(path) = &options.ledger {
            let (by_key, bytes_whole) = load(path)?;
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.and_then(|file| file.set_len(bytes_whole).map(|()| file));
            entries.file = Some(file.map_err(|error| unusable(path, error))?);
            entries.by_key = by_key;
        }
        Ok(Self {
            env,
            late: options.late,
            entries: Mutex::new(entries),
        })
    }

    pub(super) fn charge(&self, key: &str, request: ChargeRequest) -> Result<Answer> {
        let now = self.env.now();
        let mut entries = self.lock();
        if let Some(entry) = entries.by_key.get(key) {
            if entry.charge.request != request && entry.charge.status != ChargeStatus::Voided {
                let text = "the idempotency key was used for another charge";
                return Err(Error::conflict("idempotency_mismatch", text).with("key", key));
            }
            return Ok(match entry.due {
                Some((due, _)) if due > now => Answer::After(until(now, due)),
                _ => Answer::Now(entry.at(now)),
            });
        }
        let (status, reason) = verdict(&request);
        let late = match request.source.as_str() {
            "tok_timeout" => return Ok(Answer::Never),
            "tok_flaky" if !entries.failed_once.iter().any(|failed| failed == key) => {
                entries.failed_once.push(key.to_owned());
                return Ok(Answer::Fail);
            }
            "tok_late" | "tok_late_declined" => true,
            _ => false,
        };
        let id = format!("ch_{}", self.env.id().simple());
        let mut charge = Charge {
            id,
            key: key.to_owned(),
            request,
            status,
            reason,
        };
        if !late {
            entries.put(Entry {
                charge: charge.clone(),
                due: None,
            })?;
            return Ok(Answer::Now(charge));
        }
        charge.status = ChargeStatus::Pending;
        entries.put(Entry {
            charge,
            due: Some((self.env.after(self.late), status)),
        })?;
        Ok(Answer::After(self.late))
    }

    pub(super) fn get(&self, key: &str) -> Option<Charge> {
        self.lock()
            .by_key
            .get(key)
            .map(|entry| entry.at(self.env.now()))
    }

    pub(super) fn all(&self) -> Vec<Charge> {
        let now = self.env.now();
        self.lock()
            .by_key
            .values()
            .map(|entry| entry.at(now))
            .collect()
    }

    /// Gives the money back, or makes sure that it will never be taken.
    pub(super) fn void(&self, key: &str) -> Result<Charge> {
        let mut entries = self.lock();
        let mut charge = match entries.by_key.get(key) {
            Some(entry) => entry.at(self.env.now()),
            None => self.never_charged(key),
        };
        charge.status = match charge.status {
            ChargeStatus::Pending => ChargeStatus::Voided,
            ChargeStatus::Succeeded => ChargeStatus::Refunded,
            unchanged => unchanged,
        };
        entries.put(Entry {
            charge: charge.clone(),
            due: None,
        })?;
        Ok(charge)
    }

    /// A charge that was voided before it was asked for: a late request with its key finds it.
    fn never_charged(&self, key: &str) -> Charge {
        let nothing = String::new;
        Charge {
            id: format!("ch_{}", self.env.id().simple()),
            key: key.to_owned(),
            request: ChargeRequest {
                amount: 0,
                currency: nothing(),
                source: nothing(),
                reference: nothing(),
            },
            status: ChargeStatus::Voided,
            reason: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn put(&mut self, entry: Entry) -> Result<()> {
        if let Some(file) = &mut self.file {
            let written = serde_json::to_vec(&entry).map_err(std::io::Error::from);
            let written = written.and_then(|mut line| {
                line.push(b'\n');
                file.write_all(&line)
            });
            written.map_err(|error| {
                Error::unavailable("ledger_unusable", "the ledger can't be written")
                    .with_source(error)
            })?;
        }
        self.by_key.insert(entry.charge.key.clone(), entry);
        Ok(())
    }
}

impl Entry {
    fn at(&self, now: Timestamp) -> Charge {
        let mut charge = self.charge.clone();
        if let Some((due, status)) = self.due
            && due <= now
        {
            charge.status = status;
        }
        charge
    }
}

fn verdict(request: &ChargeRequest) -> (ChargeStatus, Option<String>) {
    let reason = match request.source.as_str() {
        _ if request.amount >= AMOUNT_LIMIT_MINOR => "amount_limit",
        "tok_declined" | "tok_late_declined" => "card_declined",
        "tok_insufficient" => "insufficient_funds",
        _ => return (ChargeStatus::Succeeded, None),
    };
    (ChargeStatus::Declined, Some(reason.to_owned()))
}

fn until(now: Timestamp, due: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or_default()
}

/// Reads a ledger, and says how many of its bytes are whole lines; the last line of a key counts. A
/// torn last line, left by a kill, was never answered.
fn load(path: &Path) -> Result<(BTreeMap<String, Entry>, u64)> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(unusable(path, error)),
    };
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    let lines = bytes
        .get(..whole)
        .unwrap_or_default()
        .split_inclusive(|byte| *byte == b'\n');
    let entries = lines.enumerate().map(|(index, line)| {
        let entry: Entry = serde_json::from_slice(line).map_err(|error| {
            Error::new(
                trunkline::ErrorKind::Corrupt,
                "ledger_corrupt",
                "the ledger can't be read",
            )
            .with("file", path.display())
            .with("line", index + 1)
            .with_source(error)
        })?;
        Ok((entry.charge.key.clone(), entry))
    });
    Ok((entries.collect::<Result<_>>()?, whole as u64))
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::unavailable("ledger_unusable", "the ledger can't be opened")
        .with("file", path.display())
        .with_source(error)
}

#[cfg(test)]
mod tests;
