//! The compact binary form of an envelope, used by the embedded log, the outbox and dead letters.

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;

use crate::{Envelope, Error, ErrorKind, Kind, Priority, Result, TraceContext, Version};

/// The first byte: which form follows.
const FORM: u8 = 1;

const HAS_KEY: u8 = 1;
const HAS_CAUSATION: u8 = 1 << 1;
const HAS_TRACE: u8 = 1 << 2;
const SAMPLED: u8 = 1 << 3;
const HAS_USER: u8 = 1 << 4;
const HAS_EXTENSIONS: u8 = 1 << 5;
const IS_JSON: u8 = 1 << 6;
const FLAGS: u8 = (1 << 7) - 1;

const JSON: &str = "application/json";

/// Bytes of everything that is not a text or data: form, flags, kind, version, time, trace, lengths.
const FRAME_BYTES: usize = 80;

impl Envelope {
    /// Appends the compact binary form to `into`.
    ///
    /// # Shape
    /// Little endian. Form (1 byte), flags (1), kind in the low and priority in the high half (1),
    /// version as two u16, time as i64 seconds and i32 nanoseconds, then trace id (16) and span id (8)
    /// if there is a trace. Then id, type, source, topic, correlation id, and those of key, causation
    /// id, user id and content type that the flags name, each as a varint length and UTF-8; then the
    /// extensions as a varint count and pairs of texts; then the data, up to the end.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.reserve(self.encoded_bytes_max());
        let json = self.content_type == JSON;
        let flag = |condition: bool, bit: u8| if condition { bit } else { 0 };
        let flags = flag(self.key.is_some(), HAS_KEY)
            | flag(self.causation_id.is_some(), HAS_CAUSATION)
            | flag(self.trace.is_some(), HAS_TRACE)
            | flag(self.trace.is_some_and(|trace| trace.sampled), SAMPLED)
            | flag(self.user_id.is_some(), HAS_USER)
            | flag(!self.extensions.is_empty(), HAS_EXTENSIONS)
            | flag(json, IS_JSON);
        let mut head = [0; 19];
        head[0] = FORM;
        head[1] = flags;
        head[2] = self.kind as u8 | (self.priority as u8) << 4;
        head[3..5].copy_from_slice(&self.version.major.to_le_bytes());
        head[5..7].copy_from_slice(&self.version.minor.to_le_bytes());
        head[7..15].copy_from_slice(&self.time.as_second().to_le_bytes());
        head[15..19].copy_from_slice(&self.time.subsec_nanosecond().to_le_bytes());
        into.extend_from_slice(&head);
        if let Some(trace) = &self.trace {
            into.extend_from_slice(&trace.trace_id.to_le_bytes());
            into.extend_from_slice(&trace.span_id.to_le_bytes());
        }
        for text in [
            &self.id,
            &self.event_type,
            &self.source,
            &self.topic,
            &self.correlation_id,
        ] {
            put_text(into, text);
        }
        for text in [&self.key, &self.causation_id, &self.user_id]
            .into_iter()
            .flatten()
        {
            put_text(into, text);
        }
        if !json {
            put_text(into, &self.content_type);
        }
        if !self.extensions.is_empty() {
            put_length(into, self.extensions.len());
            for (name, value) in &self.extensions {
                put_text(into, name);
                put_text(into, value);
            }
        }
        into.extend_from_slice(&self.data);
    }

    /// No less than the bytes that [`Envelope::encode`] appends, for bounds on sizes and for buffers.
    pub fn encoded_bytes_max(&self) -> usize {
        let optional = |text: &Option<ByteString>| text.as_ref().map_or(0, |text| text.len());
        let extensions: usize = self
            .extensions
            .iter()
            .map(|(name, value)| name.len() + value.len() + 20)
            .sum();
        FRAME_BYTES
            + self.id.len()
            + self.event_type.len()
            + self.source.len()
            + self.topic.len()
            + self.correlation_id.len()
            + optional(&self.key)
            + optional(&self.causation_id)
            + optional(&self.user_id)
            + self.content_type.len()
            + extensions
            + self.data.len()
    }

    /// Reads the compact binary form. Texts and data share `bytes`; nothing is copied, so whoever
    /// keeps a small part of the envelope keeps all of `bytes`.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not what [`Envelope::encode`] writes. The form has no checksum:
    /// where bytes can rot, whoever stores them adds one.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        let mut reader = Reader { rest: bytes };
        let [form, flags, kind_and_priority] = reader.array("head")?;
        if form != FORM {
            return Err(corrupt("form").with("form", form));
        }
        if flags & !FLAGS != 0 || flags & (HAS_TRACE | SAMPLED) == SAMPLED {
            return Err(corrupt("flags"));
        }
        let has = |flag: u8| flags & flag != 0;
        let kind = kind(kind_and_priority & 0x0f)?;
        let priority = priority(kind_and_priority >> 4)?;
        let major = u16::from_le_bytes(reader.array("version")?);
        let minor = u16::from_le_bytes(reader.array("version")?);
        let seconds = i64::from_le_bytes(reader.array("time")?);
        let nanos = i32::from_le_bytes(reader.array("time")?);
        let time = Timestamp::new(seconds, nanos).map_err(|e| corrupt("time").with_source(e))?;
        let trace = if has(HAS_TRACE) {
            Some(reader.trace(has(SAMPLED))?)
        } else {
            None
        };
        Ok(Self {
            kind,
            priority,
            version: Version { major, minor },
            time,
            trace,
            id: reader.text("id")?,
            event_type: reader.text("type")?,
            source: reader.text("source")?,
            topic: reader.text("topic")?,
            correlation_id: reader.text("correlation id")?,
            key: reader.text_if(has(HAS_KEY), "key")?,
            causation_id: reader.text_if(has(HAS_CAUSATION), "causation id")?,
            user_id: reader.text_if(has(HAS_USER), "user id")?,
            content_type: if has(IS_JSON) {
                ByteString::from_static(JSON)
            } else {
                reader.text("content type")?
            },
            extensions: if has(HAS_EXTENSIONS) {
                reader.extensions()?
            } else {
                Vec::new()
            },
            data: reader.rest,
        })
    }
}

#[cold]
fn corrupt(field: &'static str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "envelope_corrupt",
        "the bytes are not an encoded envelope",
    )
    .with("field", field)
}

fn kind(byte: u8) -> Result<Kind> {
    match byte {
        0 => Ok(Kind::Domain),
        1 => Ok(Kind::Integration),
        2 => Ok(Kind::Command),
        3 => Ok(Kind::System),
        _ => Err(corrupt("kind")),
    }
}

fn priority(byte: u8) -> Result<Priority> {
    match byte {
        0 => Ok(Priority::Low),
        1 => Ok(Priority::Medium),
        2 => Ok(Priority::High),
        _ => Err(corrupt("priority")),
    }
}

fn put_length(into: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            return into.push(low);
        }
        into.push(low | 0x80);
    }
}

fn put_text(into: &mut Vec<u8>, text: &ByteString) {
    put_length(into, text.len());
    into.extend_from_slice(text.as_bytes());
}

/// What is left of the bytes.
struct Reader {
    rest: Bytes,
}

impl Reader {
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let array = *self.rest.first_chunk().ok_or_else(|| corrupt(field))?;
        bytes::Buf::advance(&mut self.rest, N);
        Ok(array)
    }

    fn length(&mut self, field: &'static str) -> Result<usize> {
        let mut length: u64 = 0;
        for (index, byte) in self.rest.iter().enumerate().take(9) {
            length |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                // A last byte of zero is a longer way to write the same length.
                if *byte == 0 && index > 0 {
                    break;
                }
                bytes::Buf::advance(&mut self.rest, index + 1);
                return usize::try_from(length).map_err(|_| corrupt(field));
            }
        }
        Err(corrupt(field))
    }

    fn text(&mut self, field: &'static str) -> Result<ByteString> {
        let length = self.length(field)?;
        if length > self.rest.len() {
            return Err(corrupt(field));
        }
        ByteString::try_from(self.rest.split_to(length))
            .map_err(|error| corrupt(field).with_source(error))
    }

    fn text_if(&mut self, present: bool, field: &'static str) -> Result<Option<ByteString>> {
        if present {
            self.text(field).map(Some)
        } else {
            Ok(None)
        }
    }

    fn trace(&mut self, sampled: bool) -> Result<TraceContext> {
        let trace_id = u128::from_le_bytes(self.array("trace")?);
        let span_id = u64::from_le_bytes(self.array("trace")?);
        if trace_id == 0 || span_id == 0 {
            return Err(corrupt("trace"));
        }
        Ok(TraceContext {
            trace_id,
            span_id,
            sampled,
        })
    }

    fn extensions(&mut self) -> Result<Vec<(ByteString, ByteString)>> {
        let count = self.length("extensions")?;
        // Each takes two bytes at least: a count that can't be true asks for no memory.
        if count == 0 || count > self.rest.len() / 2 {
            return Err(corrupt("extensions"));
        }
        let mut extensions = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            extensions.push((self.text("extension name")?, self.text("extension value")?));
        }
        Ok(extensions)
    }
}

#[cfg(test)]
mod tests;
