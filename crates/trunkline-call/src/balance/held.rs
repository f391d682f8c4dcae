//! A call at its instance: counted while it lasts, and how it ended.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::time::Instant;

use super::{Member, Pool};
use crate::Body;
use crate::layer::breaker::Judge;
use crate::layer::held::{Ending, Held as Kept};
use crate::layer::plan::Times;
use crate::layer::{Outcome, Permit};

/// A call that an instance has. It counts as in flight until this is dropped.
///
/// # Guarantees
/// Dropped before it was said how it ended, it counts as a failure when its deadline has passed, and else only as
/// slow as it was.
pub struct Held {
    pool: Arc<Pool>,
    member: Arc<Member>,
    began: u64,
    deadline: Option<Instant>,
    is_told: bool,
    judge: Option<Judge>,
}

impl Held {
    pub(super) fn new(pool: Arc<Pool>, member: Arc<Member>, began: u64) -> Self {
        pool.in_flight.fetch_add(1, Relaxed);
        member.in_flight.fetch_add(1, Relaxed);
        Self {
            pool,
            member,
            began,
            deadline: None,
            is_told: false,
            judge: None,
        }
    }

    /// The same with a deadline: who lets it pass has failed.
    #[must_use]
    pub fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same, whose end is said to the instance's breaker too.
    pub(crate) fn judged(mut self, permit: Permit, times: Times) -> Self {
        self.deadline = times.begins_by;
        self.judge = Some(Judge::new(permit, times));
        self
    }

    /// The instance.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Says how the call went, once: an answer came, or it failed.
    pub fn tell(&mut self, failed: bool) {
        if self.is_told {
            return;
        }
        self.is_told = true;
        let (now, took) = self.took();
        if failed {
            self.member.load.failed(now, took);
        } else {
            self.member.load.answered(now, took);
        }
    }

    /// Says how the call went as far as is known by an answer's head, or by an error.
    pub(crate) fn told_by(&mut self, outcome: Option<Outcome>) {
        self.tell(outcome.is_some_and(Outcome::is_failure));
        if let Some(judge) = &mut self.judge {
            judge.answered(outcome);
        }
    }

    fn took(&self) -> (u64, f64) {
        let now = self.pool.now();
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a call")]
        let took = now.saturating_sub(self.began) as f64;
        (now, took)
    }

    /// Takes a response's head in, and holds on until its body ended or is dropped.
    pub(crate) fn answered(mut self, response: Response<Body>) -> Response<Body> {
        self.told_by(Outcome::of_response(&response));
        Kept::keep(response, self)
    }
}

impl Ending for Held {
    fn data(&mut self, data: &Bytes) {
        if let Some(judge) = &mut self.judge {
            judge.data(data);
        }
    }

    fn ended(mut self, trailers: Option<&HeaderMap>) {
        if let Some(judge) = self.judge.take() {
            judge.ended(trailers);
        }
    }

    fn broken(mut self) {
        if let Some(judge) = self.judge.take() {
            judge.broken();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_told {
            if self
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now())
            {
                self.tell(true);
            } else {
                let (now, took) = self.took();
                // It would have taken longer still.
                if took > self.member.load.nanos(now) {
                    self.member.load.answered(now, took);
                }
            }
        }
        self.member.in_flight.fetch_sub(1, Relaxed);
        self.pool.in_flight.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.member).finish()
    }
}
