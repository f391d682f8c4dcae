//! Events to test with.

use bytes::Bytes;
use trunkline_bus::TopicSpec;
use trunkline_core::{ByteString, Envelope, Kind, Priority, Timestamp, Version};

/// A topic with so many partitions that keeps everything.
pub fn topic(name: &str, partitions: u16) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        partitions,
        retention: None,
        retention_bytes: None,
        groups: Vec::new(),
    }
}

/// An event for `topic` with `key`, whose id is `id` and whose data is the JSON text `data`.
pub fn event(topic: &str, key: &str, id: &str, data: impl Into<Bytes>) -> Envelope {
    Envelope {
        id: id.into(),
        event_type: ByteString::from_static("test.happened"),
        version: Version::new(1, 0),
        source: ByteString::from_static("testkit"),
        time: Timestamp::constant(1_767_225_600, 0),
        topic: topic.into(),
        key: Some(key.into()),
        correlation_id: ByteString::from_static("flow-1"),
        causation_id: None,
        trace: None,
        user_id: None,
        kind: Kind::Domain,
        priority: Priority::Medium,
        content_type: ByteString::from_static("application/json"),
        extensions: Vec::new(),
        data: data.into(),
    }
}

/// The `number`th event of `key`: its id is `{key}/{number}` and its data the number.
pub fn numbered(topic: &str, key: &str, number: usize) -> Envelope {
    event(topic, key, &format!("{key}/{number}"), number.to_string())
}
