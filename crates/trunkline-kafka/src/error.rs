//! Kafka's failures as errors of the port.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use trunkline_core::{Error, ErrorKind, Retry};

/// What failed while doing something.
pub(crate) fn kafka(doing: &'static str, error: KafkaError) -> Error {
    let code = match &error {
        KafkaError::AdminOp(code) => Some(*code),
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => {
            return Error::invalid("kafka_config_invalid", doing).with_source(error);
        }
        other => other.rdkafka_error_code(),
    };
    match code {
        Some(code) => of_code(doing, code),
        None => Error::unavailable("kafka_failed", doing).with_source(error),
    }
}

/// What a code of the protocol or the client library means to a caller.
pub(crate) fn of_code(doing: &'static str, code: Code) -> Error {
    let (kind, name, retry) = match code {
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId => (ErrorKind::NotFound, "kafka_topic_unknown", None),
        Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => (ErrorKind::Unauthenticated, "kafka_credentials", None),
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => (ErrorKind::PermissionDenied, "kafka_denied", None),
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
            (ErrorKind::TooLarge, "kafka_event_too_large", None)
        }
        Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::InvalidRecord
        | Code::PolicyViolation => (ErrorKind::InvalidInput, "kafka_refused", None),
        Code::NotImplemented | Code::BadCompression => (
            ErrorKind::Unsupported,
            "kafka_compression_unsupported",
            None,
        ),
        Code::InconsistentGroupProtocol => (ErrorKind::Conflict, "kafka_group_in_use", None),
        Code::QueueFull | Code::ThrottlingQuotaExceeded => {
            (ErrorKind::Overloaded, "kafka_overloaded", None)
        }
        // The broker may have the message although nobody heard of it.
        Code::PurgeInflight | Code::RequestTimedOut | Code::MessageTimedOut | Code::Fatal => (
            ErrorKind::Unavailable,
            "kafka_unconfirmed",
            Some(Retry::Unknown),
        ),
        _ => (ErrorKind::Unavailable, "kafka_unavailable", None),
    };
    let error = Error::new(kind, name, doing).with_source(code);
    match retry {
        Some(retry) => error.with_retry(retry),
        None => error,
    }
}

pub(crate) fn closed() -> Error {
    Error::unavailable("transport_closed", "the connection to Kafka is closed")
}

/// The brokers said nothing within the limit.
pub(crate) fn silent(doing: &'static str) -> Error {
    Error::unavailable("kafka_unreachable", doing).with_retry(Retry::Unknown)
}

pub(crate) fn unknown_topic(topic: &str) -> Error {
    let message = "the topic is not declared: the cluster has none of this name";
    Error::not_found("kafka_topic_unknown", message).with("topic", topic)
}

/// The same failure once more.
pub(crate) fn again(error: &Error) -> Error {
    let mut copy = Error::new(
        error.kind(),
        error.code().to_owned(),
        error.message().to_owned(),
    )
    .with_retry(error.retry());
    for (key, value) in error.context() {
        copy = copy.with(key, value);
    }
    match std::error::Error::source(error) {
        Some(cause) => copy.with("cause", cause),
        None => copy,
    }
}
