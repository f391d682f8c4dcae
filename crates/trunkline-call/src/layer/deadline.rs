//! A deadline for the whole call, its body included.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::time::Instant;
use trunkline_core::Result;

use super::outcome::is_grpc;
use super::plan::Plan;
use super::{Around, Next, tower_layer};
use crate::guard::{Guarded, deadline_exceeded, until};
use crate::policy::Policy;
use crate::{Body, headers};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

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
    async fn around<N: Next>(
        &self,
        mut request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>> {
        let mut plan = Plan::of(&request, &self.own);
        let given = left(request.headers());
        let left = given.map_or(plan.policy.timeout, |given| given.min(plan.policy.timeout));
        if left.is_zero() {
            return Err(deadline_exceeded());
        }
        let deadline = Instant::now() + left.min(DEADLINE_MAX);
        if given != Some(left) {
            write(request.headers_mut(), left);
        }
        plan.deadline = Some(deadline);
        request.extensions_mut().insert(plan);
        let answer = until(deadline, next.call(request)).await;
        let response = answer.unwrap_or_else(|| Err(deadline_exceeded()))?;
        Ok(response.map(|body| Guarded::wrap(body, deadline)))
    }
}

/// Longer than any call takes, and short enough to be added to a time.
const DEADLINE_MAX: Duration = Duration::from_secs(365 * 86_400);

/// How long whoever sent these headers goes on waiting, as both headers say it: the shorter counts.
fn left(headers: &HeaderMap) -> Option<Duration> {
    let ours = headers
        .get(&headers::DEADLINE_MS)
        .and_then(|value| Some(Duration::from_millis(value.to_str().ok()?.parse().ok()?)));
    match (ours, grpc_timeout(headers)) {
        (Some(ours), Some(grpc)) => Some(ours.min(grpc)),
        (ours, grpc) => ours.or(grpc),
    }
}

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
            headers.insert(GRPC_TIMEOUT, value);
        }
    } else {
        headers.insert(headers::DEADLINE_MS, HeaderValue::from(millis));
    }
}

/// What `grpc-timeout` says; what is not of its form says nothing.
///
/// # Source
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub(crate) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(&GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
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

    #[test]
    fn the_timeout_of_grpc_is_read_as_it_is_written_and_garbage_is_none() {
        let read = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            grpc_timeout(&HeaderMap::from_iter([(GRPC_TIMEOUT, value)]))
        };
        assert_eq!(read("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("250m"), Some(SECOND / 4));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        for bad in [
            "",
            "m",
            "1",
            "-1m",
            "+1m",
            "1x",
            "100000000S",
            "1 m",
            "1.5S",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
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
