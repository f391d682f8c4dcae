//! The layer around a circuit breaker.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use trunkline_core::Result;

use super::super::held::{Ending, Held};
use super::super::plan::Plan;
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
    async fn around<N: Next>(&self, request: Request<Body>, next: &N) -> Result<Response<Body>> {
        let permit = self.breaker.permit().inspect_err(|_| {
            self.breaker.observer.tell(Event::Refused);
        })?;
        let mut judge = Judge {
            permit,
            deadline: Plan::of(&request, &self.own).deadline,
            is_over: false,
        };
        let answer = next.call(request).await;
        let outcome = Outcome::of(&answer);
        if let Some(outcome) = outcome {
            judge.permit.record(outcome);
        }
        // There is nothing more to learn from what has failed.
        judge.is_over = outcome.is_some_and(Outcome::is_trouble);
        match answer {
            Ok(response) if !judge.is_over => Ok(response.map(|body| Held::wrap(body, judge))),
            answer => answer,
        }
    }
}

/// Waits for the end of a call.
struct Judge {
    permit: Permit,
    deadline: Option<Instant>,
    is_over: bool,
}

impl Ending for Judge {
    fn data(&mut self, _: &Bytes) {
        // A stream may go on for long; that it began is what a probe asks.
        if self.permit.is_probe && self.permit.is_open {
            self.permit.record(Outcome::Answered);
        }
    }

    fn ended(mut self, trailers: Option<&HeaderMap>) {
        self.is_over = true;
        if self.permit.is_open {
            let outcome = trailers.map_or(Outcome::Failed, Outcome::of_trailers);
            self.permit.record(outcome);
        }
    }

    fn broken(mut self) {
        self.is_over = true;
        self.permit.record(Outcome::Unavailable);
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // Whoever waits further out cut it off: it took too long.
        let is_late = |deadline| Instant::now() >= deadline;
        if !self.is_over && self.deadline.is_some_and(is_late) {
            self.permit.record(Outcome::TimedOut);
        }
    }
}
