//! The client's errors as ours.

use async_nats::ConnectErrorKind;
use async_nats::jetstream;
use async_nats::jetstream::context::{PublishErrorKind, RequestError, RequestErrorKind};
use trunkline_core::{Error, ErrorKind, Retry};

/// The transport was closed.
pub(crate) fn closed() -> Error {
    Error::unavailable("transport_closed", "the transport was closed")
}

/// The connection was lost; what was under way may have happened.
pub(crate) fn lost() -> Error {
    Error::unavailable("nats_connection_lost", "the connection to NATS was lost")
        .with_retry(Retry::Unknown)
}

/// No answer came in time.
pub(crate) fn late(what: &'static str) -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "nats_no_answer",
        "NATS did not answer in time",
    )
    .with("request", what)
}

/// The connection was not made.
pub(crate) fn connect(error: async_nats::ConnectError, servers: &[String]) -> Error {
    let servers = servers.join(",");
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => Error::new(
            ErrorKind::Unauthenticated,
            "nats_credentials_refused",
            "NATS refused the credentials: expected the user and password, or the token, of its configuration",
        )
        .with("servers", servers),
        _ => Error::unavailable("nats_unreachable", "NATS can't be reached")
            .with("servers", servers)
            .with_source(error),
    }
}

/// A request to JetStream's API was not answered.
pub(crate) fn request(what: &'static str, error: RequestError) -> Error {
    match error.kind() {
        RequestErrorKind::TimedOut => late(what).with_source(error),
        RequestErrorKind::NoResponders => no_jetstream().with("request", what),
        _ => lost().with("request", what).with_source(error),
    }
}

/// Nobody answers for JetStream's API.
fn no_jetstream() -> Error {
    Error::unavailable(
        "nats_jetstream_away",
        "JetStream does not answer: it is not ready, or not enabled for this account",
    )
}

/// JetStream is not there at all.
pub(crate) fn disabled(servers: &[String]) -> Error {
    let message = "expected a server with JetStream enabled (`nats-server --jetstream`, and for this account)";
    Error::new(ErrorKind::Unsupported, "nats_jetstream_disabled", message)
        .with("servers", servers.join(","))
}

/// JetStream refused a request.
pub(crate) fn refused(what: &'static str, error: jetstream::Error) -> Error {
    let kind = match error.code() {
        404 => ErrorKind::NotFound,
        // Its storage is full, or a cluster has no leader now.
        503 | 500 => ErrorKind::Unavailable,
        _ => ErrorKind::InvalidInput,
    };
    Error::new(kind, "nats_refused", "JetStream refused a request")
        .with("request", what)
        .with_source(error)
}

/// A topic that no stream stands for.
pub(crate) fn undeclared(topic: &str, stream: &str) -> Error {
    Error::not_found(
        "topic_unknown",
        "the topic was not declared: its stream does not exist",
    )
    .with("topic", topic)
    .with("stream", stream)
}

/// A publish was not confirmed.
pub(crate) fn publish(error: jetstream::context::PublishError) -> Error {
    match error.kind() {
        PublishErrorKind::TimedOut => late("publish"),
        PublishErrorKind::StreamNotFound => no_jetstream().with("request", "publish"),
        PublishErrorKind::BrokenPipe => lost().with("request", "publish"),
        _ => Error::unavailable("nats_publish_refused", "JetStream did not keep an event")
            .with_source(error),
    }
}

/// A subscription to a consumer came to its end.
pub(crate) fn ended(why: &'static str) -> Error {
    Error::unavailable("nats_subscription_ended", "the subscription has ended").with("reason", why)
}
