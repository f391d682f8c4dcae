//! A line as an object of JSON, written as it is read.

use std::fmt::{self, Write};

use serde_json::Number;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};
use trunkline_core::Timestamp;

use crate::Scope;

/// What the line says by itself: an event can't say otherwise.
const OURS: [&str; 3] = ["timestamp", "level", "target"];
const MESSAGE: &str = "message";
/// Few events have more fields.
const FIELDS: usize = 24;

/// Writes an event as one line.
pub(super) fn write(line: &mut dyn Write, now: Timestamp, event: &Event<'_>) -> fmt::Result {
    let meta: &Metadata<'_> = event.metadata();
    write!(line, "{{\"timestamp\":\"{now:.6}\",\"level\":\"")?;
    line.write_str(meta.level().as_str())?;
    line.write_str("\",\"target\":")?;
    text(line, meta.target())?;
    let mut object = Object {
        line,
        names: Vec::with_capacity(FIELDS),
        written: Ok(()),
    };
    event.record(&mut object);
    if !object.names.contains(&MESSAGE) {
        object.field(MESSAGE, |line| text(line, ""));
    }
    if let Some(scope) = Scope::current() {
        object.field("service", |line| text(line, &scope.service));
        if !scope.correlation_id.is_empty() {
            object.field("correlation_id", |line| text(line, &scope.correlation_id));
        }
        object.field("trace_id", |line| {
            write!(line, "\"{:032x}\"", scope.trace_id)
        });
    }
    object.written?;
    line.write_str("}\n")
}

/// The fields of an event: the first value of a name stays.
struct Object<'a> {
    line: &'a mut dyn Write,
    names: Vec<&'static str>,
    written: fmt::Result,
}

impl Object<'_> {
    fn field(&mut self, name: &'static str, value: impl FnOnce(&mut dyn Write) -> fmt::Result) {
        if self.written.is_err() || OURS.contains(&name) || self.names.contains(&name) {
            return;
        }
        self.names.push(name);
        self.written = (|| {
            self.line.write_char(',')?;
            text(self.line, name)?;
            self.line.write_char(':')?;
            value(self.line)
        })();
    }
}

impl Visit for Object<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field.name(), |line| {
            line.write_char('"')?;
            write!(Inside(line), "{value:?}")?;
            line.write_char('"')
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field.name(), |line| text(line, value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field.name(), |line| write!(line, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field.name(), |line| write!(line, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field.name(), |line| match Number::from_f64(value) {
            Some(number) => write!(line, "{number}"),
            None => line.write_str("null"),
        });
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field.name(), |line| write!(line, "{value}"));
    }
}

fn text(line: &mut dyn Write, text: &str) -> fmt::Result {
    line.write_char('"')?;
    Inside(line).write_str(text)?;
    line.write_char('"')
}

/// The inside of a string (RFC 8259, 7).
struct Inside<'a>(&'a mut dyn Write);

impl Write for Inside<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest
            .bytes()
            .position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\'))
        {
            let (plain, from) = rest.split_at_checked(at).ok_or(fmt::Error)?;
            let mut chars = from.chars();
            let odd = chars.next().ok_or(fmt::Error)?;
            self.0.write_str(plain)?;
            match odd {
                '"' => self.0.write_str("\\\"")?,
                '\\' => self.0.write_str("\\\\")?,
                '\n' => self.0.write_str("\\n")?,
                '\r' => self.0.write_str("\\r")?,
                '\t' => self.0.write_str("\\t")?,
                other => write!(self.0, "\\u{:04x}", u32::from(other))?,
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}
