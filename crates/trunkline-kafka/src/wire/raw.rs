//! Records as they are kept: one buffer each, read when it is delivered and again when it is delivered again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use bytestring::ByteString;
use rdkafka::message::{Headers, Message};
use trunkline_bus::unreadable;
use trunkline_core::{
    Arrival, Env, Envelope, Error, Form, Message as Whole, MessageTexts, Result, Timestamp,
};

use super::{CONTENT_TYPE, PREFIX, TRACE};

/// A record that is out of the client library. Cheap to clone.
///
/// # Shape
/// The buffer holds the table (for each text its part and its length, little endian), the record's key, the
/// texts, and the value.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    buffer: Bytes,
    table_bytes: usize,
    key_bytes: Option<usize>,
    texts_bytes: usize,
    content_type: Option<Place>,
    trace: Option<Place>,
    at: Timestamp,
    has_value: bool,
    /// A header's name was no text, so none is known.
    is_broken: bool,
    /// A text begins within a character, if they are a text together.
    is_cut: bool,
}

/// Where a text stands among the key and the texts.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    bytes: usize,
}

impl Place {
    fn of(self, whole: &str) -> Option<&str> {
        whole.get(self.at..self.at + self.bytes)
    }
}

/// Room to copy records with, used again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    table: Vec<u8>,
    texts: Vec<u8>,
    content_type: Option<Place>,
    trace: Option<Place>,
    is_cut: bool,
}

/// What a scratch keeps at most for the next record.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

/// An entry of the table.
const ENTRY_BYTES: usize = 1 + 4;

/// The attributes that every event may have; an entry names its part by the place here, or as follows.
const KNOWN: [&str; 13] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "dataversion",
    "partitionkey",
    "correlationid",
    "causationid",
    "traceparent",
    "userid",
    "eventkind",
    "priority",
];
const CONTENT_TYPE_PART: u8 = 64;
const TRACE_PART: u8 = 65;
/// The name of an attribute that is not known; its text is the next entry's.
const NAME_PART: u8 = 66;
const NAMED_PART: u8 = 67;

impl Scratch {
    fn put(&mut self, part: u8, text: &[u8]) {
        // No record is larger than 2 GiB.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let [a, b, c, d] = length.to_le_bytes();
        self.table.extend_from_slice(&[part, a, b, c, d]);
        self.texts.extend_from_slice(text);
        self.is_cut |= text.first().is_some_and(|byte| byte & 0xc0 == 0x80);
    }

    fn header(&mut self, name: &str, text: &[u8]) {
        let part = match name.strip_prefix(PREFIX) {
            Some(name) => match known(name) {
                Some(part) => part,
                None => {
                    self.put(NAME_PART, name.as_bytes());
                    NAMED_PART
                }
            },
            None if name == CONTENT_TYPE => {
                self.content_type = Some(self.place(text));
                CONTENT_TYPE_PART
            }
            None if name == TRACE => {
                self.trace = Some(self.place(text));
                TRACE_PART
            }
            None => return,
        };
        self.put(part, text);
    }

    /// Where the next text will stand.
    fn place(&self, text: &[u8]) -> Place {
        Place {
            at: self.texts.len(),
            bytes: text.len(),
        }
    }

    fn clear(&mut self) {
        (self.content_type, self.trace, self.is_cut) = (None, None, false);
        for bytes in [&mut self.table, &mut self.texts] {
            bytes.clear();
            bytes.shrink_to(SCRATCH_BYTES_MAX);
        }
    }
}

/// A match compares short texts as numbers.
fn known(name: &str) -> Option<u8> {
    Some(match name {
        "specversion" => 0,
        "id" => 1,
        "source" => 2,
        "type" => 3,
        "time" => 4,
        "dataversion" => 5,
        "partitionkey" => 6,
        "correlationid" => 7,
        "causationid" => 8,
        "traceparent" => 9,
        "userid" => 10,
        "eventkind" => 11,
        "priority" => 12,
        _ => return None,
    })
}

impl Raw {
    /// Copies what is needed of a record.
    pub(crate) fn copy(record: &impl Message, env: &Env, scratch: &mut Scratch) -> Self {
        scratch.clear();
        let key = record.key();
        scratch.texts.extend_from_slice(key.unwrap_or_default());
        // The client library panics at a header whose name is not UTF-8, and a peer must not make us panic.
        let copied = catch_unwind(AssertUnwindSafe(|| {
            let Some(headers) = record.headers() else {
                return;
            };
            let mut index = 0;
            while let Some(header) = headers.try_get(index) {
                scratch.header(header.key, header.value.unwrap_or_default());
                index += 1;
            }
        }));
        let at = record.timestamp().to_millis();
        let at = at.and_then(|at| Timestamp::from_millisecond(at).ok());
        let value = record.payload();
        let parts = [&scratch.table, &scratch.texts, value.unwrap_or_default()];
        Self {
            buffer: parts.concat().into(),
            table_bytes: scratch.table.len(),
            key_bytes: key.map(<[u8]>::len),
            texts_bytes: scratch.texts.len(),
            content_type: scratch.content_type,
            trace: scratch.trace,
            at: at.unwrap_or_else(|| env.now()),
            has_value: value.is_some(),
            is_broken: copied.is_err(),
            is_cut: scratch.is_cut,
        }
    }

    /// Reads it. One that is no event comes as an envelope around its value, with the reason. `arrival` is of its
    /// topic; its time becomes the record's. `place` is its partition and offset.
    #[inline]
    pub(crate) fn read(
        &self,
        form: Form,
        arrival: &mut Arrival,
        place: (i32, i64),
    ) -> (Envelope, Option<Error>) {
        arrival.at = self.at;
        let (mut event, error) = match self.event(form, arrival) {
            Ok(event) => (event, None),
            Err(error) => {
                let (around, error) = self.unreadable(error, &arrival.topic, place);
                (around, Some(error))
            }
        };
        if event.key.is_none() {
            event.key = self.key();
        }
        (event, error)
    }

    #[cold]
    fn unreadable(&self, error: Error, topic: &str, place: (i32, i64)) -> (Envelope, Error) {
        let (partition, offset) = place;
        let place = format!("{topic}/{partition}/{offset}");
        let around = unreadable(topic, place, self.value(), self.at);
        let error = if self.has_value {
            error
        } else {
            error.with("value", "none: the record is a tombstone")
        };
        (around, error)
    }

    #[inline]
    fn event(&self, form: Form, arrival: &Arrival) -> Result<Envelope> {
        if self.is_broken {
            return Err(not_text("a header's name"));
        }
        let table = self.buffer.get(..self.table_bytes).unwrap_or_default();
        let texts = self.table_bytes..self.table_bytes + self.texts_bytes;
        // One look at all texts: if they are a text together, and each begins with a character, so is each.
        let whole = ByteString::try_from(self.buffer.slice(texts)).ok();
        let whole = whole.filter(|_| !self.is_cut);
        let texts = whole.as_ref().and_then(|whole| {
            let rest = whole.get(self.key_bytes.unwrap_or(0)..)?;
            Some((whole, Texts { table, rest }))
        });
        let Some((whole, texts)) = texts else {
            return form.read(self.apart(table)?, arrival);
        };
        let message = MessageTexts {
            whole,
            traceparent: self.trace.and_then(|place| place.of(whole)),
            content_type: self.content_type.and_then(|place| place.of(whole)),
            body: self.value(),
        };
        form.read_texts(Attributes(texts), message, arrival)
    }

    /// The message with each text on its own, where they are no text together.
    #[cold]
    fn apart(&self, mut table: &[u8]) -> Result<Whole> {
        let mut message = Whole {
            body: self.value(),
            ..Whole::default()
        };
        let mut at = self.table_bytes + self.key_bytes.unwrap_or(0);
        let mut name = ByteString::new();
        while let Some((part, length, rest)) = entry(table) {
            let text = ByteString::try_from(self.buffer.slice(at..at + length));
            at += length;
            table = rest;
            match (part, text) {
                (CONTENT_TYPE_PART, Ok(text)) => message.content_type = Some(text),
                (TRACE_PART, Ok(text)) => message.traceparent = Some(text),
                // Whose header it is can't be told; it is not ours.
                (CONTENT_TYPE_PART | TRACE_PART, Err(_)) => {}
                (NAME_PART, Ok(text)) => name = text,
                (part, text) => {
                    let name = match KNOWN.get(usize::from(part)) {
                        Some(known) => ByteString::from_static(known),
                        None => std::mem::take(&mut name),
                    };
                    match text {
                        Ok(text) => message.attributes.push((name, text)),
                        Err(_) => return Err(not_text("a header").with("header", name)),
                    }
                }
            }
        }
        Ok(message)
    }

    fn value(&self) -> Bytes {
        self.buffer.slice(self.table_bytes + self.texts_bytes..)
    }

    /// The key, where it is a text.
    fn key(&self) -> Option<ByteString> {
        let key = self.table_bytes..self.table_bytes + self.key_bytes?;
        ByteString::try_from(self.buffer.slice(key)).ok()
    }
}

fn entry(table: &[u8]) -> Option<(u8, usize, &[u8])> {
    let ([part, length @ ..], rest) = table.split_first_chunk::<ENTRY_BYTES>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    Some((*part, length, rest))
}

/// The parts of a record and their texts.
#[derive(Clone)]
struct Texts<'a> {
    table: &'a [u8],
    rest: &'a str,
}

impl<'a> Iterator for Texts<'a> {
    type Item = (u8, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (part, length, table) = entry(self.table)?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        *self = Self { table, rest };
        Some((part, text))
    }
}

#[derive(Clone)]
struct Attributes<'a>(Texts<'a>);

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (part, text) = self.0.next()?;
            match part {
                CONTENT_TYPE_PART | TRACE_PART => {}
                NAME_PART => return Some((text, self.0.next()?.1)),
                known => return Some((KNOWN.get(usize::from(known))?, text)),
            }
        }
    }
}

fn not_text(field: &'static str) -> Error {
    Error::invalid("event_form_invalid", "the message is no event")
        .with("field", field)
        .with("expected", "UTF-8")
}

#[cfg(test)]
mod tests;
