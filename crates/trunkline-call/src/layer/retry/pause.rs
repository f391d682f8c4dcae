//! How long to wait before the next attempt.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName};
use trunkline_core::{Env, Timestamp};

use crate::policy::Policy;

const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// What an answer says of the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing.
    Nothing,
    /// It makes sense after so long.
    Wait(Duration),
    /// There is to be none.
    Stop,
}

/// The pause before attempt `attempt` (2 is the first retry): a random part of a bound that grows with each, and on
/// top of whatever the target asked for.
pub(crate) fn before(attempt: u32, asked: Duration, policy: &Policy, env: &Env) -> Duration {
    let steps = i32::try_from(attempt.saturating_sub(2).min(31)).unwrap_or(31);
    let growth = (f64::from(policy.retry_growth_percent) / 100.0).powi(steps);
    let longest = policy.retry_max.as_secs_f64();
    let bound = (policy.retry_initial.as_secs_f64() * growth).min(longest);
    let bound = Duration::try_from_secs_f64(bound).unwrap_or(policy.retry_max);
    // Those who were told the same moment must not all come at it, and must not wait much longer either.
    let bound = if asked.is_zero() {
        bound
    } else {
        bound.min(asked / 10)
    };
    asked.saturating_add(bound.mul_f64(env.random_f64()))
}

/// `Retry-After`, in seconds or as a date, and gRPC's way to say the same.
///
/// # Source
/// RFC 9110, 10.2.3; gRPC proposal A6 for the pushback, where what is no number means that there is to be no retry.
pub(crate) fn asked(headers: &HeaderMap, env: &Env) -> Asked {
    if let Some(pushback) = headers.get(&GRPC_PUSHBACK) {
        let millis = pushback.to_str().ok().and_then(|text| text.parse().ok());
        return millis.map_or(Asked::Stop, |millis| {
            Asked::Wait(Duration::from_millis(millis))
        });
    }
    let text = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let pause = text.and_then(|text| retry_after(text.trim(), env));
    pause.map_or(Asked::Nothing, Asked::Wait)
}

fn retry_after(text: &str, env: &Env) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(since(env.now(), at))
}

/// How long after `now` a time is: nothing, if it is past.
fn since(now: Timestamp, at: SystemTime) -> Duration {
    at.duration_since(SystemTime::from(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_to_its_own_bound_and_the_pause_is_anything_below() {
        let env = Env::seeded(7);
        let policy = Policy::default();
        for (attempt, bound) in [
            (2, 1),
            (3, 2),
            (4, 4),
            (5, 8),
            (6, 10),
            (40, 10),
            (u32::MAX, 10),
        ] {
            let bound = Duration::from_secs(bound);
            let pauses: Vec<_> = (0..200)
                .map(|_| before(attempt, Duration::ZERO, &policy, &env))
                .collect();
            assert!(pauses.iter().all(|pause| *pause < bound), "{attempt}");
            assert!(pauses.iter().any(|pause| *pause > bound.mul_f64(0.9)));
            assert!(pauses.iter().any(|pause| *pause < bound.mul_f64(0.1)));
        }
        let asked = Duration::from_secs(4);
        let pause = before(2, asked, &policy, &env);
        assert!(pause >= asked && pause < asked.mul_f64(1.1), "{pause:?}");
    }

    #[test]
    fn seconds_dates_and_pushbacks_are_understood() {
        // Its clock stands at the start of 2026.
        let env = Env::seeded(1);
        let said = |name: HeaderName, text: &str| {
            asked(&HeaderMap::from_iter([(name, text.parse().unwrap())]), &env)
        };
        let wait = |seconds| Asked::Wait(Duration::from_secs(seconds));
        assert_eq!(said(RETRY_AFTER, "3"), wait(3));
        assert_eq!(
            said(RETRY_AFTER, "Thu, 01 Jan 2026 00:02:00 GMT"),
            wait(120)
        );
        assert_eq!(said(RETRY_AFTER, "Thu Jan  1 00:00:09 2026"), wait(9));
        assert_eq!(said(RETRY_AFTER, "Wed, 31 Dec 2025 00:00:00 GMT"), wait(0));
        for garbage in ["", "soon", "-1", "1.5", "99999999999999999999999"] {
            assert_eq!(said(RETRY_AFTER, garbage), Asked::Nothing, "{garbage}");
        }
        assert_eq!(said(GRPC_PUSHBACK, "2000"), wait(2));
        assert_eq!(said(GRPC_PUSHBACK, "-1"), Asked::Stop);
        assert_eq!(asked(&HeaderMap::new(), &env), Asked::Nothing);
    }
}
