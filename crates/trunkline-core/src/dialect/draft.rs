//! An envelope that is being read, field by field.

use std::str::FromStr;

use bytes::Bytes;
use bytestring::ByteString;
use uuid::Uuid;

use super::{Arrival, Slot, Text};
use crate::{Envelope, Kind, Priority, TraceContext, Version};

/// An envelope as far as it has been read.
pub(crate) struct Draft {
    pub(crate) envelope: Envelope,
    correlation: Option<ByteString>,
    trace_id: Option<u128>,
    span_id: Option<u64>,
}

impl Draft {
    /// An event that says nothing.
    #[inline]
    pub(crate) fn new(arrival: &Arrival) -> Self {
        let none = ByteString::new;
        Self {
            envelope: Envelope {
                id: none(),
                event_type: none(),
                version: Version::new(1, 0),
                source: none(),
                time: arrival.at,
                topic: arrival.topic.clone(),
                key: None,
                correlation_id: none(),
                causation_id: None,
                trace: None,
                user_id: None,
                kind: Kind::Domain,
                priority: Priority::Medium,
                content_type: ByteString::from_static("application/json"),
                extensions: Vec::new(),
                data: Bytes::new(),
            },
            correlation: None,
            trace_id: None,
            span_id: None,
        }
    }

    /// Takes a field's text; what was expected, and the text again, if it is not that.
    pub(crate) fn take<T: Text>(&mut self, slot: Slot, text: T) -> Result<(), (&'static str, T)> {
        let envelope = &mut self.envelope;
        let is_empty = text.as_ref().is_empty();
        match slot {
            Slot::Id | Slot::Type | Slot::Source if is_empty => {
                return Err(("a text that is not empty", text));
            }
            Slot::ContentType if is_empty => return Err(("a media type", text)),
            Slot::Id => envelope.id = text.keep(),
            Slot::Type => envelope.event_type = text.keep(),
            Slot::Source => envelope.source = text.keep(),
            Slot::Correlation => self.correlation = Some(text.keep()),
            Slot::Causation => envelope.causation_id = Some(text.keep()),
            Slot::User => envelope.user_id = Some(text.keep()),
            Slot::Key => envelope.key = Some(text.keep()),
            Slot::ContentType => envelope.content_type = text.keep(),
            _ => {
                let parsed = self.parse(slot, text.as_ref());
                return parsed.map_err(|expected| (expected, text));
            }
        }
        Ok(())
    }

    /// Takes a field that is kept as what it means; what was expected if it means nothing.
    fn parse(&mut self, slot: Slot, text: &str) -> Result<(), &'static str> {
        let envelope = &mut self.envelope;
        match slot {
            Slot::SpecVersion if text != "1.0" => return Err("1.0"),
            Slot::Version => {
                envelope.version = version(text).ok_or("a version major.minor, such as 1.0")?;
            }
            Slot::Time => {
                envelope.time = super::time::read(text)
                    .ok_or("a time in RFC 3339, such as 2024-01-15T10:30:00Z")?;
            }
            Slot::Seconds => {
                envelope.time = super::seconds::read(text)
                    .ok_or("a number of Unix seconds, such as 1234567890 (not milliseconds)")?;
            }
            Slot::TraceId => self.trace_id = trace_id(text),
            Slot::SpanId => self.span_id = span_id(text),
            Slot::TraceParent => {
                let trace = TraceContext::from_str(text);
                envelope.trace = Some(trace.map_err(|_| "a traceparent of W3C Trace Context")?);
            }
            Slot::Kind => {
                envelope.kind = match text {
                    "domain" => Kind::Domain,
                    "integration" => Kind::Integration,
                    "command" => Kind::Command,
                    "system" => Kind::System,
                    _ => return Err("domain, integration, command or system"),
                }
            }
            Slot::Priority => {
                envelope.priority = match text {
                    "low" => Priority::Low,
                    "medium" => Priority::Medium,
                    "high" => Priority::High,
                    _ => return Err("low, medium or high"),
                }
            }
            // What is a text is taken as it is; the data is the reader's.
            _ => {}
        }
        Ok(())
    }

    /// The envelope, with what follows from what was read: an event that names no flow begins one,
    /// and a trace without a span is as if begun by the span of the trace's own lower half.
    // An envelope has hundreds of bytes: it is finished where it is, and moved as seldom as can be.
    #[inline]
    pub(crate) fn finish(mut self) -> Envelope {
        let envelope = &mut self.envelope;
        envelope.correlation_id = self
            .correlation
            .take()
            .unwrap_or_else(|| envelope.id.clone());
        if let (None, Some(trace_id)) = (envelope.trace, self.trace_id) {
            #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
            let lower = (trace_id as u64).max(1);
            let span_id = self.span_id.unwrap_or(lower);
            envelope.trace = Some(TraceContext {
                trace_id,
                span_id,
                sampled: true,
            });
        }
        self.envelope
    }
}

/// `major.minor`, also without the minor part or with a third that says nothing of compatibility.
fn version(text: &str) -> Option<Version> {
    if text == "1.0" {
        return Some(Version::new(1, 0));
    }
    let mut parts = text.split('.').map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if digits {
            part.parse::<u16>().ok()
        } else {
            None
        }
    });
    let major = parts.next()??;
    let minor = parts.next().unwrap_or(Some(0))?;
    parts.next().unwrap_or(Some(0))?;
    parts.next().is_none().then_some(Version { major, minor })
}

fn trace_id(text: &str) -> Option<u128> {
    let id = if matches!(text.len(), 32 | 36) {
        Uuid::try_parse(text).ok()?
    } else {
        return None;
    };
    (!id.is_nil()).then_some(id.as_u128())
}

fn span_id(text: &str) -> Option<u64> {
    let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex {
        u64::from_str_radix(text, 16).ok().filter(|id| *id != 0)
    } else {
        None
    }
}

/// Whether a name can be that of a CloudEvents attribute.
pub(crate) fn is_attribute_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}
