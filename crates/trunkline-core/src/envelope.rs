//! What travels on the bus.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Error, TraceContext};

/// What an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// Something happened in a service's own domain.
    #[default]
    Domain,
    /// Something other services are meant to act on.
    Integration,
    /// A request to do something; exactly one group handles it.
    Command,
    /// Something of the platform itself.
    System,
}

/// The lane an event takes. High never waits behind low; low is not starved.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Priority {
    /// Bulk work.
    Low,
    /// Everything else.
    #[default]
    Medium,
    /// What somebody waits for.
    High,
}

/// The version of an event type: `major.minor`. A minor step is compatible, a major one is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Incompatible changes.
    pub major: u16,
    /// Compatible changes.
    pub minor: u16,
}

impl Version {
    /// `major.minor`
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::invalid("version_invalid", "expected major.minor, such as 1.0");
        let (major, minor) = text.split_once('.').ok_or_else(bad)?;
        let number = |part: &str| {
            // One way to write each number, so that a version has one text.
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            let plain = digits && (part == "0" || !part.starts_with('0'));
            if plain {
                part.parse().map_err(|_| bad())
            } else {
                Err(bad())
            }
        };
        Ok(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

/// One event as it travels: CloudEvents 1.0 attributes and the bytes of its data, untouched.
///
/// Cloning is cheap: texts and data share their buffers.
///
/// # Source
/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>; each field says which
/// attribute it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// `id`: unique with `source`; ours are UUID v7, others' are kept as they come.
    pub id: ByteString,
    /// `type`: such as `order.created`.
    pub event_type: ByteString,
    /// `dataversion`
    pub version: Version,
    /// `source`: the service that published it, such as `order-service`.
    pub source: ByteString,
    /// `time`: when it happened.
    pub time: Timestamp,
    /// The topic it is published to; not an attribute of the event itself.
    pub topic: ByteString,
    /// `partitionkey`: events of one key stay in order.
    pub key: Option<ByteString>,
    /// `correlationid`: the flow it belongs to.
    pub correlation_id: ByteString,
    /// `causationid`: the id of the event that caused it.
    pub causation_id: Option<ByteString>,
    /// `traceparent`
    pub trace: Option<TraceContext>,
    /// `userid`: the user on whose behalf it happened.
    pub user_id: Option<ByteString>,
    /// `eventkind`
    pub kind: Kind,
    /// `priority`
    pub priority: Priority,
    /// `datacontenttype`: `application/json` unless said otherwise.
    pub content_type: ByteString,
    /// Other extension attributes, in order: name and value as JSON text. A dialect's unknown fields
    /// are kept here too, so that writing it again loses nothing.
    pub extensions: Vec<(ByteString, ByteString)>,
    /// `data`: the payload as it came.
    pub data: Bytes,
}

impl Envelope {
    /// The content type of data that is sealed: a JWE in flattened JSON (RFC 7516, 7.2.2).
    pub const SEALED: &'static str = "application/jose+json";

    /// Whether the data is sealed: nobody reads it without the key.
    pub fn is_sealed(&self) -> bool {
        self.content_type == Self::SEALED
    }

    /// Whether the data is JSON: `application/json`, `text/json` or `…+json`, whatever its parameters.
    pub fn is_json(&self) -> bool {
        is_json(&self.content_type)
    }

    /// An extension attribute's value as JSON text.
    pub fn extension(&self, name: &str) -> Option<&ByteString> {
        self.extensions
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value)
    }

    /// The key within which the event stays in order: its own, or else its id.
    pub fn order_key(&self) -> &ByteString {
        self.key.as_ref().unwrap_or(&self.id)
    }
}

pub(crate) fn is_json(content_type: &str) -> bool {
    let media = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .as_bytes();
    let ends = |suffix: &[u8]| {
        media
            .len()
            .checked_sub(suffix.len())
            .and_then(|at| media.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    ends(b"/json") || ends(b"+json")
}

#[cfg(test)]
mod tests;
