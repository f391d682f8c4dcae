//! Events as Kafka's records.
//!
//! # Source
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>: in binary
//! mode an attribute is a header `ce_` and its name, `datacontenttype` is the header `content-type`, the key is
//! the record's key.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message as _, OwnedHeaders};
use trunkline_bus::unreadable;
use trunkline_core::{
    Arrival, Env, Envelope, Error, Form, Message, Result, Timestamp, cloudevents,
};

const PREFIX: &str = "ce_";
const CONTENT_TYPE: &str = "content-type";
const TRACE: &str = "traceparent";

/// What a record's frame takes at most besides key, value and headers, in a batch of its own.
const FRAME_BYTES: usize = 61 + 32;
/// What a header's lengths take at most.
const HEADER_BYTES: usize = 10;

/// A record's headers and value.
pub(crate) struct Record {
    pub(crate) headers: OwnedHeaders,
    pub(crate) body: Bytes,
    /// The size of the whole record, at most.
    pub(crate) bytes: usize,
}

/// Writes an event. `scratch` is for the names of headers.
pub(crate) fn write(form: Form, event: &Envelope, scratch: &mut String) -> Result<Record> {
    let mut headers = Writing::new(event);
    let body = match form {
        Form::Binary => {
            headers.put(CONTENT_TYPE, &event.content_type);
            scratch.clear();
            scratch.push_str(PREFIX);
            cloudevents::each_attribute(event, |name, value| {
                scratch.truncate(PREFIX.len());
                scratch.push_str(name);
                headers.put(scratch, value);
            });
            if let Some(trace) = event.trace {
                headers.put(TRACE, &trace.to_string());
            }
            event.data.clone()
        }
        Form::Structured(_) => {
            let message = form.write(event)?;
            if let Some(content_type) = &message.content_type {
                headers.put(CONTENT_TYPE, content_type);
            }
            if let Some(trace) = &message.traceparent {
                headers.put(TRACE, trace);
            }
            message.body
        }
    };
    let key_bytes = event.key.as_ref().map_or(0, |key| key.len());
    Ok(Record {
        headers: headers.headers.unwrap_or_default(),
        bytes: FRAME_BYTES + key_bytes + body.len() + headers.bytes,
        body,
    })
}

/// Headers that are being written; the client library keeps a copy of each.
struct Writing {
    /// Always there between two headers.
    headers: Option<OwnedHeaders>,
    bytes: usize,
}

impl Writing {
    fn new(event: &Envelope) -> Self {
        // More than these are rare: the library makes room then.
        const USUAL: usize = 14;
        Self {
            headers: Some(OwnedHeaders::new_with_capacity(
                USUAL + event.extensions.len(),
            )),
            bytes: 0,
        }
    }

    fn put(&mut self, name: &str, value: &str) {
        self.bytes += HEADER_BYTES + name.len() + value.len();
        let header = Header {
            key: name,
            value: Some(value),
        };
        self.headers = self.headers.take().map(|headers| headers.insert(header));
    }
}

/// Reads a record. One that is no event comes as an envelope around its value, with the reason.
pub(crate) fn read(
    form: Form,
    topic: &ByteString,
    record: &BorrowedMessage<'_>,
    env: &Env,
) -> (Envelope, Option<Error>) {
    let at = record.timestamp().to_millis();
    let at = at.and_then(|at| Timestamp::from_millisecond(at).ok());
    let at = at.unwrap_or_else(|| env.now());
    let event = message(record).and_then(|message| {
        let arrival = Arrival::new(topic.clone(), at);
        let mut event = form.read(message, &arrival)?;
        event.topic = topic.clone();
        if event.key.is_none() {
            event.key = key(record);
        }
        Ok(event)
    });
    match event {
        Ok(event) => (event, None),
        Err(error) => {
            let place = format!("{topic}/{}/{}", record.partition(), record.offset());
            let body = Bytes::copy_from_slice(record.payload().unwrap_or_default());
            let mut around = unreadable(topic, place, body, at);
            around.key = key(record);
            let error = match record.payload() {
                Some(_) => error,
                None => error.with("value", "none: the record is a tombstone"),
            };
            (around, Some(error))
        }
    }
}

/// The key, where it is a text.
fn key(record: &BorrowedMessage<'_>) -> Option<ByteString> {
    let key = std::str::from_utf8(record.key()?).ok()?;
    Some(key.into())
}

/// Texts and body share one buffer.
fn message(record: &BorrowedMessage<'_>) -> Result<Message> {
    let payload = record.payload().unwrap_or_default();
    let Some(headers) = record.headers() else {
        return Ok(Message {
            body: Bytes::copy_from_slice(payload),
            ..Message::default()
        });
    };
    // The client library panics at a header whose name is not UTF-8, and a peer must not make us panic.
    let found = catch_unwind(AssertUnwindSafe(|| {
        let known = headers.iter().filter_map(|header| {
            let part = part(header.key)?;
            Some((part, header.value.unwrap_or_default()))
        });
        known.collect::<Vec<_>>()
    }));
    let found = found.map_err(|_| not_text("a header's name"))?;
    let texts_bytes: usize = found.iter().map(|(_, value)| value.len()).sum();
    let mut buffer = BytesMut::with_capacity(texts_bytes + payload.len());
    for (_, value) in &found {
        buffer.put_slice(value);
    }
    buffer.put_slice(payload);
    let mut rest = buffer.freeze();
    let mut message = Message::default();
    message.attributes.reserve_exact(found.len());
    for (part, value) in found {
        let text = ByteString::try_from(rest.split_to(value.len()));
        match (part, text) {
            (Part::Attribute(name), Ok(text)) => message.attributes.push((name, text)),
            (Part::Attribute(name), Err(_)) => {
                return Err(not_text("a header").with("header", name));
            }
            (Part::ContentType, Ok(text)) => message.content_type = Some(text),
            (Part::Trace, Ok(text)) => message.traceparent = Some(text),
            // Whose header it is can't be told; it is not ours.
            (Part::ContentType | Part::Trace, Err(_)) => {}
        }
    }
    message.body = rest;
    Ok(message)
}

enum Part {
    Attribute(ByteString),
    ContentType,
    Trace,
}

/// What a header is for; none where it is not for us.
fn part(name: &str) -> Option<Part> {
    if let Some(attribute) = name.strip_prefix(PREFIX) {
        return Some(Part::Attribute(attribute_name(attribute)));
    }
    match name {
        CONTENT_TYPE => Some(Part::ContentType),
        TRACE => Some(Part::Trace),
        _ => None,
    }
}

/// The attributes that every event has are not copied.
fn attribute_name(name: &str) -> ByteString {
    const KNOWN: [&str; 13] = [
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "dataversion",
        "partitionkey",
        "correlationid",
        "causationid",
        "traceparent",
        "userid",
        "eventkind",
        "priority",
    ];
    match KNOWN.iter().find(|known| **known == name) {
        Some(known) => ByteString::from_static(known),
        None => name.into(),
    }
}

fn not_text(field: &'static str) -> Error {
    Error::invalid("event_form_invalid", "the message is no event")
        .with("field", field)
        .with("expected", "UTF-8")
}
