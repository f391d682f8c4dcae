//! The fields' values.

use bytestring::ByteString;
use jiff::Timestamp;

use super::form::{Rule, Slot};
use crate::{Envelope, Kind, Priority, TraceContext, Version};

/// A field's value before it is a text.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Kept(&'a ByteString),
    Fixed(&'static str),
    Version(Version),
    Time(Timestamp),
    Seconds(Timestamp),
    Trace(TraceContext),
    TraceId(u128),
    SpanId(u64),
}

impl Value<'_> {
    pub(crate) fn into_text(self) -> ByteString {
        match self {
            Self::Kept(text) => text.clone(),
            Self::Fixed(text) => ByteString::from_static(text),
            other => other.made().into(),
        }
    }

    /// Hands the text to `take`, without making one where there is one.
    pub(crate) fn with_text(self, take: impl FnOnce(&str)) {
        match self {
            Self::Kept(text) => take(text),
            Self::Fixed(text) => take(text),
            other => take(&other.made()),
        }
    }

    fn made(self) -> String {
        match self {
            Self::Kept(text) => text.to_string(),
            Self::Fixed(text) => text.to_owned(),
            Self::Version(version) => version.to_string(),
            Self::Time(time) => time.to_string(),
            Self::Seconds(time) => super::seconds::write(time),
            Self::Trace(trace) => trace.to_string(),
            Self::TraceId(id) => format!("{id:032x}"),
            Self::SpanId(id) => format!("{id:016x}"),
        }
    }
}

/// A field's value, if it has one that must be written; what reading would assume without it need not be,
/// where the field is [`Rule::Ours`].
pub(crate) fn value(slot: Slot, rule: Rule, envelope: &Envelope) -> Option<Value<'_>> {
    let unless = |assumed: bool, value| (!(assumed && rule == Rule::Ours)).then_some(value);
    match slot {
        Slot::SpecVersion => Some(Value::Fixed("1.0")),
        Slot::Id => Some(Value::Kept(&envelope.id)),
        Slot::Type => Some(Value::Kept(&envelope.event_type)),
        Slot::Version if envelope.version == Version::new(1, 0) => Some(Value::Fixed("1.0")),
        Slot::Version => Some(Value::Version(envelope.version)),
        Slot::Time => Some(Value::Time(envelope.time)),
        Slot::Seconds => Some(Value::Seconds(envelope.time)),
        Slot::Source => Some(Value::Kept(&envelope.source)),
        Slot::Correlation => {
            let flow = &envelope.correlation_id;
            unless(*flow == envelope.id, Value::Kept(flow))
        }
        Slot::Causation => envelope.causation_id.as_ref().map(Value::Kept),
        Slot::TraceId => envelope.trace.map(|trace| Value::TraceId(trace.trace_id)),
        Slot::SpanId => envelope.trace.map(|trace| Value::SpanId(trace.span_id)),
        Slot::TraceParent => envelope.trace.map(Value::Trace),
        Slot::User => envelope.user_id.as_ref().map(Value::Kept),
        Slot::Key => envelope.key.as_ref().map(Value::Kept),
        Slot::Kind => {
            let kind = match envelope.kind {
                Kind::Domain => "domain",
                Kind::Integration => "integration",
                Kind::Command => "command",
                Kind::System => "system",
            };
            unless(envelope.kind == Kind::Domain, Value::Fixed(kind))
        }
        Slot::Priority => {
            let priority = match envelope.priority {
                Priority::Low => "low",
                Priority::Medium => "medium",
                Priority::High => "high",
            };
            let assumed = envelope.priority == Priority::Medium;
            unless(assumed, Value::Fixed(priority))
        }
        Slot::ContentType => {
            let content_type = &envelope.content_type;
            let assumed = content_type == "application/json";
            unless(assumed, Value::Kept(content_type))
        }
        Slot::Data | Slot::DataBase64 | Slot::Metadata => None,
    }
}
