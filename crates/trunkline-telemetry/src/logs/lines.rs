//! How one event becomes one line.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use trunkline_core::{Env, Timestamp};

use super::{Format, json};
use crate::Scope;

pub(super) struct Lines {
    format: Format,
    env: Env,
}

impl Lines {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            env: Env::system(),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = self.env.now();
        match self.format {
            Format::Json => json::write(&mut line, now, event),
            Format::Human => human(&mut line, now, event),
        }
    }
}

/// The line that says how many are missing.
pub(super) fn dropped(format: Format, now: Timestamp, lines: u64) -> String {
    let (target, message) = (
        module_path!(),
        "log lines were dropped: nobody took them in time",
    );
    match format {
        Format::Json => format!(
            "{{\"timestamp\":\"{now:.6}\",\"level\":\"WARN\",\"target\":\"{target}\",\"message\":\"{message}\",\"lines\":{lines}}}\n"
        ),
        Format::Human => format!("{now:.6}  WARN {target}: {message} lines={lines}\n"),
    }
}

fn human(line: &mut Writer<'_>, now: Timestamp, event: &Event<'_>) -> fmt::Result {
    let mut fields = Fields::default();
    event.record(&mut fields);
    if let Some(scope) = Scope::current() {
        fields.add("service", json!(&*scope.service));
        if !scope.correlation_id.is_empty() {
            fields.add("correlation_id", json!(&*scope.correlation_id));
        }
    }
    let meta = event.metadata();
    write!(line, "{now:.6} ")?;
    level(line, *meta.level())?;
    write!(line, " {}: {}", meta.target(), one_line(&fields.message))?;
    for (name, value) in &fields.others {
        match value {
            // People look a flow up, and the flow has the trace.
            _ if *name == "trace_id" => {}
            Value::String(text) => write!(line, " {name}={}", one_line(text))?,
            other => write!(line, " {name}={other}")?,
        }
    }
    writeln!(line)
}

fn level(line: &mut Writer<'_>, level: Level) -> fmt::Result {
    if !line.has_ansi_escapes() {
        return write!(line, "{level:>5}");
    }
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        _ => 2,
    };
    write!(line, "\x1b[{colour}m{level:>5}\x1b[0m")
}

/// What comes from outside can't forge a second line, nor steer a terminal.
fn one_line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            // Writing to a String can't fail.
            let _fits = write!(safe, "{}", c.escape_debug());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// The fields of an event: the first value of a name stays.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, name: &'static str, value: Value) {
        if self.others.iter().all(|(known, _)| *known != name) {
            self.others.push((name, value));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field.name(), text.into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.add(field.name(), value.into());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value.into());
    }
}
