//! What the gateway itself refuses, as RFC 9457 problems.

use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};
use trunkline_call::Body;
use trunkline_call::problem::{CONTENT_TYPE_PROBLEM, Details, retry_seconds, status};
use trunkline_core::{Error, ErrorKind};

/// No `Content-Length` where one is asked for (411).
pub(crate) const LENGTH_REQUIRED: &str = "length_required";
/// The request's body came too slowly (408).
pub(crate) const BODY_SLOW: &str = "request_body_slow";
/// A request is not as a schema says (400).
pub(crate) const REQUEST_INVALID: &str = "request_invalid";
/// A body is of a type that nobody takes (400).
pub(crate) const CONTENT_TYPE_NOT_ALLOWED: &str = "content_type_not_allowed";
/// What is wrong with the request itself (400).
pub(crate) const MALFORMED: &str = "request_malformed";

/// A tunnel is asked for (501).
pub(crate) const CONNECT: &str = "connect_unsupported";
/// A transfer coding that we do not undo (501).
pub(crate) const CODING: &str = "coding_unsupported";
/// More headers than there may be (431).
const HEADERS_TOO_MANY: &str = "headers_too_many";
/// On a connection that belongs to another host (421).
const MISDIRECTED: &str = "request_misdirected";
/// No connection to the service, or it broke (502).
const UNREACHABLE: &str = "upstream_unreachable";

fn status_of(error: &Error) -> StatusCode {
    match error.code() {
        LENGTH_REQUIRED => StatusCode::LENGTH_REQUIRED,
        BODY_SLOW => StatusCode::REQUEST_TIMEOUT,
        HEADERS_TOO_MANY => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        MISDIRECTED => StatusCode::MISDIRECTED_REQUEST,
        UNREACHABLE => StatusCode::BAD_GATEWAY,
        // As Kong answers.
        REQUEST_INVALID | CONTENT_TYPE_NOT_ALLOWED => StatusCode::BAD_REQUEST,
        _ => status(error),
    }
}

/// The response of an error. What is wrong inside stays inside: the log has it.
pub(crate) fn response(error: &Error, request_id: &str, correlation_id: &str) -> Response<Body> {
    let status = status_of(error);
    let detail = match error.kind() {
        ErrorKind::Internal | ErrorKind::Corrupt => "something went wrong here",
        _ => error.message(),
    };
    let told = Details {
        problem_type: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail: detail.to_owned(),
        code: error.code().to_owned(),
        kind: None,
        retry: None,
        correlation_id: Some(correlation_id.to_owned()),
        request_id: Some(request_id.to_owned()),
    };
    let body = serde_json::to_vec(&told).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_PROBLEM));
    let allowed = error.context().find(|(key, _)| *key == "allow");
    if let Some(allowed) = allowed.and_then(|(_, value)| HeaderValue::from_str(value).ok()) {
        headers.insert(ALLOW, allowed);
    }
    if let Some(seconds) = retry_seconds(error) {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    // What follows such a request on its connection can't be trusted to be what the client meant.
    if matches!(error.code(), MALFORMED | BODY_SLOW | CODING | CONNECT) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

pub(crate) fn malformed(message: &'static str) -> Error {
    Error::invalid(MALFORMED, message)
}

pub(crate) fn too_many_headers(count_max: usize) -> Error {
    let text = format!("expected at most {count_max} headers");
    Error::new(ErrorKind::TooLarge, HEADERS_TOO_MANY, text)
}

pub(crate) fn unsupported(code: &'static str, message: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, code, message)
}

pub(crate) fn misdirected() -> Error {
    let text = "expected the host that the connection was secured for";
    Error::invalid(MISDIRECTED, text)
}

pub(crate) fn route_unknown() -> Error {
    Error::not_found("route_unknown", "no route leads from here")
}

pub(crate) fn wrong_method(allowed: &[Method]) -> Error {
    let allowed: Vec<_> = allowed.iter().map(Method::as_str).collect();
    Error::new(
        ErrorKind::Unsupported,
        "method_not_allowed",
        "this path does not take this method",
    )
    .with("allow", allowed.join(", "))
}

pub(crate) fn body_too_large(bytes_max: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "body_too_large",
        format!("expected a body of at most {bytes_max} bytes"),
    )
}

pub(crate) fn body_slow() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        BODY_SLOW,
        "the request's body did not come in time",
    )
}

pub(crate) fn upstream_unreachable() -> Error {
    Error::unavailable(UNREACHABLE, "the service gives no valid answer")
}

pub(crate) fn upstream_timeout() -> Error {
    let text = "the service does not answer in time";
    Error::new(ErrorKind::DeadlineExceeded, "upstream_timeout", text)
}

pub(crate) fn upstream_unhealthy() -> Error {
    Error::unavailable("upstream_unhealthy", "the service is not available now")
}

pub(crate) fn upstream_unresolved() -> Error {
    Error::unavailable("upstream_unresolved", "the service is not available now")
}

pub(crate) fn plugin_slow() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "plugin_slow",
        "the gateway could not tell in time whether the request may go on",
    )
}
