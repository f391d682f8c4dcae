//! Dry runs: how dead letters would end, tried and undone.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use trunkline_core::{Envelope, Error, ErrorKind, report};
use trunkline_telemetry::Scope;

use super::call::{no_event, silent};
use super::replay::Replay;
use super::{Inner, ReplayOutcome};
use crate::{DeadLetter, Outcome};

/// The code of what a handler says when it would have to do something that can't be undone.
const UNTRIED: &str = "call_in_rehearsal";

impl Replay<'_> {
    /// Tells of a page of a key's letters how they would end; false where the key would stay parked. Only the first page
    /// is tried: what the next would find is what the first did, and that is undone.
    pub(super) async fn rehearse(&mut self, letters: &[DeadLetter], is_first: bool) -> bool {
        let replays_max = self.inner.config.replays_max;
        let force = self.request.force;
        let events: Vec<_> = letters
            .iter()
            .take_while(|letter| force || letter.replays < replays_max)
            .map(|letter| letter.envelope.clone())
            .collect();
        let mut tried = match is_first {
            true => rehearsed(self.inner, &events).await.map(Vec::into_iter),
            false => None,
        };
        let mut passes = true;
        for letter in letters {
            if passes && self.refuses(letter) {
                passes = false;
            } else if passes {
                let outcome = tried
                    .as_mut()
                    .map(|outcomes| outcomes.next().unwrap_or_else(silent));
                if let Some(Outcome::Failed(error)) = &outcome
                    && error.code() == UNTRIED
                {
                    tried = None;
                }
                passes = self.tell(letter, outcome);
            } else {
                self.note(letter, ReplayOutcome::WouldWait, None);
            }
        }
        passes
    }

    /// Whether the loop guard holds a letter back.
    pub(super) fn refuses(&mut self, letter: &DeadLetter) -> bool {
        let refuses = letter.replays >= self.inner.config.replays_max && !self.request.force;
        if refuses {
            self.report.refused += 1;
            let why = format!("replayed {} times in vain", letter.replays);
            self.note(letter, ReplayOutcome::Refused, Some(why));
        }
        refuses
    }

    /// False if the key would stay parked.
    fn tell(&mut self, letter: &DeadLetter, outcome: Option<Outcome>) -> bool {
        let (told, why) = match outcome {
            None => (ReplayOutcome::WouldRun, None),
            Some(Outcome::Done) => (ReplayOutcome::WouldPass, None),
            Some(Outcome::Blocked) => (ReplayOutcome::WouldWait, None),
            Some(Outcome::Failed(error)) => {
                let told = if error.code() == UNTRIED {
                    ReplayOutcome::WouldRun
                } else {
                    ReplayOutcome::WouldFail
                };
                (told, Some(report(&error).to_string()))
            }
        };
        self.note(letter, told, why);
        match told {
            ReplayOutcome::WouldFail => self.report.failed += 1,
            ReplayOutcome::WouldWait => {}
            _ => {
                self.report.replayed += 1;
                return true;
            }
        }
        false
    }
}

/// Tries events without effect, bounded as any call of the handler is.
async fn rehearsed(inner: &Inner, events: &[Envelope]) -> Option<Vec<Outcome>> {
    let first = events.first()?;
    if let Some(error) = no_event(first) {
        return Some(vec![Outcome::Failed(error)]);
    }
    let scope = Scope {
        service: inner.config.service.clone(),
        correlation_id: first.correlation_id.clone(),
        trace_id: first.trace.map_or(0, |trace| trace.trace_id),
    };
    let work = async { inner.ports.handler.rehearse(events).await };
    let work = AssertUnwindSafe(scope.run(work)).catch_unwind();
    let broken = match tokio::time::timeout(inner.config.handler_timeout, work).await {
        Ok(Ok(outcomes)) => return outcomes,
        Ok(Err(_)) => Error::internal("the handler panicked"),
        Err(_) => Error::new(
            ErrorKind::DeadlineExceeded,
            "handler_timeout",
            "the handler took too long",
        ),
    };
    let mut outcomes = vec![Outcome::Failed(broken)];
    outcomes.resize_with(events.len(), || Outcome::Blocked);
    Some(outcomes)
}
