//! Span records as OTLP's messages.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status, span, status,
};
use trunkline_core::{ByteString, Timestamp, TraceContext};

use crate::{SpanKind, SpanRecord, Value};

/// One request, the spans of each service under its own resource.
pub(super) fn request(
    spans: &[SpanRecord],
    facts: &BTreeMap<String, String>,
) -> ExportTraceServiceRequest {
    let mut by_service: BTreeMap<&ByteString, Vec<&SpanRecord>> = BTreeMap::new();
    for span in spans {
        by_service.entry(&span.service).or_default().push(span);
    }
    let facts: Vec<_> = facts.iter().map(|(key, fact)| text(key, fact)).collect();
    let resource_spans = by_service.iter().map(|(service, spans)| ResourceSpans {
        resource: Some(Resource {
            attributes: [text("service.name", service)]
                .into_iter()
                .chain(facts.iter().cloned())
                .collect(),
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "trunkline".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            }),
            spans: spans.iter().map(|span| encode(span)).collect(),
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    });
    ExportTraceServiceRequest {
        resource_spans: resource_spans.collect(),
    }
}

fn encode(record: &SpanRecord) -> Span {
    let parent = record
        .parent
        .map(|parent| parent.span_id.to_be_bytes().to_vec());
    Span {
        trace_id: record.context.trace_id.to_be_bytes().to_vec(),
        span_id: record.context.span_id.to_be_bytes().to_vec(),
        parent_span_id: parent.unwrap_or_default(),
        name: record.name.to_string(),
        kind: kind(record.kind) as i32,
        start_time_unix_nano: nanos(record.began),
        end_time_unix_nano: nanos(record.ended),
        attributes: record
            .attributes
            .iter()
            .map(|(key, value)| attribute(key, value))
            .collect(),
        links: record.links.iter().map(link).collect(),
        status: record.error.as_ref().map(|error| Status {
            message: error.clone(),
            code: status::StatusCode::Error as i32,
        }),
        ..Span::default()
    }
}

fn kind(kind: SpanKind) -> span::SpanKind {
    match kind {
        SpanKind::Server => span::SpanKind::Server,
        SpanKind::Client => span::SpanKind::Client,
        SpanKind::Producer => span::SpanKind::Producer,
        SpanKind::Consumer => span::SpanKind::Consumer,
        SpanKind::Internal => span::SpanKind::Internal,
    }
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

fn link(to: &TraceContext) -> span::Link {
    span::Link {
        trace_id: to.trace_id.to_be_bytes().to_vec(),
        span_id: to.span_id.to_be_bytes().to_vec(),
        ..span::Link::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, &Value::Text(value.into()))
}

fn attribute(key: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text.to_string()),
        Value::Integer(integer) => any_value::Value::IntValue(*integer),
        Value::Bool(truth) => any_value::Value::BoolValue(*truth),
    };
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
