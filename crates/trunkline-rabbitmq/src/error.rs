//! RabbitMQ's failures as errors of the port.

use std::io;

use trunkline_core::{Error, ErrorKind, Retry};

/// The socket failed or was closed; what was asked for may have happened.
#[cold]
pub(crate) fn lost(error: io::Error) -> Error {
    let message = "the connection to the server is lost";
    Error::unavailable("rabbitmq_unreachable", message)
        .with_retry(Retry::Unknown)
        .with_source(error)
}

/// The server closed a channel or the connection, with its code and text.
#[cold]
pub(crate) fn refused(code: u16, text: &str) -> Error {
    let error = match code {
        403 if text.contains("Login was refused") => {
            let message = "the server refuses the user or password of the URL";
            Error::new(ErrorKind::Unauthenticated, "rabbitmq_credentials", message)
        }
        530 if text.contains("not found") => {
            let message = "the virtual host of the URL does not exist";
            Error::not_found("rabbitmq_vhost_missing", message)
        }
        403 | 530 => {
            let message =
                "the user may not do this; expected permissions to configure, write and read";
            Error::new(
                ErrorKind::PermissionDenied,
                "rabbitmq_not_permitted",
                message,
            )
        }
        404 => Error::not_found("rabbitmq_missing", "an exchange or queue does not exist"),
        406 if text.contains("timed out") => {
            let message = "a delivery was unsettled for longer than the server's consumer_timeout";
            Error::unavailable("rabbitmq_consumer_timeout", message)
        }
        405 | 406 => {
            let message = "an exchange or queue exists with other properties";
            Error::conflict("rabbitmq_conflict", message)
        }
        311 => {
            let message = "the message is larger than the server takes";
            Error::new(ErrorKind::TooLarge, "rabbitmq_too_large", message)
        }
        320 => Error::unavailable("rabbitmq_shutting_down", "the server closes connections"),
        541 | 506 => Error::unavailable("rabbitmq_not_ready", "the server can't do this now"),
        _ => Error::internal("the server refuses what was sent"),
    };
    error.with("server_code", code).with("server_said", text)
}

pub(crate) fn closed() -> Error {
    Error::unavailable("transport_closed", "the transport is closed")
}

/// The server did not answer in time; what was asked of it may have happened.
#[cold]
pub(crate) fn late(doing: &'static str) -> Error {
    Error::unavailable("rabbitmq_timeout", doing).with_retry(Retry::Unknown)
}

/// Bytes that no RabbitMQ sends.
#[cold]
pub(crate) fn odd(what: &'static str) -> Error {
    Error::internal("the server does not speak AMQP 0.9.1 as expected").with("in", what)
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
