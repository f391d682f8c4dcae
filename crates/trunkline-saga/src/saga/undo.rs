//! Compensation: what was done is taken back, the last first.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures::future::BoxFuture;
use trunkline_core::{Error, ErrorKind, Result};
use uuid::Uuid;

use super::attempt::once;
use crate::Data;
use crate::host::{At, Host};
use crate::journal::{Body, Entry, Fault};
use crate::live::{Halt, Live};
use crate::policy::{ATTEMPT_WITHIN, Retries, UNDO};

/// Something to be undone.
pub(crate) struct Undo<H: Host> {
    pub(crate) place: ByteString,
    pub(crate) name: ByteString,
    /// When it was done, among all that was.
    pub(crate) seq: u64,
    pub(crate) how: How<H>,
}

pub(crate) enum How<H: Host> {
    Step(UndoStep<H>),
    Child(Uuid),
}

pub(crate) struct UndoStep<H: Host> {
    pub(crate) make: Make<H>,
    pub(crate) output: Option<Data>,
    pub(crate) retries: Retries,
    pub(crate) within: Duration,
}

impl<H: Host> Undo<H> {
    /// What is done when all else is undone.
    pub(crate) fn last(make: Make<H>) -> Self {
        Self {
            place: ByteString::from_static("$failed"),
            name: ByteString::from_static("failed"),
            seq: 0,
            how: How::Step(UndoStep {
                make,
                output: None,
                retries: UNDO,
                within: ATTEMPT_WITHIN,
            }),
        }
    }
}

/// Makes an attempt of a compensation from what the step gave.
pub(crate) type Make<H> = Arc<
    dyn Fn(<H as Host>::Work, Option<&Data>) -> Result<BoxFuture<'static, Result<()>>>
        + Send
        + Sync,
>;

/// Undoes all of these, in their order.
pub(crate) async fn undo_all<H: Host>(live: &Arc<Live<H>>, undos: Vec<Undo<H>>) {
    for undo in undos {
        let entries = live.entries(&undo.place);
        if entries
            .iter()
            .any(|entry| matches!(entry.body, Body::Undone { .. }))
        {
            continue;
        }
        match &undo.how {
            How::Step(step) => step.undo(live, &undo, &entries).await,
            How::Child(id) => super::child::undo(live, &undo, *id).await,
        }
    }
}

impl<H: Host> UndoStep<H> {
    async fn undo(&self, live: &Arc<Live<H>>, of: &Undo<H>, entries: &[Entry]) {
        let (mut tried, mut next) = (0, None);
        for entry in entries {
            if let Body::UndoTried {
                attempt, next: at, ..
            } = &entry.body
            {
                (tried, next) = (*attempt, Some(*at));
            }
        }
        let began = live.env().now();
        loop {
            if let Some(at) = next.take() {
                live.rest(Some(at), |_| None::<()>).await;
            }
            let busy = live.busy();
            let attempt = tried + 1;
            let at = At {
                instance: live.instance.clone(),
                place: of.place.clone(),
                name: of.name.clone(),
                attempt,
                undo: true,
            };
            let make = |work| {
                let made = (self.make)(work, self.output.as_ref());
                async move { made?.await }
            };
            let done = |_| Body::Undone { attempt, by: None };
            let outcome: Result<((), _, _)> =
                once(&busy, &at, self.within, (began, &make, done)).await;
            let Err(error) = outcome else { return };
            let pause = self.retries.pause(attempt, &error, live.env());
            let at = live.env().after(pause.unwrap_or_default());
            let body = Body::UndoTried {
                attempt,
                error: Fault::of(&error),
                next: at,
            };
            live.note(&of.place, &of.name, began, body);
            if pause.is_none() {
                let error = gave_up(of, attempt, error);
                return live.halted(Halt::Park(Fault::of(&error))).await;
            }
            (tried, next) = (attempt, Some(at));
        }
    }
}

fn gave_up<H: Host>(of: &Undo<H>, attempts: u32, error: Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        "saga_compensation_failed",
        "a compensation gave up: what its step did is not undone",
    )
    .with("step", &of.name)
    .with("attempts", attempts)
    .with_source(error)
}
