//! Traces, metrics, logs and health.
//!
//! A hop (a request, a call, an event handled) opens a [`Span`]; its [`TraceContext`] travels on. When the
//! span ends, its [`SpanRecord`] goes to the sinks, if there are any: without one a span costs two random
//! numbers. Metrics go through the `metrics` facade; their labels are declared names, never ids.

mod health;
mod logs;
mod otlp;
pub mod prometheus;
mod ring;
mod scope;
mod span;

pub use health::{Check, Health, HealthReport};
pub use logs::{Format, LogWriter, init_logs, init_logs_behind};
pub use otlp::{Otlp, export_request};
pub use ring::Ring;
pub use scope::Scope;
pub use span::{Span, SpanKind, SpanRecord, SpanSink, Telemetry, Value};
pub use trunkline_core::TraceContext;
