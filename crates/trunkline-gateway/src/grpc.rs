//! Requests of gRPC: refusals are statuses, and a call lasts as long as its caller says.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::{Code, Status};
use trunkline_call::headers::{GRPC_TIMEOUT, time_of};
use trunkline_call::{Body, CallOptions};
use trunkline_core::{Error, ErrorKind, Result};

const KIND: &[u8] = b"application/grpc";
/// Where a call's status stands.
pub(crate) const STATUS: &str = "grpc-status";
/// The longest that a call may last, whatever its caller says, and how long a stream may be silent.
pub(crate) const LASTS_MAX: Duration = Duration::from_secs(3_600);

/// Whether a request, or an answer, speaks gRPC. gRPC-Web does not.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(KIND));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// The answer without messages to a call that is refused. What is wrong inside stays inside.
pub(crate) fn refusal(error: &Error) -> Response<Body> {
    let unknown;
    let error = match error.code() {
        "route_unknown" | "method_not_allowed" => {
            let text = "no route leads to this method";
            unknown = Error::new(ErrorKind::Unsupported, "method_unknown", text);
            &unknown
        }
        _ => error,
    };
    trunkline_call::grpc::encode(error).into_http()
}

/// What a call ends with when its answer breaks off.
pub(crate) fn last_words(error: &(dyn StdError + 'static)) -> Option<HeaderMap> {
    let mut cause = Some(error);
    let mut ours = None;
    while let Some(error) = cause {
        ours = ours.or_else(|| error.downcast_ref::<Error>());
        cause = error.source();
    }
    let broken = || Error::unavailable("answer_broken", "the service's answer broke off");
    let status = ours.map_or_else(
        || trunkline_call::grpc::encode(&broken()),
        trunkline_call::grpc::encode,
    );
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).ok()?;
    Some(trailers)
}

/// Makes an answer without messages of one that does not speak gRPC or gRPC-Web: a plugin's, or that of a service
/// that speaks something else.
///
/// # Source
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
pub(crate) fn translate(response: &mut Response<Body>) {
    let kind = response.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(KIND)) {
        return;
    }
    let status = response.status();
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let said = Status::new(code, format!("answered {status}"));
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    // It is a code and plain text: there is nothing in it that a header can't say.
    drop(said.add_header(headers));
    *response.status_mut() = StatusCode::OK;
    *response.body_mut() = Body::empty();
}

/// How long the caller of a call still waits, after this time.
pub(crate) fn left(headers: &HeaderMap, waited: Duration) -> Duration {
    let asked = headers.get(GRPC_TIMEOUT);
    let asked = asked.and_then(|asked| time_of(asked.to_str().ok()?));
    let left = asked.map_or(LASTS_MAX, |asked| asked.saturating_sub(waited));
    left.min(LASTS_MAX)
}

/// How long that is, as the service is told it.
pub(crate) fn told(left: Duration) -> Option<HeaderValue> {
    if left == LASTS_MAX {
        return Some(HeaderValue::from_static("3600000m"));
    }
    // An hour has fewer than the eight digits that there may be.
    HeaderValue::try_from(format!("{}m", left.as_millis())).ok()
}

/// Has a channel take a request for a call that lasts no longer than this.
pub(crate) fn bound(head: &mut Parts, left: Option<Duration>) {
    head.version = Version::HTTP_2;
    if let Some(left) = left {
        head.extensions.insert(CallOptions::new().timeout(left));
    }
}

/// What a call comes to within a time, its answer's last message included.
///
/// # Errors
/// `DeadlineExceeded`.
pub(crate) async fn within(
    left: Duration,
    call: impl Future<Output = Result<Response<Body>>>,
) -> Result<Response<Body>> {
    let until = Instant::now() + left;
    let answer = timeout_at(until, call).await;
    let response = answer.map_err(|_| time_is_up())??;
    Ok(response.map(|inner| {
        Body::new(Until {
            inner,
            until,
            timer: None,
        })
    }))
}

fn time_is_up() -> Error {
    let text = "the time for this call is up";
    Error::new(ErrorKind::DeadlineExceeded, "deadline_exceeded", text)
}

/// An answer that breaks off when its time is up.
struct Until {
    inner: Body,
    until: Instant,
    // Only a body that lets us wait has a timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if let ready @ Poll::Ready(_) = Pin::new(&mut this.inner).poll_frame(cx) {
            return ready;
        }
        let until = this.until;
        let timer = || Box::pin(sleep_until(until));
        ready!(this.timer.get_or_insert_with(timer).as_mut().poll(cx));
        Poll::Ready(Some(Err(axum::Error::new(time_is_up()))))
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_from_what_is_called_alike() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web-text+proto", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_grpc(&headers), is, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn an_answer_of_another_kind_becomes_a_status() {
        let mut response = Response::new(Body::from("{}"));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response
            .headers_mut()
            .insert("retry-after", HeaderValue::from_static("7"));
        translate(&mut response);
        assert_eq!(response.status(), 200);
        let said = |name: &str| response.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!((said("grpc-status"), said("retry-after")), ("14", "7"));
        assert!(http_body::Body::is_end_stream(response.body()));
        // What speaks gRPC stays as it is.
        let mut response = refusal(&Error::not_found("shelf_unknown", "there is no such shelf"));
        translate(&mut response);
        assert_eq!(response.headers()["grpc-status"], "5");
    }

    #[test]
    fn a_call_that_breaks_off_says_why_if_it_is_known() {
        let known = Error::new(ErrorKind::Overloaded, "shop_full", "come back later");
        let told = last_words(&axum::Error::new(known)).unwrap();
        assert_eq!(told["grpc-status"], "8");
        let unknown = axum::Error::new(std::io::Error::other("the secret of the wire"));
        let told = last_words(&unknown).unwrap();
        assert_eq!(told["grpc-status"], "14");
        assert!(!format!("{told:?}").contains("secret"));
    }
}
