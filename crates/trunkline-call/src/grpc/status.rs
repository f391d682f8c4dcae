//! Errors as statuses, both ways.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use trunkline_core::{Error, ErrorKind, Retry, report};

use crate::problem::{HIDDEN, is_hidden, parse_retry, retry_name};

/// Whose codes they are, in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "trunkline";
/// A longer message is cut, so that the headers that carry it stay within their bound.
const MESSAGE_BYTES_MAX: usize = 1_024;
/// More facts are left out.
const FACTS_MAX: usize = 16;
/// A longer fact is cut.
const FACT_BYTES_MAX: usize = 128;

/// Facts of ours about the error itself.
const KIND: &str = "kind";
const RETRY: &str = "retry";

/// Each kind, its name on the wire, and the code that carries it. Of several kinds with one code the first is what the
/// code alone means.
const KINDS: [(ErrorKind, &str, Code); 12] = [
    (
        ErrorKind::InvalidInput,
        "invalid_input",
        Code::InvalidArgument,
    ),
    (
        ErrorKind::Unauthenticated,
        "unauthenticated",
        Code::Unauthenticated,
    ),
    (
        ErrorKind::PermissionDenied,
        "permission_denied",
        Code::PermissionDenied,
    ),
    (ErrorKind::NotFound, "not_found", Code::NotFound),
    (ErrorKind::Conflict, "conflict", Code::FailedPrecondition),
    (ErrorKind::Overloaded, "overloaded", Code::ResourceExhausted),
    (ErrorKind::TooLarge, "too_large", Code::ResourceExhausted),
    (ErrorKind::Unavailable, "unavailable", Code::Unavailable),
    (
        ErrorKind::DeadlineExceeded,
        "deadline_exceeded",
        Code::DeadlineExceeded,
    ),
    (ErrorKind::Corrupt, "corrupt", Code::DataLoss),
    (ErrorKind::Unsupported, "unsupported", Code::Unimplemented),
    (ErrorKind::Internal, "internal", Code::Internal),
];

/// The status of an error that a handler ends with. The chain of a failure goes to the log, never out.
pub fn status(error: Error) -> Status {
    let mut status = encode(&error);
    if is_failure(status.code()) {
        tracing::error!(code = error.code(), error = %report(&error), "failed");
    }
    status.set_source(std::sync::Arc::new(error));
    status
}

/// Whether whoever answered is at fault.
pub(crate) fn is_failure(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// An error as a status, with `google.rpc.ErrorInfo`, `RetryInfo` and `BadRequest` as its details.
pub fn encode(error: &Error) -> Status {
    let kind = KINDS.iter().find(|(kind, ..)| *kind == error.kind());
    let (name, code) = kind.map_or(("internal", Code::Internal), |(_, name, code)| {
        (name, *code)
    });
    let hidden = is_hidden(error.kind());
    let mut facts = HashMap::from([
        (KIND.to_owned(), name.to_owned()),
        (RETRY.to_owned(), retry_name(error.retry()).to_owned()),
    ]);
    let mut details = ErrorDetails::new();
    let mut message = HIDDEN.to_owned();
    if !hidden {
        message = cut(error.to_string(), MESSAGE_BYTES_MAX);
        for (key, value) in error.context().take(FACTS_MAX) {
            let value = cut(value.to_owned(), FACT_BYTES_MAX);
            if key == "field" {
                details.add_bad_request_violation(value.clone(), error.message());
            }
            facts.entry(key.replace(' ', "_")).or_insert(value);
        }
    }
    details.set_error_info(error.code().to_ascii_uppercase(), DOMAIN, facts);
    if let Some(pause) = error.retry_after() {
        details.set_retry_info(Some(pause));
    }
    Status::with_error_details(code, message, details)
}

/// The error that a status stands for. One of ours comes back as it was; of another's, the code says what it is.
pub fn error(status: Status) -> Error {
    let details = status.get_error_details();
    let info = details.error_info();
    let ours = info.filter(|info| info.domain == DOMAIN);
    let fact = |name: &str| ours.and_then(|info| info.metadata.get(name));
    let (meant, plain) = of_code(status.code());
    // The kind that is named has to be one that the code can carry.
    let named = KINDS.iter().find(|(_, name, code)| {
        *code == status.code() && fact(KIND).is_some_and(|named| named == name)
    });
    let kind = named.map_or(meant, |(kind, ..)| *kind);
    let code = info.map(|info| info.reason.to_ascii_lowercase());
    let code = code.filter(|code| !code.is_empty() && code.len() <= FACT_BYTES_MAX);
    let mut message = cut(status.message().to_owned(), 4 * MESSAGE_BYTES_MAX);
    if ours.is_none() {
        for violation in details
            .bad_request()
            .into_iter()
            .flat_map(|bad| &bad.field_violations)
        {
            let (field, why) = (&violation.field, &violation.description);
            message = cut(format!("{message}; {field}: {why}"), 4 * MESSAGE_BYTES_MAX);
        }
    }
    let made = Error::new(kind, code.unwrap_or_else(|| plain.to_owned()), message);
    let retry = fact(RETRY).and_then(|name| parse_retry(name));
    let made = match (retry, status.code()) {
        (Some(retry), _) => made.with_retry(retry),
        // Another's word for it does not say that nothing happened.
        (None, Code::Unavailable | Code::Cancelled | Code::Unknown) => {
            made.with_retry(Retry::Unknown)
        }
        (None, _) => made,
    };
    let pause = details.retry_info().and_then(|info| info.retry_delay);
    match pause {
        Some(pause) => made.with_retry_after(pause),
        None => made,
    }
}

/// What a code means by itself.
fn of_code(code: Code) -> (ErrorKind, &'static str) {
    match code {
        Code::Cancelled => (ErrorKind::Unavailable, "cancelled"),
        Code::Unknown | Code::Ok => (ErrorKind::Internal, "unknown"),
        Code::OutOfRange => (ErrorKind::InvalidInput, "out_of_range"),
        Code::AlreadyExists => (ErrorKind::Conflict, "already_exists"),
        Code::Aborted => (ErrorKind::Conflict, "aborted"),
        code => KINDS
            .iter()
            .find(|(.., carrier)| *carrier == code)
            .map_or((ErrorKind::Internal, "unknown"), |(kind, name, _)| {
                (*kind, name)
            }),
    }
}

fn cut(mut text: String, bytes_max: usize) -> String {
    let end = (0..=bytes_max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests;
