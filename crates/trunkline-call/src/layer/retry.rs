//! Trying again, where that is safe and a budget allows it.

mod budget;
mod pause;
mod replay;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, ready};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use tokio::time::{Instant, sleep};
use trunkline_core::{Env, Result, Retry as Class};

use self::pause::Asked;
use self::replay::Replay;
use super::plan::Plan;
use super::{Around, Event, Next, Observer, Outcome, outcome, tower_layer, write_deadline};
use crate::policy::Policy;
use crate::{Body, headers};

pub use budget::Budget;
pub(crate) use replay::Replay as Repeatable;

/// A longer body is sent once.
pub(crate) const REPLAY_BYTES_MAX: usize = 64 * 1024;

/// Tries a call again that the target could not take or answer: 429, 502, 503, 504, `UNAVAILABLE`,
/// `RESOURCE_EXHAUSTED`, no connection, or one that broke.
///
/// # Guarantees
/// A call is repeated only if that is safe: its method is idempotent, it has an `idempotency-key`, its policy or its
/// caller says so, or the failure says that nothing happened (`Transient`). A policy that names the codes of gRPC to try
/// again on says that it is safe where they come, and nowhere else. What a layer further down has tried again
/// already (`x-trunkline-retried`) is not tried again, and neither is a body of more than 64 KiB, nor a call whose
/// pause would outlast its deadline. All retries of a target come out of one [`Budget`].
///
/// # Shape
/// The pause is random between nothing and a bound that doubles with each attempt; `Retry-After` and
/// `grpc-retry-pushback-ms` come on top of it.
#[derive(Debug, Clone)]
pub struct Retry {
    own: Policy,
    budget: Arc<Budget>,
    env: Env,
    observer: Observer,
}

/// Whether an attempt is worth another, and what the target asks for.
enum Verdict {
    Done,
    Again(Duration),
}

impl Retry {
    /// Retries out of a budget, by `policy` where a call brings none of its own.
    pub fn new(policy: Policy, budget: Arc<Budget>, env: Env) -> Self {
        Self {
            own: policy,
            budget,
            env,
            observer: Observer::default(),
        }
    }

    /// Tells this observer of each retry.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// What pauses a call before its next attempt, or why there is none: then the answer says how often it was tried.
    fn next_pause(&self, plan: &Plan, made: u32, asked: Duration) -> Result<Duration, GivenUp> {
        if made >= plan.policy.attempts_max {
            return Err(GivenUp::Tried);
        }
        let pause = pause::before(made + 1, asked, &plan.policy, &self.env);
        let ends = Instant::now() + pause;
        if plan.times.ends_by.is_some_and(|deadline| ends >= deadline) {
            return Err(GivenUp::TooLate);
        }
        if !self.budget.withdraw() {
            self.observer.tell(Event::BudgetEmpty);
            return Err(GivenUp::Tried);
        }
        Ok(pause)
    }
}

/// Why there is no further attempt.
enum GivenUp {
    /// Who is further up must not begin anew.
    Tried,
    /// The pause would outlast the deadline.
    TooLate,
}

tower_layer!(Retry);

impl Around for Retry {
    fn around<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        let plan = Plan::of(&request, &self.own);
        self.budget.deposit();
        if plan.policy.attempts_max <= 1 {
            return Either::Left(next.call(request));
        }
        let is_safe = plan.is_safe(&request);
        let (parts, body) = request.into_parts();
        let replay = Replay::of(body, REPLAY_BYTES_MAX);
        // A body that nobody has read from can be read.
        let body = replay.body().unwrap_or_default();
        let kept = Kept {
            parts: copy(&parts),
            replay,
            plan,
            is_safe,
        };
        let first = next.call(Request::from_parts(parts, body));
        Either::Right(first.then(move |answer| match self.judge(&answer, &kept) {
            Verdict::Done => Either::Left(ready(answer)),
            // In a box of its own, so that calls that go well have no room for it.
            Verdict::Again(asked) => {
                Either::Right(Box::pin(self.again(kept, next, (answer, asked))))
            }
        }))
    }
}

/// What is kept of a call for another attempt.
struct Kept {
    parts: Parts,
    replay: Replay,
    plan: Plan,
    is_safe: bool,
}

impl Retry {
    /// What comes after a first attempt that is worth another.
    async fn again<N: Next>(
        &self,
        kept: Kept,
        next: &N,
        (mut answer, mut asked): (Result<Response<Body>>, Duration),
    ) -> Result<Response<Body>> {
        let mut made = 1;
        loop {
            if !kept.replay.is_whole() {
                return answer;
            }
            match self.next_pause(&kept.plan, made, asked) {
                Ok(pause) => {
                    drop(answer);
                    let attempt = made + 1;
                    self.observer.tell(Event::Retried { attempt, pause });
                    sleep(pause).await;
                }
                Err(GivenUp::TooLate) if made == 1 => return answer,
                Err(_) => return marked(answer, made),
            }
            let Some(request) = kept.request() else {
                return Err(trunkline_core::Error::internal(
                    "a body that was sent whole can be sent again",
                ));
            };
            answer = next.call(request).await;
            made += 1;
            match self.judge(&answer, &kept) {
                Verdict::Again(later) => asked = later,
                Verdict::Done => return answer,
            }
        }
    }

    fn judge(&self, answer: &Result<Response<Body>>, kept: &Kept) -> Verdict {
        let Kept { plan, is_safe, .. } = kept;
        let class = |class: Class| match class {
            Class::Transient => true,
            Class::Unknown => *is_safe,
            Class::Permanent => false,
        };
        // Who names codes says with it that repeating is safe where they come.
        let named = plan.policy.retry_codes;
        let named = named.map(|codes| outcome::code_of(answer).is_some_and(|code| codes.has(code)));
        match answer {
            Err(error) => {
                let is_trouble = matches!(
                    Outcome::of_error(error),
                    Outcome::Unavailable | Outcome::Overloaded | Outcome::TimedOut
                );
                let is_ours = headers::is_local(error) || headers::attempts_of(error).is_some();
                let is_worth = named.unwrap_or_else(|| is_trouble && class(error.retry()));
                match is_worth && !is_ours {
                    true => Verdict::Again(error.retry_after().unwrap_or_default()),
                    false => Verdict::Done,
                }
            }
            Ok(response) => {
                let is_trouble = || {
                    Outcome::of_response(response)
                        .is_some_and(|outcome| outcome.is_trouble() && outcome != Outcome::Failed)
                };
                let said = response.headers();
                // A server of ours says whether it did anything; of others' 503 and 429 that is not known.
                let told = || class(headers::class_of(said).unwrap_or(Class::Unknown));
                let is_worth = named.unwrap_or_else(|| is_trouble() && told());
                if !is_worth || said.contains_key(&headers::RETRIED) {
                    return Verdict::Done;
                }
                match pause::asked(said, &self.env) {
                    Asked::Stop => Verdict::Done,
                    Asked::Nothing => Verdict::Again(Duration::ZERO),
                    Asked::Wait(asked) => Verdict::Again(asked),
                }
            }
        }
    }
}

impl Kept {
    /// The request of a later attempt, which has less time left; none if its body can't be sent again.
    fn request(&self) -> Option<Request<Body>> {
        let mut request = Request::from_parts(self.parts.clone(), self.replay.body()?);
        self.plan.put_back(&mut request);
        if let Some(deadline) = self.plan.times.ends_by {
            let left = deadline.saturating_duration_since(Instant::now());
            write_deadline(request.headers_mut(), left);
        }
        Some(request)
    }
}

/// A copy without its plan, where that is all that the request has besides: most calls end with the first attempt.
fn copy(parts: &Parts) -> Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.version = parts.version;
    copy.headers = parts.headers.clone();
    if parts.extensions.len() > 1 || parts.extensions.get::<Plan>().is_none() {
        copy.extensions = parts.extensions.clone();
    }
    copy
}

/// Says how often it was tried, so that nobody further up begins anew.
fn marked(answer: Result<Response<Body>>, made: u32) -> Result<Response<Body>> {
    match answer {
        Ok(mut response) => {
            let said = response.headers_mut();
            said.insert(headers::RETRIED, HeaderValue::from(made));
            Ok(response)
        }
        Err(error) => Err(error.with(headers::ATTEMPTS, made)),
    }
}
