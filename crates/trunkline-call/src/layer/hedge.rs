//! Asking a second time when the first answer is late.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use http::{Request, Response};
use tokio::time::sleep;
use trunkline_core::Result;

use super::plan::Plan;
use super::retry::{Budget, REPLAY_BYTES_MAX, Repeatable};
use super::{Around, Event, Next, Observer, Outcome, tower_layer};
use crate::Body;
use crate::policy::Policy;

/// Asks a read a second time if the first answer is late, and gives whichever is good first; the other is given up.
///
/// # Guarantees
/// Only where the policy says `hedge_after` and repeating is safe. A second question comes out of the same [`Budget`]
/// as retries do, so that a slow target does not get twice its load.
#[derive(Debug, Clone)]
pub struct Hedge {
    own: Policy,
    budget: Arc<Budget>,
    observer: Observer,
}

impl Hedge {
    /// Hedges out of a budget, by `policy` where a call brings none of its own.
    pub fn new(policy: Policy, budget: Arc<Budget>) -> Self {
        Self {
            own: policy,
            budget,
            observer: Observer::default(),
        }
    }

    /// Tells this observer of each second question.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }
}

tower_layer!(Hedge);

impl Around for Hedge {
    fn around<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        let plan = Plan::of(&request, &self.own);
        match plan.policy.hedge_after.filter(|_| plan.is_safe(&request)) {
            None => Either::Left(next.call(request)),
            // In a box of its own, so that calls that are not hedged have no room for it.
            Some(late) => Either::Right(Box::pin(self.hedge(request, next, late))),
        }
    }
}

impl Hedge {
    async fn hedge<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
        late: Duration,
    ) -> Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let replay = Repeatable::of(body, REPLAY_BYTES_MAX);
        let copy = parts.clone();
        // What is not in hand whole can't be sent twice at once.
        let (Repeatable::Whole(_), Some(body)) = (&replay, replay.body()) else {
            let body = replay.body().unwrap_or_default();
            return next.call(Request::from_parts(parts, body)).await;
        };
        let first = pin!(next.call(Request::from_parts(parts, body)));
        let first = match select(first, pin!(sleep(late))).await {
            Either::Left((answer, _)) => return answer,
            Either::Right(((), first)) => first,
        };
        if !self.budget.withdraw() {
            self.observer.tell(Event::BudgetEmpty);
            return first.await;
        }
        self.observer.tell(Event::Hedged);
        let body = replay.body().unwrap_or_default();
        let second = pin!(next.call(Request::from_parts(copy, body)));
        match select(first, second).await {
            Either::Left((answer, second)) if is_bad(&answer) => better(answer, second.await),
            Either::Right((answer, first)) if is_bad(&answer) => better(answer, first.await),
            Either::Left((answer, _)) | Either::Right((answer, _)) => answer,
        }
    }
}

fn is_bad(answer: &Result<Response<Body>>) -> bool {
    Outcome::of(answer).is_some_and(Outcome::is_trouble)
}

fn better(bad: Result<Response<Body>>, other: Result<Response<Body>>) -> Result<Response<Body>> {
    if is_bad(&other) { bad } else { other }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::testing::{Script, after, get, ok, status};
    use super::*;
    use crate::policy::BudgetPolicy;

    const MILLI: Duration = Duration::from_millis(1);

    fn hedge(saved_max: u32) -> Hedge {
        let policy = Policy {
            hedge_after: Some(MILLI * 50),
            ..Policy::default()
        };
        let budget = BudgetPolicy {
            percent: 0,
            per_second: 0,
            saved_max,
        };
        Hedge::new(policy, Arc::new(Budget::new(budget)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_read_is_asked_again_and_the_first_good_answer_counts() {
        // Late, then quick; late but good, then bad; quick.
        let cases = [
            ([after(MILLI * 500, ok()), after(MILLI * 10, ok())], 60, 2),
            ([after(MILLI * 200, ok()), status(503)], 200, 2),
            ([after(MILLI * 49, ok()), ok()], 49, 1),
        ];
        for (lines, takes, calls) in cases {
            let script = Script::new(lines);
            let began = Instant::now();
            let answer = hedge(10).around(get("/"), &script).await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(began.elapsed(), MILLI * takes);
            assert_eq!(script.calls(), calls);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_budget_and_for_what_changes_something_there_is_one_call() {
        let script = Script::new([after(MILLI * 500, ok())]);
        hedge(0).around(get("/"), &script).await.unwrap();
        assert_eq!(script.calls(), 1);
        let script = Script::new([after(MILLI * 500, ok())]);
        let post = Request::post("/").body(Body::from("{}")).unwrap();
        hedge(10).around(post, &script).await.unwrap();
        assert_eq!(script.calls(), 1);
    }
}
