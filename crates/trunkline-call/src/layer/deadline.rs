//! A deadline for the whole call, its body included.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, ready};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::time::Instant;
use trunkline_core::Result;

use super::held::AtHand;
use super::plan::{Plan, Times};
use super::{Around, Next, tower_layer};
use crate::guard::{Guarded, deadline_exceeded, until};
use crate::policy::Policy;
use crate::server::is_grpc;
use crate::{Body, headers};

/// Ends a call whose time is up, and tells the target how much is left: `x-trunkline-deadline-ms`, for gRPC
/// `grpc-timeout`.
///
/// # Guarantees
/// What the request says is left is only ever shortened. The deadline holds until the response's body has ended.
///
/// # Errors
/// `DeadlineExceeded` (`Unknown`: the effect may have happened).
#[derive(Debug, Clone)]
pub struct Deadline {
    own: Policy,
}

impl Deadline {
    /// How long a call may take when its policy does not say.
    pub fn new(timeout: Duration) -> Self {
        let own = Policy {
            timeout,
            ..Policy::default()
        };
        Self { own }
    }
}

tower_layer!(Deadline);

impl Around for Deadline {
    fn around<N: Next>(
        &self,
        mut request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        let mut plan = Plan::of(&request, &self.own);
        let given = headers::left(request.headers());
        let left = given.map_or(plan.policy.timeout, |given| given.min(plan.policy.timeout));
        if left.is_zero() {
            return Either::Left(ready(Err(deadline_exceeded())));
        }
        let deadline = Instant::now() + left.min(DEADLINE_MAX);
        let all = request.headers();
        if given != Some(left) || (is_grpc(all) && !all.contains_key(headers::GRPC_TIMEOUT)) {
            write(request.headers_mut(), left);
        }
        plan.times = Times::until(deadline);
        plan.put_back(&mut request);
        let answer = until(deadline, next.call(request));
        Either::Right(answer.map(move |answer| {
            let response = answer.unwrap_or_else(|| Err(deadline_exceeded()))?;
            if AtHand::is(&response) {
                return Ok(response);
            }
            Ok(response.map(|body| Guarded::wrap(body, deadline)))
        }))
    }
}

/// Longer than any call takes, and short enough to be added to a time.
const DEADLINE_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Tells how much is left, in the words of the request's protocol.
pub(crate) fn write(headers: &mut HeaderMap, left: Duration) {
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    if is_grpc(headers) {
        headers.remove(&headers::DEADLINE_MS);
        // At most eight digits.
        let text = match millis {
            0..100_000_000 => format!("{millis}m"),
            _ => format!("{}S", (millis / 1_000).min(99_999_999)),
        };
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(headers::GRPC_TIMEOUT, value);
        }
    } else {
        headers.insert(headers::DEADLINE_MS, HeaderValue::from(millis));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Script, ok};
    use super::*;
    use crate::layer::plan::CallOptions;

    const SECOND: Duration = Duration::from_secs(1);

    fn request(headers: &[(&'static str, &'static str)]) -> Request<Body> {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_travels_in_each_protocols_words_and_is_never_extended() {
        let script = Script::new([ok(), ok(), ok(), ok()]);
        let layer = Deadline::new(SECOND * 5);
        let grpc = ("content-type", "application/grpc");
        let cases = [
            request(&[]),
            request(&[("x-trunkline-deadline-ms", "200")]),
            request(&[grpc, ("grpc-timeout", "60S")]),
            request(&[
                grpc,
                ("grpc-timeout", "60S"),
                ("x-trunkline-deadline-ms", "7"),
            ]),
        ];
        for request in cases {
            layer.around(request, &script).await.unwrap();
        }
        let seen = script.seen();
        let told = |at: usize, name: &str| {
            let value = seen[at].headers.get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        assert_eq!(told(0, "x-trunkline-deadline-ms").unwrap(), "5000");
        assert_eq!(told(1, "x-trunkline-deadline-ms").unwrap(), "200");
        assert_eq!(told(2, "grpc-timeout").unwrap(), "5000m");
        assert_eq!(told(2, "x-trunkline-deadline-ms"), None);
        assert_eq!(told(3, "grpc-timeout").unwrap(), "60S");
        assert_eq!(told(3, "x-trunkline-deadline-ms").unwrap(), "7");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_when_its_time_is_up_and_one_without_time_is_not_sent() {
        let layer = Deadline::new(SECOND * 5);
        let script = Script::hanging();
        let began = Instant::now();
        let error = layer.around(request(&[]), &script).await.unwrap_err();
        assert_eq!(error.code(), "deadline_exceeded");
        assert_eq!(began.elapsed(), SECOND * 5);

        let mut longer = request(&[]);
        Plan::put(Policy::default(), {
            CallOptions::new().timeout(SECOND * 30).put(&mut longer);
            &mut longer
        });
        let began = Instant::now();
        layer.around(longer, &script).await.unwrap_err();
        assert_eq!(began.elapsed(), SECOND * 30);

        let script = Script::new([]);
        let late = request(&[("x-trunkline-deadline-ms", "0")]);
        let error = layer.around(late, &script).await.unwrap_err();
        assert_eq!(error.code(), "deadline_exceeded");
        assert!(script.seen().is_empty());
    }
}
