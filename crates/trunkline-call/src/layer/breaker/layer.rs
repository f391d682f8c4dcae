//! The layer around a circuit breaker.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{Either, ready};
use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use trunkline_core::Result;

use super::super::held::{Ending, Held};
use super::super::plan::{Plan, Times};
use super::super::{Around, Event, Next, Outcome, tower_layer};
use super::{Breaker, Permit};
use crate::Body;
use crate::policy::Policy;

/// Refuses calls while its [`Breaker`] is open, and tells it how those end that are let through.
///
/// # Guarantees
/// gRPC is judged by its trailers. A call that is cut off by its deadline has failed, in its body too; one that its
/// caller gives up says nothing.
///
/// # Errors
/// `Unavailable` (`circuit_open`).
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    breaker: Arc<Breaker>,
    own: Policy,
}

impl CircuitBreaker {
    /// The layer around a breaker, which others may share.
    pub fn new(breaker: Arc<Breaker>) -> Self {
        let own = Policy::default();
        Self { breaker, own }
    }

    /// Its breaker.
    pub fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }
}

tower_layer!(CircuitBreaker);

impl Around for CircuitBreaker {
    fn around<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        let permit = match self.breaker.permit() {
            Ok(permit) => permit,
            Err(error) => {
                self.breaker.observer.tell(Event::Refused);
                return Either::Left(ready(Err(error)));
            }
        };
        let times = Plan::of(&request, &self.own).times;
        let mut judge = Judge::new(permit, times);
        Either::Right(next.call(request).map(move |answer| {
            judge.answered(Outcome::of(&answer));
            match answer {
                Ok(response) if !judge.is_over => Ok(Held::keep(response, judge)),
                answer => answer,
            }
        }))
    }
}

/// Waits for the end of a call, and says to the breaker how it ended.
#[derive(Debug)]
pub(crate) struct Judge {
    permit: Permit,
    times: Times,
    is_over: bool,
}

impl Judge {
    pub(crate) fn new(permit: Permit, times: Times) -> Self {
        Self {
            permit,
            times,
            is_over: false,
        }
    }

    /// An answer came, or an error. Its body may be still to come.
    pub(crate) fn answered(&mut self, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.permit.record(outcome);
        }
        self.times.begins_by = self.times.ends_by;
        // There is nothing more to learn from what has failed.
        self.is_over = outcome.is_some_and(Outcome::is_trouble);
    }
}

impl Ending for Judge {
    fn data(&mut self, _: &Bytes) {
        // A stream may go on for long; that it began is what a probe asks.
        if self.permit.is_probe && self.permit.is_open {
            self.permit.record(Outcome::Answered);
        }
    }

    fn ended(mut self, trailers: Option<&HeaderMap>) {
        let was_over = std::mem::replace(&mut self.is_over, true);
        if !was_over && self.permit.is_open {
            let outcome = trailers.map_or(Outcome::Failed, Outcome::of_trailers);
            self.permit.record(outcome);
        }
    }

    fn broken(mut self) {
        let was_over = std::mem::replace(&mut self.is_over, true);
        if !was_over {
            self.permit.record(Outcome::Unavailable);
        }
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // Whoever waits further out cut it off: it took too long.
        let is_late = |deadline| Instant::now() >= deadline;
        if !self.is_over && self.times.begins_by.is_some_and(is_late) {
            self.permit.record(Outcome::TimedOut);
        }
    }
}
