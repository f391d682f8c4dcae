//! Which field of which dialect is what.

use super::Dialect;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    SpecVersion,
    Id,
    Type,
    Version,
    /// A time in RFC 3339.
    Time,
    /// A time in Unix seconds.
    Seconds,
    Source,
    Correlation,
    Causation,
    /// A trace id alone; one that is no id of W3C's is kept as it is.
    TraceId,
    /// The span that goes with a [`Slot::TraceId`].
    SpanId,
    TraceParent,
    User,
    Key,
    Kind,
    Priority,
    ContentType,
    Data,
    DataBase64,
    /// The object of further fields.
    Metadata,
}

/// How strictly a field is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is always there.
    Required,
    /// The dialect has it: it may be absent, but not malformed.
    Known,
    /// We add it where it says something. A field of this name that reads differently is somebody
    /// else's.
    Ours,
    /// Known, and not written unless it was there.
    Read,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) slot: Slot,
    pub(crate) rule: Rule,
}

const fn field(name: &'static str, slot: Slot, rule: Rule) -> Field {
    Field { name, slot, rule }
}

/// A dialect's fields, in the order in which they are written.
#[derive(Debug)]
pub(crate) struct Form {
    pub(super) dialect: Dialect,
    /// The extension attribute that keeps what only this form can say.
    pub(super) own_attribute: &'static str,
    pub(crate) fields: &'static [Field],
    /// Those within [`Slot::Metadata`], where extension attributes stand too. CloudEvents has none.
    /// Their names are no attribute names, so that no extension is taken for one of them.
    pub(super) metadata: &'static [Field],
}

impl Form {
    /// Whether extension attributes stand within the metadata.
    pub(super) fn has_metadata(&self) -> bool {
        !self.metadata.is_empty()
    }
}

use Rule::{Known, Ours, Read, Required};

pub(crate) static CLOUD_EVENTS: Form = Form {
    dialect: Dialect::CloudEvents,
    own_attribute: "cloudeventsform",
    fields: &[
        field("specversion", Slot::SpecVersion, Required),
        field("id", Slot::Id, Required),
        field("source", Slot::Source, Required),
        field("type", Slot::Type, Required),
        field("time", Slot::Time, Known),
        field("datacontenttype", Slot::ContentType, Known),
        field("dataversion", Slot::Version, Ours),
        field("partitionkey", Slot::Key, Ours),
        field("correlationid", Slot::Correlation, Ours),
        field("causationid", Slot::Causation, Ours),
        field("traceparent", Slot::TraceParent, Ours),
        field("userid", Slot::User, Ours),
        field("eventkind", Slot::Kind, Ours),
        field("priority", Slot::Priority, Ours),
        field("data", Slot::Data, Known),
        field("data_base64", Slot::DataBase64, Known),
    ],
    metadata: &[],
};

pub(super) static TABLIUM: Form = Form {
    dialect: Dialect::Tablium,
    own_attribute: "tabliumform",
    fields: &[
        field("id", Slot::Id, Required),
        field("type", Slot::Type, Required),
        field("version", Slot::Version, Required),
        field("timestamp", Slot::Time, Required),
        field("producer", Slot::Source, Required),
        field("data", Slot::Data, Required),
        field("dataBase64", Slot::DataBase64, Known),
        field("metadata", Slot::Metadata, Known),
    ],
    metadata: &[
        field("correlationId", Slot::Correlation, Known),
        field("traceId", Slot::TraceId, Known),
        field("spanId", Slot::SpanId, Read),
        field("traceParent", Slot::TraceParent, Ours),
        field("causationId", Slot::Causation, Ours),
        field("userId", Slot::User, Ours),
        field("partitionKey", Slot::Key, Ours),
        field("eventKind", Slot::Kind, Ours),
        field("eventPriority", Slot::Priority, Ours),
        field("contentType", Slot::ContentType, Ours),
    ],
};

pub(super) static STOREFRONT: Form = Form {
    dialect: Dialect::Storefront,
    own_attribute: "storefrontform",
    fields: &[
        field("event_id", Slot::Id, Required),
        field("event_type", Slot::Type, Required),
        field("event_version", Slot::Version, Required),
        field("timestamp", Slot::Time, Required),
        field("source_service", Slot::Source, Required),
        field("correlation_id", Slot::Correlation, Required),
        field("data", Slot::Data, Required),
        field("data_base64", Slot::DataBase64, Known),
        field("metadata", Slot::Metadata, Known),
    ],
    metadata: &[
        field("user_id", Slot::User, Known),
        field("trace_id", Slot::TraceId, Known),
        field("span_id", Slot::SpanId, Read),
        field("trace_parent", Slot::TraceParent, Ours),
        field("causation_id", Slot::Causation, Ours),
        field("partition_key", Slot::Key, Ours),
        field("event_kind", Slot::Kind, Ours),
        field("event_priority", Slot::Priority, Ours),
        field("content_type", Slot::ContentType, Ours),
    ],
};

pub(super) static RETAIL: Form = Form {
    dialect: Dialect::Retail,
    own_attribute: "retailform",
    fields: &[
        field("eventId", Slot::Id, Required),
        field("eventType", Slot::Type, Required),
        field("eventVersion", Slot::Version, Required),
        field("source", Slot::Source, Required),
        field("timestamp", Slot::Seconds, Required),
        field("correlationId", Slot::Correlation, Required),
        field("data", Slot::Data, Required),
        field("dataBase64", Slot::DataBase64, Known),
        field("metadata", Slot::Metadata, Ours),
    ],
    metadata: &[
        field("traceParent", Slot::TraceParent, Ours),
        field("causationId", Slot::Causation, Ours),
        field("userId", Slot::User, Ours),
        field("partitionKey", Slot::Key, Ours),
        field("eventKind", Slot::Kind, Ours),
        field("eventPriority", Slot::Priority, Ours),
        field("contentType", Slot::ContentType, Ours),
    ],
};
