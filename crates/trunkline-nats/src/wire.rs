//! An event as a message of NATS, and back.
//!
//! # Source
//! CloudEvents' NATS protocol binding, 3: attributes in headers `ce-…`, percent-encoded, `datacontenttype` as
//! any other; a header `content-type` says structured mode.

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use bytestring::ByteString;
use trunkline_core::{Arrival, Envelope, Error, Form, Message as WireMessage, Result, Timestamp};

use crate::percent;

const DATA_CONTENT_TYPE: &str = "ce-datacontenttype";
const CONTENT_TYPE: &str = "content-type";
const TRACEPARENT: &str = "traceparent";
const PREFIX: &str = "ce-";
/// The order of the attributes that are not CloudEvents' or ours, where it is not that of their names:
/// headers themselves have no order on their way through the client.
const ORDER: &str = "trunkline-order";

/// Writes an event: its headers and its body. With `dedup`, the server takes it only once.
pub(crate) fn write(form: Form, event: &Envelope, dedup: bool) -> Result<(HeaderMap, Bytes)> {
    let message = form.write(event)?;
    let mut headers = HeaderMap::new();
    let mut name = String::with_capacity(32);
    for (attribute, value) in &message.attributes {
        name.clear();
        name.push_str(PREFIX);
        name.push_str(attribute);
        headers.insert(name.as_str(), &*percent::encode(value));
    }
    if let Some(content_type) = &message.content_type {
        let name = if message.attributes.is_empty() {
            CONTENT_TYPE
        } else {
            DATA_CONTENT_TYPE
        };
        headers.insert(name, &*percent::encode(content_type));
    }
    let names = event.extensions.iter().map(|(name, _)| -> &str { name });
    if !message.attributes.is_empty() && !names.clone().is_sorted() {
        headers.insert(ORDER, names.collect::<Vec<_>>().join(","));
    }
    if let Some(trace) = &message.traceparent {
        headers.insert(TRACEPARENT, &**trace);
    }
    if dedup {
        // An event is its source and its id; a source has no space when it is encoded.
        let id = format!(
            "{} {}",
            percent::encode(&event.source),
            percent::encode(&event.id)
        );
        headers.insert(NATS_MESSAGE_ID, id);
    }
    Ok((headers, message.body))
}

/// Reads a message that came on `topic`.
pub(crate) fn read(
    form: Form,
    topic: &ByteString,
    at: Timestamp,
    message: &Message,
) -> Result<Envelope> {
    let mut read = WireMessage {
        body: message.payload.clone(),
        ..WireMessage::default()
    };
    let (mut content_type, mut order) = (None, None);
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        let Some(value) = values.first().map(|value| value.as_str()) else {
            continue;
        };
        let attribute = name
            .get(..PREFIX.len())
            .filter(|start| start.eq_ignore_ascii_case(PREFIX));
        if attribute.is_some() {
            let attribute = name.get(PREFIX.len()..).unwrap_or_default();
            let value: ByteString = match percent::decode(value) {
                Some(value) => (&*value).into(),
                None => return Err(not_text(name)),
            };
            if attribute.eq_ignore_ascii_case("datacontenttype") {
                read.content_type = Some(value);
            } else {
                let lower = attribute.bytes().any(|byte| byte.is_ascii_uppercase());
                let attribute = if lower {
                    attribute.to_ascii_lowercase().into()
                } else {
                    attribute.into()
                };
                read.attributes.push((attribute, value));
            }
        } else if name.eq_ignore_ascii_case(CONTENT_TYPE) {
            content_type = Some(value.into());
        } else if name == ORDER {
            order = Some(value);
        } else if name.eq_ignore_ascii_case(TRACEPARENT) {
            read.traceparent = Some(value.into());
        }
    }
    read.attributes.sort_unstable();
    if let Some(order) = order {
        let place = |name: &str| order.split(',').position(|ordered| ordered == name);
        read.attributes.sort_by_key(|(name, _)| place(name));
    }
    read.content_type = read.content_type.or(content_type);
    form.read(read, &Arrival::new(topic.clone(), at))
}

fn not_text(header: &str) -> Error {
    Error::invalid(
        "event_form_invalid",
        "a header is not percent-encoded UTF-8",
    )
    .with("field", header)
}

#[cfg(test)]
mod tests {
    use trunkline_core::{Kind, Priority, TraceContext, Version};
    use trunkline_testkit::event;

    use super::*;

    fn message(headers: Option<HeaderMap>, payload: impl Into<Bytes>) -> Message {
        Message {
            subject: "t.0".into(),
            reply: None,
            payload: payload.into(),
            headers,
            status: None,
            description: None,
            length: 0,
        }
    }

    fn rich() -> Envelope {
        let mut event = event("t", "key ü\n\"%41\"", "id 1", r#"{"a":1.10}"#);
        event.version = Version::new(2, 7);
        event.trace = Some(TraceContext {
            trace_id: 7,
            span_id: 9,
            sampled: true,
        });
        event.kind = Kind::Command;
        event.priority = Priority::High;
        event.extensions = vec![
            ("x".into(), "\"y\"".into()),
            ("empty".into(), "\"\"".into()),
        ];
        event
    }

    #[test]
    fn an_event_comes_back_in_every_form() {
        for form in ["binary", "cloudevents", "tablium", "storefront", "retail"] {
            let form: Form = form.parse().unwrap();
            let event = rich();
            let (headers, body) = write(form, &event, true).unwrap();
            let at = event.time;
            let back = read(form, &event.topic, at, &message(Some(headers), body)).unwrap();
            assert_eq!(back.id, event.id, "{form}");
            if matches!(form, Form::Binary) {
                assert_eq!(back, event);
            }
        }
    }

    #[test]
    fn headers_are_those_of_the_binding() {
        let (headers, _) = write(Form::Binary, &rich(), true).unwrap();
        let value = |name: &str| headers.get(name).map(|value| value.as_str());
        assert_eq!(value("ce-specversion"), Some("1.0"));
        assert_eq!(value("ce-partitionkey"), Some("key%20%C3%BC%0A%22%2541%22"));
        assert_eq!(value("ce-datacontenttype"), Some("application/json"));
        assert_eq!(value("content-type"), None);
        assert!(value("traceparent").is_some());
        assert!(value("Nats-Msg-Id").unwrap().ends_with(" id%201"));
        let (headers, _) = write("cloudevents".parse().unwrap(), &rich(), false).unwrap();
        let value = |name: &str| headers.get(name).map(|value| value.as_str());
        assert_eq!(value("content-type"), Some("application/cloudevents+json"));
        assert_eq!(value("Nats-Msg-Id"), None);
    }

    #[test]
    fn names_of_headers_come_in_any_case() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Ce-SpecVersion", "1.0"),
            ("CE-Id", "1"),
            ("Ce-Source", "/s"),
        ] {
            headers.insert(name, value);
        }
        headers.insert("Ce-Type", "sold");
        headers.insert("Content-Type", "text/plain");
        let at = Timestamp::UNIX_EPOCH;
        let event = read(Form::Binary, &"t".into(), at, &message(Some(headers), "hi")).unwrap();
        assert_eq!((&*event.id, &*event.content_type), ("1", "text/plain"));
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        let at = Timestamp::UNIX_EPOCH;
        for body in ["", "hello", "{}", "\u{fffd}"] {
            assert!(read(Form::Binary, &"t".into(), at, &message(None, body)).is_err());
        }
        let mut headers = HeaderMap::new();
        headers.insert("ce-specversion", "1.0");
        headers.insert("ce-id", "%FF");
        assert!(read(Form::Binary, &"t".into(), at, &message(Some(headers), "{}")).is_err());
    }
}
