//! A line as an object of JSON, written as it is read.

use std::cell::Cell;
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
/// What a longer line took is not kept.
const KEPT_BYTES_MAX: usize = 4_096;

thread_local! {
    /// Where a thread makes its lines.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

/// Writes an event as one line.
pub(super) fn write(to: &mut dyn Write, now: Timestamp, event: &Event<'_>) -> fmt::Result {
    // One that a value writes while it is written has a text of its own.
    let mut line = LINE.take();
    line.clear();
    let made = make(&mut line, now, event);
    let written = made.and_then(|()| to.write_str(&line));
    if line.capacity() <= KEPT_BYTES_MAX {
        LINE.set(line);
    }
    written
}

fn make(line: &mut String, now: Timestamp, event: &Event<'_>) -> fmt::Result {
    let meta: &Metadata<'_> = event.metadata();
    write!(line, "{{\"timestamp\":\"{now:.6}\",\"level\":\"")?;
    line.push_str(meta.level().as_str());
    line.push_str("\",\"target\":");
    text(line, meta.target());
    let mut object = Object {
        line,
        names: Vec::with_capacity(FIELDS),
        written: Ok(()),
    };
    event.record(&mut object);
    if !object.names.contains(&MESSAGE) {
        object.text(MESSAGE, "");
    }
    if let Some(scope) = Scope::current() {
        object.text("service", &scope.service);
        if !scope.correlation_id.is_empty() {
            object.text("correlation_id", &scope.correlation_id);
        }
        object.bare("trace_id", format_args!("\"{:032x}\"", scope.trace_id));
    }
    object.written?;
    line.push_str("}\n");
    Ok(())
}

/// The fields of an event: the first value of a name stays.
struct Object<'a> {
    line: &'a mut String,
    names: Vec<&'static str>,
    written: fmt::Result,
}

impl Object<'_> {
    /// Whether it is written; then its value follows.
    fn begins(&mut self, name: &'static str) -> bool {
        if OURS.contains(&name) || self.names.contains(&name) {
            return false;
        }
        self.names.push(name);
        self.line.push(',');
        text(self.line, name);
        self.line.push(':');
        true
    }

    fn text(&mut self, name: &'static str, value: &str) {
        if self.begins(name) {
            text(self.line, value);
        }
    }

    /// What is no text, or has its quotes.
    fn bare(&mut self, name: &'static str, value: fmt::Arguments<'_>) {
        if self.begins(name) {
            self.written = self.written.and(self.line.write_fmt(value));
        }
    }
}

impl Visit for Object<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.begins(field.name()) {
            self.line.push('"');
            let written = write!(Inside(self.line), "{value:?}");
            self.line.push('"');
            self.written = self.written.and(written);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field.name(), format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field.name(), format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match Number::from_f64(value) {
            Some(number) => self.bare(field.name(), format_args!("{number}")),
            None => self.bare(field.name(), format_args!("null")),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field.name(), format_args!("{value}"));
    }
}

fn text(line: &mut String, text: &str) {
    line.push('"');
    escape(line, text);
    line.push('"');
}

/// The inside of a string (RFC 8259, 7).
struct Inside<'a>(&'a mut String);

impl Write for Inside<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

fn is_odd(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn escape(line: &mut String, text: &str) {
    // Nearly all are plain, and this is done without a branch for each byte.
    if !text.bytes().fold(false, |odd, byte| odd | is_odd(byte)) {
        return line.push_str(text);
    }
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // Writing to a String can't fail.
            '\0'..='\u{1f}' => drop(write!(line, "\\u{:04x}", u32::from(c))),
            plain => line.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_character_alone_comes_back_as_it_was() {
        for c in '\0'..='\u{ff}' {
            let mut line = String::new();
            text(&mut line, &c.to_string());
            let read: String = serde_json::from_str(&line).unwrap();
            assert_eq!(read, c.to_string());
        }
    }
}
