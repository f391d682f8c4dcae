//! Errors on the wire: RFC 9457 problem details, both ways.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use trunkline_core::{Context, Error, ErrorKind, Retry, report};

use crate::Body;

/// The media type of a problem.
pub const CONTENT_TYPE_PROBLEM: &str = "application/problem+json";

/// An error as a response.
#[derive(Debug)]
pub struct Problem(pub Error);

/// The body of a problem.
///
/// # Source
/// RFC 9457; `code`, `retry`, `kind`, `correlation_id` and `request_id` are extension members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// `about:blank`: the code says what it is.
    #[serde(rename = "type", default = "blank")]
    pub problem_type: String,
    /// The status in words.
    #[serde(default)]
    pub title: String,
    /// The status.
    pub status: u16,
    /// What was wrong, for people.
    #[serde(default)]
    pub detail: String,
    /// The stable code, for programs.
    #[serde(default)]
    pub code: String,
    /// Whether trying again is safe: `permanent`, `transient` or `unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
    /// The kind of the failure where the status does not tell: `corrupt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The flow, to look it up with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The request, to look it up with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

const CORRUPT: &str = "corrupt";

/// What is said instead of the message of a failure.
pub(crate) const HIDDEN: &str =
    "something went wrong here; the log has it under the correlation id";

/// Whether an error's message is for the log alone.
pub(crate) fn is_hidden(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Internal | ErrorKind::Corrupt)
}

/// A problem that was made without its context: what its body says so far. The server's layer says the rest.
#[derive(Clone)]
struct Untold(Details);

/// Why a request failed, for its span: the client is told less. It does not leave the server's layer.
#[derive(Clone)]
struct Failure(String);

fn blank() -> String {
    "about:blank".to_owned()
}

/// The HTTP status of an error.
pub fn status(error: &Error) -> StatusCode {
    match (error.kind(), error.code()) {
        (ErrorKind::Unsupported, "method_not_allowed") => StatusCode::METHOD_NOT_ALLOWED,
        (ErrorKind::InvalidInput, "content_type_unsupported") => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        (ErrorKind::InvalidInput, code) if is_unprocessable(code) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        (ErrorKind::InvalidInput, _) => StatusCode::BAD_REQUEST,
        (ErrorKind::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
        (ErrorKind::PermissionDenied, _) => StatusCode::FORBIDDEN,
        (ErrorKind::NotFound, _) => StatusCode::NOT_FOUND,
        (ErrorKind::Conflict, _) => StatusCode::CONFLICT,
        (ErrorKind::TooLarge, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (ErrorKind::Overloaded, _) => StatusCode::TOO_MANY_REQUESTS,
        (ErrorKind::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
        (ErrorKind::DeadlineExceeded, _) => StatusCode::GATEWAY_TIMEOUT,
        (ErrorKind::Unsupported, _) => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The form was right and the content was not: everything but what can't be read at all.
fn is_unprocessable(code: &str) -> bool {
    !matches!(
        code,
        "json_malformed"
            | "query_invalid"
            | "path_invalid"
            | "body_unreadable"
            | "body_invalid"
            | "header_invalid"
            | "limit_invalid"
            | "cursor_invalid"
            | "request_malformed"
    )
}

/// The response of an error, for work done in `context`. The chain of a defect goes to the log, never out.
pub fn response(error: &Error, context: Option<&Context>) -> Response {
    let status = status(error);
    if status.is_server_error() {
        tracing::error!(
            code = error.code(), error = %report(error),
            correlation_id = context.map(|c| &*c.correlation_id).unwrap_or_default(), "failed"
        );
    }
    let detail = if is_hidden(error.kind()) {
        HIDDEN.to_owned()
    } else {
        error.to_string()
    };
    let mut details = Details {
        problem_type: blank(),
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail,
        code: error.code().to_owned(),
        retry: Some(retry_name(error.retry()).to_owned()),
        kind: (error.kind() == ErrorKind::Corrupt).then(|| CORRUPT.to_owned()),
        correlation_id: None,
        request_id: None,
    };
    if let Some(context) = context {
        details.place(context);
    }
    let mut response = Response::new(body(&details));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_PROBLEM));
    if let Some(seconds) = retry_seconds(error) {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    let allowed = error.context().find(|(key, _)| *key == "allow");
    if let Some(allowed) = allowed.and_then(|(_, value)| HeaderValue::from_str(value).ok()) {
        headers.insert(ALLOW, allowed);
    }
    if status.is_server_error() {
        let failure = Failure(report(error).to_string());
        response.extensions_mut().insert(failure);
    }
    if context.is_none() {
        response.extensions_mut().insert(Untold(details));
    }
    response
}

impl Details {
    fn place(&mut self, context: &Context) {
        self.correlation_id = Some(context.correlation_id.to_string());
        self.request_id = context.request_id.as_ref().map(ToString::to_string);
    }
}

fn body(details: &Details) -> Body {
    Body::from(serde_json::to_vec(details).unwrap_or_default())
}

/// Says in a problem what it was made without, and gives why it failed, if it is one of a failure.
pub(crate) fn complete(response: &mut Response, context: &Context) -> Option<String> {
    if let Some(Untold(mut details)) = response.extensions_mut().remove() {
        details.place(context);
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = body(&details);
    }
    let failure = response.extensions_mut().remove::<Failure>();
    failure.map(|Failure(report)| report)
}

/// `Retry-After` of an error: whole seconds, and no fewer than it asks for.
pub fn retry_seconds(error: &Error) -> Option<u64> {
    let pause = error.retry_after()?;
    Some(pause.as_secs() + u64::from(pause.subsec_nanos() > 0))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        response(&self.0, None)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The error that a response stands for; a body that is no problem is told by its status alone.
pub fn parse(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let error = told(status, body);
    // A date, the header's other form, is no pause until it is compared with a clock: nobody here sends one.
    let pause = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match pause {
        Some(seconds) => error.with_retry_after(Duration::from_secs(seconds)),
        None => error,
    }
}

fn told(status: StatusCode, body: &[u8]) -> Error {
    let kind = kind_of(status);
    let Ok(details) = serde_json::from_slice::<Details>(body) else {
        let message = format!("the service answered {status}");
        return Error::new(kind, "upstream_error", message);
    };
    let code = if details.code.is_empty() {
        "upstream_error".to_owned()
    } else {
        details.code
    };
    let detail = if details.detail.is_empty() {
        details.title
    } else {
        details.detail
    };
    let corrupt = kind == ErrorKind::Internal && details.kind.as_deref() == Some(CORRUPT);
    let kind = if corrupt { ErrorKind::Corrupt } else { kind };
    let error = Error::new(kind, code, detail);
    match details.retry.as_deref().and_then(parse_retry) {
        Some(retry) => error.with_retry(retry),
        None => error,
    }
}

fn kind_of(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        400 | 415 | 422 => ErrorKind::InvalidInput,
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::PermissionDenied,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::Overloaded,
        405 | 501 => ErrorKind::Unsupported,
        502 | 503 => ErrorKind::Unavailable,
        504 => ErrorKind::DeadlineExceeded,
        400..=499 => ErrorKind::InvalidInput,
        _ => ErrorKind::Internal,
    }
}

pub(crate) fn parse_retry(name: &str) -> Option<Retry> {
    [Retry::Permanent, Retry::Transient, Retry::Unknown]
        .into_iter()
        .find(|retry| retry_name(*retry) == name)
}

pub(crate) fn retry_name(retry: Retry) -> &'static str {
    match retry {
        Retry::Permanent => "permanent",
        Retry::Transient => "transient",
        Retry::Unknown => "unknown",
    }
}
