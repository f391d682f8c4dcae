//! What a person does by hand.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytestring::ByteString;
use serde::Serialize;
use trunkline_core::{Error, Result};

use super::{Engine, Parts, refused};
use crate::Data;
use crate::drive::fits;
use crate::host::Host;
use crate::journal::{Body, Entry, Fault, Mend, Message, Record, State, Which, Write, Written};
use crate::live::{CANCEL, Live, WHOLE};

impl<H: Host> Engine<H> {
    /// Sends a signal, which [`crate::Saga::signal`] waits for. The same id counts once.
    ///
    /// # Errors
    /// As [`Engine::tell`].
    pub async fn signal(
        &self,
        which: Which,
        id: impl Into<ByteString>,
        (name, data): (impl Into<ByteString>, &impl Serialize),
    ) -> Result<()> {
        let message = Message {
            id: id.into(),
            name: name.into(),
            data: Data::of(data)?,
            at: self.0.env.now(),
        };
        self.tell(which, message).await
    }

    /// Cancels an instance: the operation that it is at fails with the code `saga_cancelled`, as all after it, and what was
    /// done is undone. An attempt on its way is awaited. One that is parked goes on with that.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when it has ended.
    pub async fn cancel(&self, which: &Which, why: &str) -> Result<()> {
        let message = Message {
            id: format!("cancel:{}", self.0.env.id()).into(),
            name: ByteString::from_static(CANCEL),
            data: Data::of(why)?,
            at: self.0.env.now(),
        };
        self.tell(which.clone(), message).await?;
        let parked = self.0.look(which).await?.state == State::Parked;
        if parked {
            self.0
                .resume(which, [State::Parked], (None, Vec::new()))
                .await?;
        }
        Ok(())
    }

    /// Lets an instance go on that is parked, or tries the last step again of one that failed and had nothing to undo.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for one that runs, has completed, or was compensated: what was undone is not done a second
    /// time under the same keys; start it again under another key.
    pub async fn retry(&self, which: &Which) -> Result<()> {
        let record = self.0.load(which).await?;
        let cut = match record.instance.state {
            State::Failed => record.entries.iter().rev().find_map(|entry| {
                matches!(entry.body, Body::Failed { .. } | Body::Cancelled { .. })
                    .then_some(entry.seq)
            }),
            _ => None,
        };
        if record.instance.state == State::Failed && cut.is_none() {
            return Err(Error::conflict(
                "saga_failed_by_itself",
                "no step of the instance failed but its function: start it again under another key",
            ));
        }
        let from = [State::Parked, State::Failed];
        self.0.resume(which, from, (cut, Vec::new())).await
    }

    /// Lets an instance go on from a step, as if that and all after it had not been: they are made again, with the same
    /// idempotency keys.
    ///
    /// # Errors
    /// `NotFound` for a step that the journal does not have; `Conflict` when it runs, or when something was undone.
    pub async fn retry_from(&self, which: &Which, step: &str) -> Result<()> {
        let record = self.0.load(which).await?;
        let undone = |entry: &Entry| matches!(entry.body, Body::Undone { .. });
        if record.entries.iter().any(undone) {
            return Err(Error::conflict(
                "saga_undone",
                "something of the instance is undone already: start it again under another key",
            ));
        }
        let cut = at_step(&record, step)?.seq;
        let from = [State::Parked, State::Failed, State::Waiting];
        self.0.resume(which, from, (Some(cut), Vec::new())).await
    }

    /// Says by hand what a step gave, or that its compensation is done, so that the instance goes on without it.
    ///
    /// # Errors
    /// `NotFound` for a step that the journal does not have; `Conflict` when the instance runs or the step has succeeded.
    pub async fn skip(&self, which: &Which, step: &str, (output, by): (Data, &str)) -> Result<()> {
        let record = self.0.load(which).await?;
        let at = at_step(&record, step)?.clone();
        let of_step: Vec<&Entry> = record
            .entries
            .iter()
            .filter(|e| e.place == at.place)
            .collect();
        let has = |what: fn(&Body) -> bool| of_step.iter().any(|entry| what(&entry.body));
        let undoing = has(|body| matches!(body, Body::UndoTried { .. }));
        let by = Some(by.into());
        let (cut, body) = if undoing {
            (None, Body::Undone { attempt: 0, by })
        } else if has(|body| matches!(body, Body::Done { .. })) {
            return Err(
                Error::conflict("saga_step_done", "the step has succeeded").with("step", step)
            );
        } else {
            let ended = |entry: &&&Entry| {
                matches!(entry.body, Body::Failed { .. } | Body::Cancelled { .. })
            };
            let cut = of_step.iter().find(ended).map(|entry| entry.seq);
            let input = None;
            let attempt = 0;
            (
                cut,
                Body::Done {
                    input,
                    output,
                    attempt,
                    by,
                },
            )
        };
        let now = self.0.env.now();
        let last = record.entries.last().map_or(0, |entry| entry.seq + 1);
        let entry = Entry {
            seq: cut.unwrap_or(last),
            place: at.place,
            name: at.name,
            began: now,
            at: now,
            body,
        };
        let from = [
            State::Parked,
            State::Failed,
            State::Waiting,
            State::Compensating,
        ];
        self.0.resume(which, from, (cut, vec![entry])).await
    }

    /// Moves an instance to another version of the code, if that fits all that it has done: its function is run against the
    /// journal first, up to the first operation that has not ended, and nothing is done.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported` for a version that is not here; `Conflict` when the code does not fit, saying where, and when
    /// the instance runs.
    pub async fn migrate(&self, which: &Which, version: u32) -> Result<()> {
        let mut record = self.0.load(which).await?;
        record.instance.version = version;
        let live = Arc::new(Live::new(self.0.clone(), record, true));
        if let Some(fault) = fits(&live).await {
            return Err(fault.error());
        }
        let mend = Mend {
            which: which.clone(),
            from: BTreeSet::from([State::Parked, State::Waiting]),
            cut_from: None,
            entries: Vec::new(),
            version: Some(version),
            to: State::Running,
        };
        refused(self.0.apply(mend).await?)
    }

    /// Has an instance undone that was completed.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for one that has not completed.
    pub async fn revoke(&self, which: &Which, why: &str) -> Result<()> {
        let id = format!("revoke:{}", self.0.env.id());
        refused(self.0.revoke(which.clone(), &id, why).await?)
    }
}

impl<H: Host> Parts<H> {
    /// The same revocation, by its id, changes nothing the second time.
    pub(crate) async fn revoke(&self, which: Which, id: &str, why: &str) -> Result<Written> {
        let record = self.load(&which).await?;
        let is_this = |entry: &Entry| matches!(&entry.body, Body::Cancelled { message, .. } if *message == id);
        if record.entries.iter().any(is_this) {
            return Ok(Written::Done);
        }
        let error =
            Error::conflict("saga_revoked", "the saga was undone after its end").with("why", why);
        let now = self.env.now();
        let entry = Entry {
            seq: record.entries.last().map_or(0, |entry| entry.seq + 1),
            place: ByteString::from_static(WHOLE),
            name: ByteString::from_static("revoked"),
            began: now,
            at: now,
            body: Body::Cancelled {
                message: id.into(),
                error: Fault::of(&error),
            },
        };
        self.mend(which, [State::Completed], (None, vec![entry]))
            .await
    }

    async fn resume(
        &self,
        which: &Which,
        from: impl IntoIterator<Item = State>,
        change: (Option<u64>, Vec<Entry>),
    ) -> Result<()> {
        refused(self.mend(which.clone(), from, change).await?)
    }

    async fn mend(
        &self,
        which: Which,
        from: impl IntoIterator<Item = State>,
        (cut_from, entries): (Option<u64>, Vec<Entry>),
    ) -> Result<Written> {
        let mend = Mend {
            which,
            from: BTreeSet::from_iter(from),
            cut_from,
            entries,
            version: None,
            to: State::Running,
        };
        self.apply(mend).await
    }

    async fn apply(&self, mend: Mend) -> Result<Written> {
        let written = self.write(Write::Mend(mend)).await?;
        self.due.notify_one();
        Ok(written)
    }
}

/// The first entry of a step, by its name or its place.
fn at_step<'a>(record: &'a Record, step: &str) -> Result<&'a Entry> {
    let found = record
        .entries
        .iter()
        .find(|entry| entry.name == step || entry.place == step);
    found.ok_or_else(|| {
        let mut has: Vec<&str> = record.entries.iter().map(|entry| &*entry.name).collect();
        has.dedup();
        Error::not_found("saga_step_unknown", "the instance has no such step")
            .with("step", step)
            .with("has", has.join(", "))
    })
}
