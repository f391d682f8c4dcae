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
/// What is beside a name, with most values.
const ROOM: usize = 44;
/// What a longer line took is not kept.
const KEPT_BYTES_MAX: usize = 4_096;

thread_local! {
    /// What a thread makes its lines with.
    static TOOLS: Cell<Tools> = const { Cell::new(Tools::NONE) };
}

/// What is used from line to line.
struct Tools {
    line: String,
    names: Vec<&'static str>,
    /// The second of the line before, and how it is written.
    second: Option<i64>,
    written: String,
}

impl Tools {
    const NONE: Self = Self {
        line: String::new(),
        names: Vec::new(),
        second: None,
        written: String::new(),
    };
}

impl Default for Tools {
    fn default() -> Self {
        Self::NONE
    }
}

/// Writes an event as one line.
pub(super) fn write(to: &mut dyn Write, now: Timestamp, event: &Event<'_>) -> fmt::Result {
    // One that a value writes while it is written has tools of its own.
    let mut tools = TOOLS.take();
    tools.line.clear();
    let made = make(&mut tools, now, event);
    let written = made.and_then(|()| to.write_str(&tools.line));
    if tools.line.capacity() <= KEPT_BYTES_MAX {
        TOOLS.set(tools);
    }
    written
}

fn make(tools: &mut Tools, now: Timestamp, event: &Event<'_>) -> fmt::Result {
    let meta: &Metadata<'_> = event.metadata();
    tools.line.push_str("{\"timestamp\":\"");
    tools.time(now)?;
    let line = &mut tools.line;
    line.push_str("\",\"level\":\"");
    line.push_str(meta.level().as_str());
    line.push_str("\",\"target\":");
    text(line, meta.target());
    tools.names.clear();
    let mut object = Object {
        line,
        names: &mut tools.names,
        seen: 0,
        written: Ok(()),
    };
    for name in OURS {
        object.is_new(name);
    }
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
    tools.line.push_str("}\n");
    Ok(())
}

impl Tools {
    /// Writes a time to the microsecond. Lines of one second share all but what is smaller.
    fn time(&mut self, now: Timestamp) -> fmt::Result {
        let (second, micros) = (now.as_second(), now.subsec_microsecond());
        let Ok(micros) = u64::try_from(micros) else {
            // Before 1970 seconds count the other way.
            return write!(self.line, "{now:.6}");
        };
        if self.second != Some(second) {
            self.second = None;
            self.written.clear();
            write!(self.written, "{now:.6}")?;
            // The point, the six digits and the Z.
            self.written.truncate(self.written.len().saturating_sub(8));
            self.second = Some(second);
        }
        self.line.push_str(&self.written);
        self.line.push('.');
        digits(&mut self.line, micros, 6);
        self.line.push('Z');
        Ok(())
    }
}

/// The fields of an event: the first value of a name stays.
struct Object<'a> {
    line: &'a mut String,
    names: &'a mut Vec<&'static str>,
    /// A bit for each name, perhaps the same for two.
    seen: u64,
    written: fmt::Result,
}

impl Object<'_> {
    /// Whether no field before had this name.
    fn is_new(&mut self, name: &'static str) -> bool {
        let bit = 1 << (mark(name) % u64::BITS);
        // Names are looked through only where one may be there.
        if self.seen & bit != 0 && self.names.contains(&name) {
            return false;
        }
        self.seen |= bit;
        self.names.push(name);
        true
    }

    /// Whether it is written; then its value follows.
    fn begins(&mut self, name: &'static str) -> bool {
        if !self.is_new(name) {
            return false;
        }
        // A comma, quotes and a colon, and most values.
        self.line.reserve(name.len() + ROOM);
        self.line.push_str(",\"");
        escape(self.line, name);
        self.line.push_str("\":");
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

    fn number(&mut self, name: &'static str, value: u64, is_negative: bool) {
        if self.begins(name) {
            if is_negative {
                self.line.push('-');
            }
            digits(self.line, value, 1);
        }
    }
}

/// A number that most names have for themselves.
fn mark(name: &str) -> u32 {
    let ends = name.bytes().next().zip(name.bytes().next_back());
    let (first, last) = ends.unwrap_or_default();
    u32::from(first) + 5 * u32::from(last) + 11 * u32::try_from(name.len()).unwrap_or(0)
}

/// Writes a number with at least so many digits.
fn digits(line: &mut String, number: u64, least: usize) {
    let mut text = itoa::Buffer::new();
    let text = text.format(number);
    for _ in text.len()..least {
        line.push('0');
    }
    line.push_str(text);
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
        self.number(field.name(), value.unsigned_abs(), value < 0);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field.name(), value, false);
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

/// Whether one of eight bytes is odd: below a number it borrows from its highest bit, equal to one it is nothing without it.
fn has_odd(eight: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let below = |bytes: u64, bound: u64| bytes.wrapping_sub(ONES * bound) & !bytes & HIGHS;
    let is = |byte: u8| below(eight ^ (ONES * u64::from(byte)), 1);
    below(eight, 0x20) | is(b'"') | is(b'\\') != 0
}

/// Whether nothing is odd. Eight bytes are looked at at once, the last ones perhaps twice.
fn is_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return !bytes.iter().any(|byte| is_odd(*byte));
    };
    let (eights, _) = bytes.as_chunks();
    let mut all = eights.iter().chain([last]);
    !all.any(|eight| has_odd(u64::from_ne_bytes(*eight)))
}

fn is_odd(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn escape(line: &mut String, text: &str) {
    // Nearly all are plain.
    if is_plain(text.as_bytes()) {
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

    #[test]
    fn an_odd_byte_is_seen_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for other in [b'a', 0x20, 0x21, 0x7f, 0x80, 0xff, byte] {
                for place in 0..8 {
                    let mut eight = [other; 8];
                    eight[place] = byte;
                    let expected = eight.iter().any(|byte| is_odd(*byte));
                    let found = has_odd(u64::from_ne_bytes(eight));
                    assert_eq!(found, expected, "{eight:?}");
                    let longer = [&[b'a'; 11][..], &eight, b"abc"].concat();
                    for length in 0..longer.len() {
                        let (part, _) = longer.split_at(length);
                        let expected = part.iter().any(|byte| is_odd(*byte));
                        assert_eq!(!is_plain(part), expected, "{part:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_time_is_written_as_it_is_whatever_the_line_before_said() {
        let mut tools = Tools::NONE;
        for micros in [
            1_796_000_000_999_999,
            1_796_000_001_000_000,
            1_796_000_001_000_045,
            1_796_000_001_000_045,
            12,
            0,
            -1,
            -1_500_000,
            1_796_000_001_120_000,
        ] {
            let now = Timestamp::from_microsecond(micros).unwrap();
            tools.line.clear();
            tools.time(now).unwrap();
            assert_eq!(tools.line, format!("{now:.6}"));
        }
    }

    #[test]
    fn a_number_has_its_digits() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut line = String::new();
            digits(&mut line, number, 1);
            assert_eq!(line, number.to_string());
        }
    }
}
