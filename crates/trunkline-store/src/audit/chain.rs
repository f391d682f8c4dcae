//! How entries vouch for each other, and what it looks like when they don't.

use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::any::AnyRow;
use trunkline_core::Result;
use trunkline_security::{AuditEntry, Secret};

use super::{AuditLog, AuditRecord};
use crate::error::sql_error;
use crate::migrate::hex;

/// What the first entry follows.
const FIRST: &str = "0";

/// Entries that are read at once.
const PAGE: i64 = 500;

/// A place in the log: an entry's position, and the hash that vouches for it and all before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    /// The entry's position; zero for a log that is empty.
    pub position: u64,
    /// Its hash.
    pub hash: String,
}

/// What a look at the whole log came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditCheck {
    /// How many entries are as they were written.
    pub entries: u64,
    /// The last of them.
    pub head: AuditHead,
    /// The first place where the log is not what was written.
    pub broken: Option<AuditBreak>,
}

/// A place where the log is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditBreak {
    /// The position that is not as it should be.
    pub position: u64,
    /// What is wrong there.
    pub what: &'static str,
}

/// Makes the hashes.
#[derive(Clone)]
pub(super) struct Chain(Option<Secret>);

impl AuditHead {
    pub(super) fn first() -> Self {
        Self {
            position: 0,
            hash: FIRST.to_owned(),
        }
    }

    pub(super) fn column(&self) -> i64 {
        i64::try_from(self.position).unwrap_or(i64::MAX)
    }
}

impl Chain {
    pub(super) fn new(secret: Option<Secret>) -> Self {
        Self(secret)
    }

    pub(super) fn is_keyed(&self) -> bool {
        self.0.is_some()
    }

    /// The place of an entry that follows `head`.
    pub(super) fn next(&self, head: &AuditHead, entry: &AuditEntry) -> AuditHead {
        let position = head.position.saturating_add(1);
        let text = json!([
            "entry",
            head.hash,
            position,
            &*entry.id,
            entry.at.as_microsecond(),
            entry.actor,
            entry.action,
            entry.object,
            entry.outcome.name(),
            entry.reason,
            entry.correlation_id.as_deref(),
        ]);
        let hash = self.hash(&text.to_string());
        AuditHead { position, hash }
    }

    /// What shows that a place was written down by us.
    pub(super) fn seal(&self, head: &AuditHead) -> String {
        self.hash(&json!(["anchor", head.position, head.hash]).to_string())
    }

    fn hash(&self, text: &str) -> String {
        match &self.0 {
            Some(secret) => hex(&secret.mac(text.as_bytes())),
            None => hex(&Sha256::digest(text)),
        }
    }
}

pub(super) fn head(row: &AnyRow) -> Result<AuditHead> {
    let position: i64 = row.try_get(0).map_err(sql_error)?;
    Ok(AuditHead {
        position: u64::try_from(position).unwrap_or(0),
        hash: row.try_get(1).map_err(sql_error)?,
    })
}

impl AuditLog {
    /// Looks at every entry: whether each is what was written, where it was written. With the `known` head of an
    /// earlier time also whether what was there then is there still.
    ///
    /// # Errors
    /// As [`crate::Store::read`]. What is wrong with the log is no error, but the answer.
    pub async fn verify(&self, known: Option<&AuditHead>) -> Result<AuditCheck> {
        let mut reader = self.store.read().await?;
        let (anchor, ours) = self.anchor(reader.conn()).await?;
        drop(reader);
        let mut check = AuditCheck {
            entries: 0,
            head: anchor,
            broken: None,
        };
        if !ours {
            check.breaks(
                check.head.position,
                "what the oldest entry follows was changed",
            );
        }
        let mut known_seen = known.is_none_or(|known| known.position <= check.head.position);
        while check.broken.is_none() {
            let page = self.page(check.head.column()).await?;
            let last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            for record in page {
                self.look(&mut check, &record);
                if check.broken.is_some() {
                    break;
                }
                if let Some(known) = known
                    && known.position == check.head.position
                {
                    known_seen = true;
                    if known.hash != check.head.hash {
                        check.breaks(
                            known.position,
                            "it is another entry than the one that was known",
                        );
                    }
                }
            }
            if last {
                break;
            }
        }
        if check.broken.is_none() && !known_seen {
            let position = check.head.position.saturating_add(1);
            check.breaks(position, "the entries from here on are gone");
        }
        Ok(check)
    }

    fn look(&self, check: &mut AuditCheck, record: &Looked) {
        let expected = check.head.position.saturating_add(1);
        let Some(entry) = &record.entry else {
            return check.breaks(record.position, "it can't be read as an entry");
        };
        if record.position != expected {
            return check.breaks(expected, "it is gone");
        }
        let next = self.chain.next(&check.head, entry);
        if next.hash != record.hash {
            return check.breaks(expected, "it is not what was written there");
        }
        check.head = next;
        check.entries += 1;
    }

    async fn page(&self, after: i64) -> Result<Vec<Looked>> {
        let mut reader = self.store.read().await?;
        let sql = "SELECT position, hash, entry_id, happened_at, actor, action, object, outcome, reason, \
                   correlation_id FROM trunkline_audit WHERE position > $1 ORDER BY position LIMIT $2";
        let rows = sqlx::query(sql)
            .bind(after)
            .bind(PAGE)
            .fetch_all(reader.conn())
            .await
            .map_err(sql_error)?;
        rows.iter()
            .map(|row| {
                let head = head(row)?;
                Ok(Looked {
                    position: head.position,
                    hash: head.hash,
                    entry: AuditRecord::read(row).ok().map(|record| record.entry),
                })
            })
            .collect()
    }
}

/// A row that is looked at.
struct Looked {
    position: u64,
    hash: String,
    entry: Option<AuditEntry>,
}

impl AuditCheck {
    fn breaks(&mut self, position: u64, what: &'static str) {
        self.broken = Some(AuditBreak { position, what });
    }
}
