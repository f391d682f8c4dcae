//! The span of a call of the handler.

use trunkline_core::{ByteString, Envelope, report};
use trunkline_telemetry::{Scope, Span, SpanKind};

use super::call::Ended;
use super::{ConsumerConfig, ConsumerPorts};
use crate::Outcome;

/// An open span, and the scope of the log lines that goes with it.
pub(super) struct Traced {
    span: Span,
    pub(super) scope: Scope,
}

impl Traced {
    /// Opens the span of a call.
    ///
    /// Where events are handled one by one, it is the child of the event's own, and takes its place in the
    /// envelope: what the handler does becomes part of it. A batch is a trace of its own, with links.
    pub(super) fn open(
        config: &ConsumerConfig,
        ports: &ConsumerPorts,
        batch: &mut [Envelope],
        attempt: u32,
    ) -> Self {
        match batch {
            [event] if config.batch_max == 1 => Self::single(config, ports, event, attempt),
            _ => Self::batch(config, ports, batch),
        }
    }

    fn single(
        config: &ConsumerConfig,
        ports: &ConsumerPorts,
        event: &mut Envelope,
        attempt: u32,
    ) -> Self {
        let telemetry = &ports.telemetry;
        let mut span = telemetry.span(SpanKind::Consumer, "handle", &config.service, event.trace);
        let context = span.context();
        event.trace = Some(context);
        if span.is_recorded() {
            span.rename(format!("handle {}", event.event_type));
            span.set("messaging.consumer.group.name", config.group.clone());
            span.set("messaging.message.id", event.id.clone());
            span.set("messaging.destination.name", event.topic.clone());
            span.set("correlation_id", event.correlation_id.clone());
            span.set("attempt", i64::from(attempt));
        }
        let scope = Scope {
            service: config.service.clone(),
            correlation_id: event.correlation_id.clone(),
            trace_id: context.trace_id,
        };
        Self { span, scope }
    }

    fn batch(config: &ConsumerConfig, ports: &ConsumerPorts, batch: &[Envelope]) -> Self {
        let telemetry = &ports.telemetry;
        let mut span = telemetry.span(SpanKind::Consumer, "handle batch", &config.service, None);
        if span.is_recorded() {
            span.set("messaging.consumer.group.name", config.group.clone());
            let count = i64::try_from(batch.len()).unwrap_or(i64::MAX);
            span.set("messaging.batch.message_count", count);
            for trace in batch.iter().filter_map(|event| event.trace) {
                span.link(trace);
            }
        }
        let scope = Scope {
            service: config.service.clone(),
            correlation_id: ByteString::new(),
            trace_id: span.context().trace_id,
        };
        Self { span, scope }
    }

    /// Ends the span.
    pub(super) fn close(mut self, ended: &Ended) {
        let failure = match ended {
            Ended::Broken(error) => Some(error),
            Ended::Outcomes(outcomes) => outcomes.iter().find_map(|outcome| match outcome {
                Outcome::Failed(error) => Some(error),
                _ => None,
            }),
        };
        if let Some(error) = failure
            && self.span.is_recorded()
        {
            self.span.fail_with(report(error).to_string());
        }
    }
}
