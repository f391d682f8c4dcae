//! An event as a message, and back.

use bytes::Bytes;
use bytestring::ByteString;
use trunkline_bus::unreadable;
use trunkline_core::{Arrival, Env, Envelope, Error, ErrorKind, Form, Message, Result};

use crate::amqp::{Delivered, Value, read_headers};

/// What an attribute's header begins with; `cloudEvents_` is read as well, for clients that can't write a colon.
const PREFIXES: [&str; 2] = ["cloudEvents:", "cloudEvents_"];
const TRACEPARENT: &str = "traceparent";
/// The longest name of a header.
const NAME_BYTES_MAX: usize = 255;

/// The headers, the content type and the body of an event.
pub(crate) struct Written {
    pub(crate) headers: Vec<(ByteString, Value)>,
    pub(crate) content_type: Option<ByteString>,
    pub(crate) body: Bytes,
}

/// Writes an event.
///
/// # Errors
/// `Permanent`: this event can't be written in this form.
pub(crate) fn write(form: Form, event: &Envelope, bytes_max: usize) -> Result<Written> {
    let message = form.write(event)?;
    if message.body.len() > bytes_max {
        let text = "the event is larger than this transport carries";
        let error = Error::new(ErrorKind::TooLarge, "event_too_large", text);
        return Err(error
            .with("bytes", message.body.len())
            .with("bytes_max", bytes_max));
    }
    let mut headers = Vec::with_capacity(message.attributes.len() + 1);
    for (name, value) in message.attributes {
        if name == "datacontenttype" {
            // AMQP has a property for it.
            continue;
        }
        let name = header_name(&name);
        if name.len() > NAME_BYTES_MAX {
            let text = "expected an extension's name of at most 243 bytes";
            return Err(Error::invalid("event_extension_invalid", text).with("found", name));
        }
        headers.push((name, Value::Text(value.into_bytes())));
    }
    if let Some(trace) = message.traceparent {
        let value = Value::Text(trace.into_bytes());
        headers.push((ByteString::from_static(TRACEPARENT), value));
    }
    Ok(Written {
        headers,
        content_type: message.content_type,
        body: message.body,
    })
}

/// `cloudEvents:` and the attribute's name, without making the known ones each time.
fn header_name(attribute: &str) -> ByteString {
    ByteString::from_static(match attribute {
        "specversion" => "cloudEvents:specversion",
        "id" => "cloudEvents:id",
        "source" => "cloudEvents:source",
        "type" => "cloudEvents:type",
        "time" => "cloudEvents:time",
        "subject" => "cloudEvents:subject",
        "dataschema" => "cloudEvents:dataschema",
        "partitionkey" => "cloudEvents:partitionkey",
        other => return format!("cloudEvents:{other}").into(),
    })
}

/// Reads messages.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) form: Form,
    pub(crate) event_bytes_max: usize,
    pub(crate) env: Env,
}

impl Reader {
    /// The event of a message, or an envelope around it and why it is none. `place` says where it was.
    pub(crate) fn read(
        &self,
        topic: &ByteString,
        message: &Delivered,
        place: impl FnOnce() -> String,
    ) -> (Envelope, Option<Error>) {
        let now = self.env.now();
        match self.event(topic, message, now) {
            Ok(event) => (event, None),
            Err(error) => (
                unreadable(topic, place(), message.body.clone(), now),
                Some(error),
            ),
        }
    }

    fn event(
        &self,
        topic: &ByteString,
        delivered: &Delivered,
        now: trunkline_core::Timestamp,
    ) -> Result<Envelope> {
        let bytes = delivered.body.len();
        if bytes > self.event_bytes_max {
            let text = "the message is larger than an event may be";
            let error = Error::new(ErrorKind::TooLarge, "event_too_large", text);
            return Err(error
                .with("bytes", bytes)
                .with("bytes_max", self.event_bytes_max));
        }
        let read = read_headers(delivered.properties.clone());
        let (content_type, headers) =
            read.ok_or_else(|| bad("headers", "AMQP 0.9.1's field table"))?;
        let mut message = Message {
            body: delivered.body.clone(),
            ..Message::default()
        };
        if let Some(content_type) = content_type {
            let text = ByteString::try_from(content_type);
            message.content_type = Some(text.map_err(|_| bad("content_type", "UTF-8"))?);
        }
        for (name, value) in headers {
            let attribute = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
            if let Some(attribute) = attribute {
                let text = text(value).ok_or_else(|| bad(&name, "text, a number or a flag"))?;
                message.attributes.push((attribute.into(), text));
            } else if name == TRACEPARENT {
                message.traceparent = text(value);
            }
        }
        self.form.read(message, &Arrival::new(topic.clone(), now))
    }
}

fn bad(field: &str, expected: &str) -> Error {
    let text = "the message is no event";
    Error::invalid("event_form_invalid", text)
        .with("field", field)
        .with("expected", expected)
}

fn text(value: Value) -> Option<ByteString> {
    match value {
        Value::Text(text) => ByteString::try_from(text).ok(),
        Value::Integer(number) => Some(number.to_string().into()),
        Value::Flag(flag) => Some(flag.to_string().into()),
        Value::Table(_) | Value::Other => None,
    }
}
