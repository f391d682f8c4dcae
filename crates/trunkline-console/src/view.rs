//! What events and dead letters look like from outside.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use trunkline_bus::DeadLetter;
use trunkline_core::{ByteString, Envelope, Kind, Priority};

/// An event, for people and programs; its data as it came.
#[derive(Debug, Clone, Serialize)]
pub struct EventView {
    id: ByteString,
    #[serde(rename = "type")]
    event_type: ByteString,
    version: String,
    source: ByteString,
    time: Timestamp,
    topic: ByteString,
    key: Option<ByteString>,
    correlation_id: ByteString,
    causation_id: Option<ByteString>,
    traceparent: Option<String>,
    user_id: Option<ByteString>,
    kind: Kind,
    priority: Priority,
    data: Box<RawValue>,
}

impl EventView {
    /// The view of an envelope.
    pub fn of(envelope: &Envelope) -> Self {
        Self {
            id: envelope.id.clone(),
            event_type: envelope.event_type.clone(),
            version: envelope.version.to_string(),
            source: envelope.source.clone(),
            time: envelope.time,
            topic: envelope.topic.clone(),
            key: envelope.key.clone(),
            correlation_id: envelope.correlation_id.clone(),
            causation_id: envelope.causation_id.clone(),
            traceparent: envelope.trace.map(|trace| trace.to_string()),
            user_id: envelope.user_id.clone(),
            kind: envelope.kind,
            priority: envelope.priority,
            data: json(&envelope.data),
        }
    }
}

/// Bytes as JSON where they are JSON, and as a JSON text of what can be read of them where not.
fn json(bytes: &Bytes) -> Box<RawValue> {
    serde_json::from_slice(bytes).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(bytes);
        serde_json::value::to_raw_value(&text).expect("a text is JSON")
    })
}

#[derive(Debug, Serialize)]
pub(crate) struct LetterView {
    #[serde(flatten)]
    letter: DeadLetter,
    event: EventView,
    /// The data before its first edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<Box<RawValue>>,
}

impl LetterView {
    pub(crate) fn of(letter: DeadLetter) -> Self {
        Self {
            event: EventView::of(&letter.envelope),
            original: letter.original.as_ref().map(json),
            letter,
        }
    }
}
