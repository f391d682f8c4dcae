//! One attempt of a step or of a compensation, with its commit.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::timeout;
use trunkline_core::{Error, ErrorKind, Result, Retry};

use crate::Data;
use crate::host::{At, Committed, Host};
use crate::journal::{Body, Which, Written};
use crate::live::{Busy, Halt, Live};
use crate::policy::PROBED;
use crate::probe::Fate;

/// One attempt with its commit. What it gave, as a value and as the journal has it, and the entry's `seq`.
pub(super) async fn once<H, T, F, W>(
    busy: &Busy<H>,
    at: &At,
    within: Duration,
    (began, attempt, done): (Timestamp, &F, impl Fn(Data) -> Body),
) -> Result<(T, u64, Data)>
where
    H: Host,
    T: Serialize + Send + 'static,
    F: Fn(H::Work) -> W + Send + Sync,
    W: Future<Output = Result<T>> + Send,
{
    let live = busy.live();
    live.flush().await;
    if live.parts.stopping.load(Ordering::Acquire) {
        return live.halted(Halt::Stop).await;
    }
    let fate = match &live.parts.probe {
        Some(probe) => probe.attempt(at),
        None => Fate::GoesOn,
    };
    if fate == Fate::Fails {
        return Err(Error::conflict(PROBED, "a test lets this attempt fail"));
    }
    if fate == Fate::Twice {
        let (work, first) = guarded(live, at, within, attempt).await;
        match first {
            Ok(_) => drop(live.parts.host.commit(&work, live.nothing()).await),
            Err(error) => live.parts.host.abandon(&work, &error).await,
        }
    }
    let (work, outcome) = guarded(live, at, within, attempt).await;
    let outcome = outcome.and_then(|value| {
        Data::of(&value)
            .map(|output| (value, output))
            .map_err(unsure)
    });
    let (value, output) = match outcome {
        Ok(made) => made,
        Err(error) => {
            live.parts.host.abandon(&work, &error).await;
            return Err(error);
        }
    };
    if fate == Fate::Dies {
        let error = Error::conflict(PROBED, "a test lets the process die");
        live.parts.host.abandon(&work, &error).await;
        return live.halted(Halt::Reload).await;
    }
    if fate == Fate::FailsUnknown {
        live.commit_unseen(at, &work, (began, done(output))).await;
        let error = Error::conflict(PROBED, "a test hides what came of this attempt");
        return Err(unsure(error));
    }
    match live.commit(at, &work, began, done(output.clone())).await {
        Ok(seq) => Ok((value, seq, output)),
        Err(error) => {
            live.parts.host.abandon(&work, &error).await;
            Err(error)
        }
    }
}

fn unsure(error: Error) -> Error {
    error.with_retry(Retry::Unknown)
}

/// Runs an attempt within its time; a panic is an error of it.
async fn guarded<H, T, F, W>(
    live: &Live<H>,
    at: &At,
    within: Duration,
    attempt: &F,
) -> (H::Work, Result<T>)
where
    H: Host,
    F: Fn(H::Work) -> W,
    W: Future<Output = Result<T>> + Send,
{
    let work = live.parts.host.begin(at);
    let made = AssertUnwindSafe(async { attempt(work.clone()).await }).catch_unwind();
    let outcome = match timeout(within, made).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(panicked(&*panic).with("step", &at.name)),
        Err(_) => Err(Error::new(
            ErrorKind::DeadlineExceeded,
            "saga_step_too_long",
            "an attempt of a step took longer than it may",
        )
        .with("step", &at.name)
        .with("within_s", within.as_secs_f64())),
    };
    (work, outcome)
}

/// What a panic says, as an error of which nobody knows what came.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Error::new(ErrorKind::Internal, "saga_panicked", "the code panicked").with("panic", text)
}

impl<H: Host> Live<H> {
    /// Commits what an attempt did, with its entry.
    async fn commit(&self, at: &At, work: &H::Work, began: Timestamp, body: Body) -> Result<u64> {
        let _order = self.in_order().await;
        let seq = self.note(&at.place, &at.name, began, body);
        let went = self.take_pending();
        let kept = went.clone();
        match self.parts.host.commit(work, went).await {
            Ok(Committed::Apart(went)) => self.give_back(went),
            Ok(Committed::Together(Written::Done)) => {
                self.parts.committed();
                self.probed(&kept).await;
            }
            Ok(Committed::Together(_)) => self.halted(Halt::Reload).await,
            // An entry that is there was written with all that was done: nothing failed.
            Err(error) if error.retry() == Retry::Unknown && self.may_have(seq).await => {
                self.halted(Halt::Reload).await
            }
            Err(error) => {
                let mut kept = kept;
                kept.entries.retain(|entry| entry.seq != seq);
                self.give_back(kept);
                return Err(error);
            }
        }
        Ok(seq)
    }

    /// Whether the journal has this entry, or nobody knows.
    async fn may_have(&self, seq: u64) -> bool {
        match self.parts.journal.load(&Which::Id(self.instance.id)).await {
            Ok(Some(record)) => record.entries.iter().any(|entry| entry.seq == seq),
            Ok(None) | Err(_) => true,
        }
    }

    /// For a test: the process dies with what an attempt did, before it knows of it. Where that commits with its entry, the
    /// instance goes on from there; where it does not, nobody knows what came of it.
    async fn commit_unseen(&self, at: &At, work: &H::Work, (began, body): (Timestamp, Body)) {
        let seq = self.note(&at.place, &at.name, began, body);
        let went = self.take_pending();
        match self.parts.host.commit(work, went).await {
            Ok(Committed::Apart(mut went)) => {
                went.entries.retain(|entry| entry.seq != seq);
                self.give_back(went);
            }
            Ok(Committed::Together(_)) | Err(_) => self.halted(Halt::Reload).await,
        }
    }
}
