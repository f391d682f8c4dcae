//! How a call ended, by one classifier for REST and gRPC.

use http::{HeaderMap, HeaderName, Response};
use trunkline_core::{Error, ErrorKind, Result};

use crate::Body;
use crate::server::is_grpc;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// How a call ended, for whoever counts or tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, with whatever the target had to say of the request: 404 and 409 too.
    Answered,
    /// The target, or a limit on the way, asks for fewer calls (429, `RESOURCE_EXHAUSTED`).
    Overloaded,
    /// The target was not there (502, 503, `UNAVAILABLE`, no connection).
    Unavailable,
    /// It did not answer in time (504, `DEADLINE_EXCEEDED`).
    TimedOut,
    /// It failed (500, `INTERNAL`, `UNKNOWN`, `DATA_LOSS`).
    Failed,
}

impl Outcome {
    /// That of an answer; none while it is open: gRPC tells it at the end of the body, in [`Outcome::of_trailers`].
    pub fn of(answer: &Result<Response<Body>>) -> Option<Self> {
        match answer {
            Ok(response) => Self::of_response(response),
            Err(error) => Some(Self::of_error(error)),
        }
    }

    pub(crate) fn of_response(response: &Response<Body>) -> Option<Self> {
        let by_status = match response.status().as_u16() {
            429 => Self::Overloaded,
            502 | 503 => Self::Unavailable,
            504 => Self::TimedOut,
            // What the target does not offer is no failure of it.
            501 | 505 => Self::Answered,
            500..=599 => Self::Failed,
            _ => Self::Answered,
        };
        if by_status != Self::Answered {
            return Some(by_status);
        }
        match grpc_code(response.headers()) {
            Some(code) => Some(Self::of_grpc(code)),
            None if is_grpc(response.headers()) => None,
            None => Some(Self::Answered),
        }
    }

    /// That of a gRPC status code.
    ///
    /// # Source
    /// <https://grpc.io/docs/guides/status-codes/>
    pub fn of_grpc(code: u16) -> Self {
        match code {
            4 => Self::TimedOut,
            8 => Self::Overloaded,
            14 => Self::Unavailable,
            2 | 13 | 15 => Self::Failed,
            // A code that nobody defined is read as UNKNOWN.
            17.. => Self::Failed,
            _ => Self::Answered,
        }
    }

    /// That of the trailers of a gRPC answer; one without a status has failed.
    pub fn of_trailers(trailers: &HeaderMap) -> Self {
        grpc_code(trailers).map_or(Self::Failed, Self::of_grpc)
    }

    pub(crate) fn of_error(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Overloaded => Self::Overloaded,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::DeadlineExceeded => Self::TimedOut,
            ErrorKind::Internal | ErrorKind::Corrupt => Self::Failed,
            _ => Self::Answered,
        }
    }

    /// Whether it speaks against the target's health. Asking for fewer calls does not: a breaker that opens on it would
    /// turn a limit into an outage.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Unavailable | Self::TimedOut | Self::Failed)
    }

    /// Whether the target could not do it now: where another attempt, or an older answer, makes sense.
    pub fn is_trouble(self) -> bool {
        self != Self::Answered
    }
}

/// The code of gRPC that an answer comes to; none while it is open.
pub(super) fn code_of(answer: &Result<Response<Body>>) -> Option<u16> {
    if let Ok(response) = answer
        && let Some(code) = grpc_code(response.headers())
    {
        return Some(code);
    }
    Some(match Outcome::of(answer)? {
        Outcome::Answered => return None,
        Outcome::TimedOut => 4,
        Outcome::Overloaded => 8,
        Outcome::Failed => 13,
        Outcome::Unavailable => 14,
    })
}

fn grpc_code(headers: &HeaderMap) -> Option<u16> {
    let status = headers.get(&GRPC_STATUS)?;
    // What is no number is UNKNOWN.
    let code = status.to_str().ok().and_then(|text| text.parse().ok());
    Some(code.unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Option<Outcome> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Outcome::of(&Ok(response.body(Body::empty()).unwrap()))
    }

    #[test]
    fn rest_and_grpc_are_judged_alike() {
        let grpc = ("content-type", "application/grpc+proto");
        let table = [
            (200, "0", Outcome::Answered),
            (404, "5", Outcome::Answered),
            (409, "6", Outcome::Answered),
            (429, "8", Outcome::Overloaded),
            (500, "13", Outcome::Failed),
            (501, "12", Outcome::Answered),
            (503, "14", Outcome::Unavailable),
            (504, "4", Outcome::TimedOut),
        ];
        for (status, code, outcome) in table {
            assert_eq!(answer(status, &[]), Some(outcome), "{status}");
            assert_eq!(answer(200, &[grpc, ("grpc-status", code)]), Some(outcome));
            let trailers = HeaderMap::from_iter([(GRPC_STATUS, code.parse().unwrap())]);
            assert_eq!(Outcome::of_trailers(&trailers), outcome, "{code}");
        }
    }

    #[test]
    fn a_grpc_answer_is_open_until_its_trailers_and_garbage_is_a_failure() {
        let grpc = ("content-type", "application/grpc");
        assert_eq!(answer(200, &[grpc]), None);
        assert_eq!(answer(503, &[grpc]), Some(Outcome::Unavailable));
        let garbage = answer(200, &[grpc, ("grpc-status", "fine")]);
        assert_eq!(garbage, Some(Outcome::Failed));
        let unknown = answer(200, &[grpc, ("grpc-status", "700")]);
        assert_eq!(unknown, Some(Outcome::Failed));
        assert_eq!(Outcome::of_trailers(&HeaderMap::new()), Outcome::Failed);
    }
}
