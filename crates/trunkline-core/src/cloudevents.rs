//! CloudEvents 1.0 in binary mode: attributes in headers, data as the body.
//!
//! Structured mode is [`Dialect::CloudEvents`](crate::Dialect::CloudEvents). In binary mode each
//! protocol has its own prefix (`ce-` in HTTP and NATS, `ce_` in Kafka, `cloudEvents:` in AMQP) and
//! its own place for the content type; this module knows neither.
//!
//! ```
//! use trunkline_core::{Arrival, Timestamp, cloudevents};
//!
//! let attributes = [("specversion", "1.0"), ("id", "1"), ("source", "/shop"), ("type", "sold")];
//! let arrival = Arrival::new("sales", Timestamp::UNIX_EPOCH);
//! let event = cloudevents::read(attributes, Some("application/json"), "{}".into(), &arrival)?;
//! let written = cloudevents::attributes(&event);
//! assert!(written.iter().any(|(name, value)| *name == "source" && *value == "/shop"));
//! # Ok::<(), trunkline_core::Error>(())
//! ```
//!
//! # Source
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md> and its protocol bindings.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write;

use bytes::Bytes;
use bytestring::ByteString;

use crate::dialect::{
    Arrival, CLOUD_EVENTS, Draft, Field, Rule, Slot, Text, Value, attribute_text,
    is_attribute_name, slot_value,
};
use crate::{Envelope, Error, Result};

/// The content type of an event in structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// The attributes of an event in binary mode, without `datacontenttype`: that is
/// [`Envelope::content_type`], and the body is [`Envelope::data`].
///
/// # Guarantees
/// Every value is a text, as binary mode has it: an extension that was a number or a truth value
/// comes back as a text. [`Dialect`](crate::Dialect) takes that for no change.
pub fn attributes(event: &Envelope) -> Vec<(ByteString, ByteString)> {
    let mut written = Vec::with_capacity(CLOUD_EVENTS.fields.len() + event.extensions.len());
    for (name, value) in fields(event) {
        written.push((ByteString::from_static(name), value.into_text()));
    }
    for (name, value) in extensions(event) {
        written.push((name.clone(), attribute_text(value)));
    }
    written
}

/// The same attributes in the same order, told to `tell` one by one: for those who copy them anyway.
pub fn each_attribute(event: &Envelope, mut tell: impl FnMut(&str, &str)) {
    for (name, value) in fields(event) {
        value.with_text(|text| tell(name, text));
    }
    for (name, value) in extensions(event) {
        tell(name, &attribute_text(value));
    }
}

/// The attributes that every event may have.
fn fields(event: &Envelope) -> impl Iterator<Item = (&'static str, Value<'_>)> {
    let fields = CLOUD_EVENTS.fields.iter();
    let fields = fields.filter(|field| field.slot != Slot::ContentType);
    fields.filter_map(|field| Some((field.name, slot_value(field.slot, field.rule, event)?)))
}

/// The others that can be attributes, and are not one of those.
fn extensions(event: &Envelope) -> impl Iterator<Item = &(ByteString, ByteString)> {
    let others = event.extensions.iter();
    others.filter(|(name, _)| {
        let taken = || fields(event).any(|(given, _)| *given == **name);
        is_attribute_name(name) && !taken()
    })
}

/// Reads an event in binary mode from its attributes, without their prefix, and its body.
///
/// # Errors
/// `InvalidInput`, code `event_form_invalid`: the facts `field`, `expected` and `found` say what is
/// wrong.
pub fn read<N: AsRef<str>, V: AsRef<str>>(
    attributes: impl IntoIterator<Item = (N, V)>,
    content_type: Option<&str>,
    body: Bytes,
    arrival: &Arrival,
) -> Result<Envelope> {
    let attributes = attributes.into_iter();
    let texts = attributes.map(|(name, value)| (name, ByteString::from(value.as_ref())));
    read_texts(texts, content_type.map(ByteString::from), body, arrival)
}

/// Reads an event whose attributes' texts are at hand: only what the event keeps is kept of them.
#[inline]
pub(crate) fn read_texts<N: AsRef<str>, T: Text>(
    attributes: impl Iterator<Item = (N, T)>,
    content_type: Option<T>,
    body: Bytes,
    arrival: &Arrival,
) -> Result<Envelope> {
    let mut draft = Draft::new(arrival);
    let mut seen = [false; CLOUD_EVENTS.fields.len()];
    let mut next = 0;
    let mut others = BTreeSet::new();
    for (name, value) in attributes {
        let name = name.as_ref();
        let found = find(name, next);
        let is_first = match found {
            Some((at, _)) => {
                next = at + 1;
                seen.get_mut(at)
                    .is_some_and(|seen| !std::mem::replace(seen, true))
            }
            None if !is_attribute_name(name) => {
                return Err(invalid(name, "a name of lower-case letters and digits"));
            }
            None => others.insert(name.to_owned()),
        };
        if !is_first {
            return Err(invalid(name, "one attribute of this name").with("found", "two"));
        }
        let refused = match found {
            Some((_, field)) => match draft.take(field.slot, value) {
                Ok(()) => continue,
                Err((expected, value)) if field.rule != Rule::Ours => {
                    return Err(invalid(name, expected).with("found", value.as_ref()));
                }
                Err((_, value)) => value,
            },
            None => value,
        };
        // No attribute of ours, or one of somebody else's by the same name.
        let value = serde_json::Value::from(refused.as_ref()).to_string();
        draft.envelope.extensions.push((name.into(), value.into()));
    }
    let mut fields = CLOUD_EVENTS.fields.iter().zip(seen);
    let missing = fields.find(|(field, seen)| field.rule == Rule::Required && !seen);
    if let Some((field, _)) = missing {
        return Err(invalid(field.name, "a text").with("found", "nothing"));
    }
    if let Some(content_type) = content_type
        && content_type.as_ref() != &*draft.envelope.content_type
    {
        draft.envelope.content_type = content_type.keep();
    }
    draft.envelope.data = body;
    Ok(draft.finish())
}

/// The field of this name. Attributes mostly come in the order in which we write them, so it is looked for from
/// `next` on.
fn find(name: &str, next: usize) -> Option<(usize, &'static Field)> {
    let fields = || CLOUD_EVENTS.fields.iter().enumerate();
    let mut round = fields().skip(next).chain(fields().take(next));
    let found = round.find(|(_, field)| field.name == name);
    // That one is a member of JSON, and no attribute's name.
    found.filter(|(_, field)| field.slot != Slot::DataBase64)
}

fn invalid(field: &str, expected: &'static str) -> Error {
    Error::invalid(
        "event_form_invalid",
        "not an event in the form of CloudEvents' binary mode",
    )
    .with("field", field)
    .with("expected", expected)
}

/// An attribute's value as an HTTP header's: what is not printable ASCII, a space, `"` or `%` is
/// written as `%` and two digits for each byte.
///
/// # Source
/// CloudEvents HTTP binding 1.0.2, 3.1.3.2.
pub fn to_header(value: &str) -> Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, 0x21..=0x7e) && byte != b'"' && byte != b'%';
    if value.bytes().all(plain) {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len() + 8);
    for byte in value.bytes() {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            write!(text, "%{byte:02X}").unwrap_or_default();
        }
    }
    Cow::Owned(text)
}

/// The value of an attribute that came as an HTTP header: quotes are taken off, and each `%` with
/// two digits is the byte that they name.
///
/// # Errors
/// `InvalidInput` when the bytes are no UTF-8.
pub fn from_header(header: &str) -> Result<Cow<'_, str>> {
    let inner = header
        .strip_prefix('"')
        .and_then(|inner| inner.strip_suffix('"'));
    let quoted = inner.is_some();
    let text = inner.unwrap_or(header);
    let escaped = text.contains('%') || (quoted && text.contains('\\'));
    if !escaped {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let named = hex
            .filter(|_| *first == b'%')
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match (named, tail.split_first()) {
            (Some(byte), _) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (None, Some((second, after))) if quoted && *first == b'\\' => {
                bytes.push(*second);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|error| {
        Error::invalid("header_invalid", "expected UTF-8 behind the percent signs")
            .with_source(error)
    })
}

#[cfg(test)]
mod tests;
