//! Spans: one for each hop of the work.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use trunkline_core::{ByteString, Env, Error, Timestamp, TraceContext, report};

/// Makes spans and hands the finished ones to the sinks. Cheap to clone.
#[derive(Clone)]
pub struct Telemetry {
    env: Env,
    sinks: Arc<[Arc<dyn SpanSink>]>,
}

/// Takes finished spans: an exporter, a ring in memory. It never blocks; what it can't take it drops and counts.
pub trait SpanSink: Send + Sync + 'static {
    /// Takes a finished span.
    fn record(&self, span: &SpanRecord);
}

/// What a span stands for, as OpenTelemetry names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// Handles a request from outside.
    Server,
    /// Makes a call.
    Client,
    /// Publishes events.
    Producer,
    /// Handles events.
    Consumer,
    /// Anything inside.
    Internal,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A text.
    Text(ByteString),
    /// An integer.
    Integer(i64),
    /// A truth value.
    Bool(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(ByteString::from_static(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<ByteString> for Value {
    fn from(text: ByteString) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// A finished span.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanRecord {
    /// Its trace and id.
    pub context: TraceContext,
    /// The span that it is part of; none for the root.
    pub parent: Option<TraceContext>,
    /// The service that did the work.
    pub service: ByteString,
    /// What was done, of few different values: a route's template, an event's type.
    pub name: Cow<'static, str>,
    /// What it stands for.
    pub kind: SpanKind,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Facts.
    pub attributes: Vec<(&'static str, Value)>,
    /// Other spans that it follows from: the events of a batch.
    pub links: Vec<TraceContext>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Telemetry {
    /// Telemetry without a sink.
    pub fn new(env: Env) -> Self {
        Self {
            env,
            sinks: Arc::new([]),
        }
    }

    /// The same as [`Telemetry::new`], for those who mean it.
    pub fn disabled(env: Env) -> Self {
        Self::new(env)
    }

    /// Adds a sink.
    #[must_use]
    pub fn with_sink(self, sink: Arc<dyn SpanSink>) -> Self {
        let sinks = self.sinks.iter().cloned().chain([sink]).collect();
        Self {
            env: self.env,
            sinks,
        }
    }

    /// The environment that ids and times come from.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Begins a span: the child of `parent`, or the root of a new trace. One that nobody records is nobody's parent:
    /// its context is its parent's own, so that no span names one that was never recorded.
    pub fn span(
        &self,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        service: &ByteString,
        parent: Option<TraceContext>,
    ) -> Span {
        let recorded = !self.sinks.is_empty() && parent.is_none_or(|parent| parent.sampled);
        let context = match parent {
            Some(parent) if recorded => parent.child(&self.env),
            Some(parent) => parent,
            None => TraceContext::root(&self.env),
        };
        if !recorded {
            return Span {
                context,
                open: None,
            };
        }
        let now = self.env.now();
        let record = SpanRecord {
            context,
            parent,
            service: service.clone(),
            name: name.into(),
            kind,
            began: now,
            ended: now,
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        };
        Span {
            context,
            open: Some(Box::new(Open {
                record,
                telemetry: self.clone(),
            })),
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("sinks", &self.sinks.len())
            .finish_non_exhaustive()
    }
}

/// A piece of work under way; it ends when dropped.
#[derive(Debug)]
pub struct Span {
    context: TraceContext,
    open: Option<Box<Open>>,
}

#[derive(Debug)]
struct Open {
    record: SpanRecord,
    telemetry: Telemetry,
}

impl Span {
    /// Its place in the trace: the parent of whatever it causes.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Whether anybody will see it: whether making a costly attribute is worth it.
    pub fn is_recorded(&self) -> bool {
        self.open.is_some()
    }

    /// Adds a fact.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.open {
            open.record.attributes.push((key, value.into()));
        }
    }

    /// Names another span that it follows from.
    pub fn link(&mut self, to: TraceContext) {
        if let Some(open) = &mut self.open {
            open.record.links.push(to);
        }
    }

    /// Gives it a better name, once that is known.
    pub fn rename(&mut self, name: impl Into<Cow<'static, str>>) {
        if let Some(open) = &mut self.open {
            open.record.name = name.into();
        }
    }

    /// Says that the work failed.
    pub fn fail(&mut self, error: &Error) {
        if let Some(open) = &mut self.open {
            open.record.error = Some(report(error).to_string());
        }
    }

    /// Says that the work failed, where there is no error value. What is known already is kept: a status says less than
    /// the error behind it.
    pub fn fail_with(&mut self, reason: impl Into<String>) {
        if let Some(open) = &mut self.open {
            open.record.error.get_or_insert_with(|| reason.into());
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.record.ended = open.telemetry.env.now();
            for sink in open.telemetry.sinks.iter() {
                sink.record(&open.record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ring;

    #[test]
    fn a_child_keeps_the_trace_and_names_its_parent() {
        let ring = Arc::new(Ring::new(16));
        let telemetry = Telemetry::new(Env::system()).with_sink(ring.clone());
        let service = ByteString::from_static("order-service");
        let root = telemetry.span(SpanKind::Server, "POST /orders", &service, None);
        let mut child = telemetry.span(SpanKind::Client, "call", &service, Some(root.context()));
        child.set("attempt", 1);
        child.fail(&Error::internal("no"));
        child.fail_with("500 Internal Server Error");
        let (root_context, child_context) = (root.context(), child.context());
        drop(child);
        drop(root);
        let spans = ring.spans(root_context.trace_id);
        assert_eq!(spans.len(), 2);
        assert_eq!(spans[0].context, child_context);
        assert_eq!(spans[0].parent, Some(root_context));
        assert_eq!(spans[0].error.as_deref(), Some("no"));
        assert_eq!(spans[1].parent, None);
    }

    #[test]
    fn what_nobody_records_is_nobodys_parent() {
        let service = ByteString::from_static("s");
        let parent = |sampled| TraceContext {
            trace_id: 7,
            span_id: 9,
            sampled,
        };
        let silent = Telemetry::new(Env::system());
        let watched = silent.clone().with_sink(Arc::new(Ring::new(1)));
        for (telemetry, sampled) in [(&silent, true), (&silent, false), (&watched, false)] {
            let parent = parent(sampled);
            let span = telemetry.span(SpanKind::Internal, "x", &service, Some(parent));
            assert!(!span.is_recorded());
            assert_eq!(span.context(), parent);
        }
        let span = watched.span(SpanKind::Internal, "x", &service, Some(parent(true)));
        assert!(span.is_recorded());
        assert_ne!(span.context().span_id, 9);
    }
}
