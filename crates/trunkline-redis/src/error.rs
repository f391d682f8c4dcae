//! Redis's failures as errors of the port.

use redis::{RedisError, ServerErrorKind, Value};
use trunkline_core::{Error, ErrorKind, Result, Retry};

/// What failed, and what Redis said.
#[cold]
pub(crate) fn redis(doing: &'static str, error: RedisError) -> Error {
    if let Some(mapped) = by_code(doing, &code_of(&error)) {
        return mapped.with_source(error);
    }
    let io = error.is_io_error() || error.is_connection_dropped() || error.is_timeout();
    let mapped = if error.kind() == redis::ErrorKind::AuthenticationFailed {
        // The client says this also when the server went away during the handshake.
        unauthenticated()
    } else if io || error.is_unrecoverable_error() {
        // The request may have been carried out; only its answer is known to be missing.
        Error::unavailable("redis_unreachable", doing).with_retry(Retry::Unknown)
    } else if error.to_string().contains("DB index is out of range") {
        let message =
            "the database does not exist; expected a number below the server's `databases`";
        Error::not_found("redis_db_missing", message)
    } else {
        Error::new(ErrorKind::Internal, "redis_refused", doing)
    };
    mapped.with_source(error)
}

fn by_code(doing: &'static str, code: &str) -> Option<Error> {
    let away = |code, message| Error::unavailable(code, message);
    Some(match code {
        "NOAUTH" | "WRONGPASS" => unauthenticated(),
        "NOPERM" => {
            let message =
                "the user may not do this; expected an ACL that permits the commands and keys";
            Error::new(ErrorKind::PermissionDenied, "redis_not_permitted", message)
        }
        "OOM" => away(
            "redis_out_of_memory",
            "the server is at its `maxmemory` and takes nothing more",
        ),
        "MISCONF" => away(
            "redis_cannot_save",
            "the server can't write to its disk and takes nothing more",
        ),
        "NOREPLICAS" => away("redis_no_replicas", "too few replicas follow the server"),
        "LOADING" => away("redis_loading", "the server is loading its data"),
        "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "UNBLOCKED" => {
            away("redis_not_ready", doing)
        }
        "NOGROUP" => away(
            "redis_group_lost",
            "the group is gone: its stream was deleted or the server lost its data",
        ),
        "WRONGTYPE" => {
            let message = "a key is of another type than expected: it is somebody else's";
            Error::conflict("redis_wrong_type", message)
        }
        "MOVED" | "ASK" | "CROSSSLOT" => {
            let message = "the server is part of a cluster, which this transport does not speak to";
            Error::new(ErrorKind::Unsupported, "redis_cluster", message)
        }
        _ => return None,
    })
}

fn unauthenticated() -> Error {
    let message = "the server refuses the user or password of the URL";
    Error::new(ErrorKind::Unauthenticated, "redis_credentials", message)
}

/// The code that the server gave. A transaction was aborted for what its first command was refused for.
fn code_of(error: &RedisError) -> String {
    if error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoPerm) {
        return "NOPERM".to_owned();
    }
    let first = error.clone().into_server_errors();
    let first = first.as_ref().and_then(|errors| errors.first());
    let code = first.map(|(_, error)| error.code()).or(error.code());
    code.unwrap_or_default().to_owned()
}

/// The value, if it is not an error that the server put in its place.
pub(crate) fn value(doing: &'static str, value: Value) -> Result<Value> {
    match value {
        Value::ServerError(error) => Err(redis(doing, error.into())),
        value => Ok(value),
    }
}

pub(crate) fn closed() -> Error {
    Error::unavailable("transport_closed", "the transport is closed")
}

/// The server did not answer in time; what was asked of it may have happened.
pub(crate) fn late(doing: &'static str) -> Error {
    Error::unavailable("redis_timeout", doing).with_retry(Retry::Unknown)
}

/// An answer that no Redis gives.
#[cold]
pub(crate) fn odd(doing: &'static str) -> Error {
    Error::internal("an answer of another shape than expected").with("to", doing)
}

pub(crate) fn not_declared(topic: &str) -> Error {
    Error::not_found("topic_not_declared", "the topic was not declared").with("topic", topic)
}

/// The same failure for another who waited.
pub(crate) fn again(error: &Error) -> Error {
    let copy = Error::new(
        error.kind(),
        error.code().to_owned(),
        error.message().to_owned(),
    )
    .with_retry(error.retry());
    let copy = error
        .context()
        .fold(copy, |copy, (key, value)| copy.with(key, value));
    match std::error::Error::source(error) {
        Some(cause) => copy.with("cause", cause),
        None => copy,
    }
}
