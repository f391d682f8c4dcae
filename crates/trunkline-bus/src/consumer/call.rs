//! One call of the handler: bounded in time, its panics caught.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, timeout};
use trunkline_core::{Envelope, Error, ErrorKind};

use super::item::{Key, Meta};
use crate::{Handler, Outcome};

/// A call that ended, with the events it was about.
pub(super) struct Called {
    pub(super) class: usize,
    pub(super) envelopes: Vec<Envelope>,
    pub(super) metas: Vec<Meta>,
    /// The keys of the batch, in order, each with its number of events.
    pub(super) runs: Vec<(Key, usize)>,
    pub(super) ended: Ended,
    pub(super) took: Duration,
}

/// How a call ended.
pub(super) enum Ended {
    /// The handler said of each event how it ended.
    Outcomes(Vec<Outcome>),
    /// It panicked or took too long: nobody knows which event was at fault.
    Broken(Error),
}

impl Ended {
    /// How the one event of the call ended.
    pub(super) fn single(self) -> Outcome {
        match self {
            Self::Outcomes(outcomes) => outcomes.into_iter().next().unwrap_or_else(silent),
            Self::Broken(error) => Outcome::Failed(error),
        }
    }
}

/// What an event's outcome is when the handler did not say.
pub(super) fn silent() -> Outcome {
    Outcome::Failed(Error::internal(
        "the handler did not say how the event ended",
    ))
}

/// Calls the handler.
pub(super) async fn call(
    handler: &dyn Handler,
    batch: &[Envelope],
    attempt: u32,
    limit: Duration,
) -> (Ended, Duration) {
    let began = Instant::now();
    if let [event] = batch
        && let Some(error) = no_event(event)
    {
        let ended = Ended::Outcomes(vec![Outcome::Failed(error)]);
        return (ended, began.elapsed());
    }
    let work = AssertUnwindSafe(async { handler.handle(batch, attempt).await }).catch_unwind();
    let ended = match timeout(limit, work).await {
        Ok(Ok(outcomes)) => Ended::Outcomes(outcomes),
        Ok(Err(panic)) => Ended::Broken(panicked(panic.as_ref())),
        Err(_) => Ended::Broken(
            Error::new(
                ErrorKind::DeadlineExceeded,
                "handler_timeout",
                "the handler took too long",
            )
            .with("limit", format!("{limit:?}")),
        ),
    };
    (ended, began.elapsed())
}

/// Why a message that is no event is not given to a handler, which would take it for somebody else's and
/// so for done.
pub(super) fn no_event(event: &Envelope) -> Option<Error> {
    let message = "the message is no event: discard it, and publish anew what it should have been";
    let is_one = event.event_type != crate::UNREADABLE;
    (!is_one).then(|| {
        Error::new(ErrorKind::InvalidInput, "event_unreadable", message).with("place", &event.id)
    })
}

fn panicked(payload: &(dyn Any + Send)) -> Error {
    let said = payload.downcast_ref::<&str>().copied();
    let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Error::internal("the handler panicked").with("panic", said.unwrap_or("without a message"))
}
