//! A time for each attempt.

use std::time::Duration;

use futures::future::Either;
use http::{Request, Response};
use tokio::time::Instant;
use trunkline_core::{Error, ErrorKind, Result};

use super::plan::Plan;
use super::{Around, Next, tower_layer};
use crate::Body;
use crate::guard::until;
use crate::policy::Policy;

/// Gives an attempt up whose answer does not begin within the policy's `attempt_timeout`, so that the time of the call
/// is enough for another. Further out, it is tried again where that is safe.
///
/// # Guarantees
/// It never waits longer than the call. The target is told of the call's time alone, and that nobody waits any more by
/// the end of the request, as of every call that is given up.
///
/// # Errors
/// `DeadlineExceeded` (`attempt_timeout`, `Unknown`: the effect may have happened).
#[derive(Debug, Clone)]
pub struct Attempt {
    own: Policy,
}

impl Attempt {
    /// Bounds attempts by `policy` where a call brings none of its own.
    pub fn new(policy: Policy) -> Self {
        Self { own: policy }
    }

    async fn bounded<N: Next>(
        &self,
        mut request: Request<Body>,
        (mut plan, limit): (Plan, Duration),
        next: &N,
    ) -> Result<Response<Body>> {
        // One that can't be added to a time is longer than any call.
        let ends = Instant::now().checked_add(limit);
        let is_sooner = |ends: &Instant| plan.times.ends_by.is_none_or(|whole| *ends < whole);
        let Some(ends) = ends.filter(is_sooner) else {
            return next.call(request).await;
        };
        plan.times.begins_by = Some(ends);
        plan.put_back(&mut request);
        let answer = until(ends, next.call(request)).await;
        answer.unwrap_or_else(|| {
            let text = "the time for one attempt of this call is up";
            let kind = ErrorKind::DeadlineExceeded;
            Err(Error::new(kind, "attempt_timeout", text))
        })
    }
}

tower_layer!(Attempt);

impl Around for Attempt {
    fn around<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        let plan = Plan::of(&request, &self.own);
        match plan.policy.attempt_timeout {
            None => Either::Left(next.call(request)),
            // In a box of its own, so that calls without one have no room for it.
            Some(limit) => Either::Right(Box::pin(self.bounded(request, (plan, limit), next))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trunkline_core::{Env, Retry as Class};

    use super::super::testing::{Script, after, get, ok};
    use super::super::{Breaker, BreakerState, Budget, CircuitBreaker, Deadline, Over, Retry};
    use super::*;
    use crate::policy::{BreakerPolicy, BudgetPolicy};

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> Policy {
        Policy {
            attempt_timeout: Some(SECOND),
            retry_initial: Duration::from_millis(1),
            ..Policy::default()
        }
    }

    struct By<'a>(&'a Script);

    impl Next for By<'_> {
        async fn call(&self, request: Request<Body>) -> Result<Response<Body>> {
            self.0.call(request).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_hangs_is_asked_again_within_its_time_and_counts_as_late() {
        let script = Script::new([after(SECOND * 3, ok()), after(SECOND / 2, ok())]);
        let judged = BreakerPolicy {
            failures_max: 1,
            ..BreakerPolicy::default()
        };
        // Open after the first: so it takes another breaker to see the second attempt.
        let breaker = Arc::new(Breaker::new(judged));
        let (attempt, circuit) = (Attempt::new(policy()), CircuitBreaker::new(breaker.clone()));
        let error = Over(&attempt, Over(&circuit, By(&script)))
            .call(get("/"))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.retry()),
            ("attempt_timeout", Class::Unknown)
        );
        assert_eq!(breaker.state(), BreakerState::Open, "it was too late");

        let script = Script::new([after(SECOND * 3, ok()), after(SECOND / 2, ok())]);
        let budget = Arc::new(Budget::new(BudgetPolicy::default()));
        let retry = Retry::new(policy(), budget, Env::seeded(1));
        let began = Instant::now();
        let stack = Over(&retry, Over(&attempt, By(&script)));
        let answer = stack.call(get("/")).await.unwrap();
        assert_eq!((answer.status().as_u16(), script.calls()), (200, 2));
        assert!(began.elapsed() < SECOND * 3 / 2 + Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_never_longer_than_the_call_and_says_nothing_of_a_body() {
        let attempt = Attempt::new(policy());
        let deadline = Deadline::new(SECOND / 2);
        let script = Script::hanging();
        let error = deadline
            .around(get("/"), &Over(&attempt, By(&script)))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "deadline_exceeded");

        // An answer that has begun may take its time, and whoever drops it then was not too late.
        let breaker = Arc::new(Breaker::new(BreakerPolicy {
            failures_max: 1,
            ..BreakerPolicy::default()
        }));
        let circuit = CircuitBreaker::new(breaker.clone());
        let script = Script::new([ok()]);
        let answer = Over(&attempt, Over(&circuit, By(&script)))
            .call(get("/"))
            .await
            .unwrap();
        tokio::time::advance(SECOND * 2).await;
        drop(answer);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
