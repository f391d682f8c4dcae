//! The heads of answers, and the framing of their bodies.

use std::io::Write as _;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderValue, Method, StatusCode};
use hyper::ext::ReasonPhrase;
use trunkline_core::Timestamp;

use super::super::date::dated;
use super::COPY_BYTES_MAX;
use super::read::closes;
use crate::plugin::AnswerHeaders;

/// What most headers have room in.
const HEADER_BYTES: usize = 56;
/// The headers that are written besides those of the answer.
const MORE: usize = 3;

/// Where the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// Before it was whole.
    Broken,
}

impl Framing {
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Broken)
    }

    /// Writes what goes before data, and says what goes behind. What is too much of it is cut off.
    pub(super) fn data(
        &mut self,
        out: &mut Vec<u8>,
        data: &mut Bytes,
        is_last: bool,
    ) -> &'static [u8] {
        match *self {
            Self::Length(left) => {
                data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - data.len() as u64;
                *self = match is_last && left > 0 {
                    true => Self::Broken,
                    false => Self::Length(left),
                };
                b""
            }
            Self::Chunked => {
                if is_last {
                    *self = Self::Length(0);
                }
                if !data.is_empty() {
                    // Writing to memory can't fail.
                    drop(write!(out, "{:x}\r\n", data.len()));
                }
                match (data.is_empty(), is_last) {
                    (true, false) => b"",
                    (true, true) => b"0\r\n\r\n",
                    (false, false) => b"\r\n",
                    (false, true) => b"\r\n0\r\n\r\n",
                }
            }
            Self::Broken => b"",
        }
    }
}

/// An answer that can't be sent: its lengths make no sense, or it is only an informational one.
#[derive(Debug)]
pub(super) struct Unfit;

/// Writes the head of an answer, with what it is told in place of headers of its own, whose body has this length, as far as is known; says how it ends, and whether the connection
/// is kept then.
///
/// # Errors
/// For one that can't be sent.
pub(super) fn head(
    out: &mut Vec<u8>,
    (answer, told): (&Parts, &AnswerHeaders),
    (method, length, keeps): (&Method, Option<u64>, bool),
    now: Timestamp,
) -> Result<(Framing, bool), Unfit> {
    if answer.status.is_informational() {
        return Err(Unfit);
    }
    // Most bodies go with their heads.
    let body_bytes = length.and_then(|length| usize::try_from(length).ok());
    let body_bytes = body_bytes.filter(|bytes| *bytes <= COPY_BYTES_MAX);
    let count = answer.headers.len() + told.iter().len() + MORE;
    out.reserve(count * HEADER_BYTES + body_bytes.unwrap_or_default());
    status(out, answer);
    let (mut given, mut is_dated, mut closes_itself) = (None, false, false);
    let own = answer.headers.iter().filter(|(name, _)| !told.has(name));
    for (name, value) in own.chain(told.iter()) {
        match *name {
            // How the body is sent is this connection's affair.
            TRANSFER_ENCODING => continue,
            CONTENT_LENGTH => {
                let length = number(value).ok_or(Unfit)?;
                if *given.get_or_insert(length) != length {
                    return Err(Unfit);
                }
                continue;
            }
            CONNECTION => closes_itself |= closes(value),
            DATE => is_dated = true,
            _ => {}
        }
        line(out, name.as_str(), value.as_bytes());
    }
    if !keeps && !closes_itself {
        line(out, CONNECTION.as_str(), b"close");
    }
    let framing = framing(out, answer.status, method, (length, given));
    if !is_dated {
        dated(now, |date| line(out, DATE.as_str(), date.as_bytes()));
    }
    out.extend_from_slice(b"\r\n");
    Ok((framing, keeps && !closes_itself))
}

fn status(out: &mut Vec<u8>, answer: &Parts) {
    let own = answer.extensions.get::<ReasonPhrase>();
    if answer.status == StatusCode::OK && own.is_none() {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(answer.status.as_str().as_bytes());
    out.push(b' ');
    let standard = answer.status.canonical_reason().unwrap_or("<none>");
    out.extend_from_slice(own.map_or(standard.as_bytes(), ReasonPhrase::as_bytes));
    out.extend_from_slice(b"\r\n");
}

/// Says where the body ends: by its own length, or else by the one that its head gives.
fn framing(
    out: &mut Vec<u8>,
    status: StatusCode,
    method: &Method,
    (length, given): (Option<u64>, Option<u64>),
) -> Framing {
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Framing::Length(0);
    }
    if *method == Method::HEAD {
        // What GET would be answered; nothing is known of it where only this answer has no body.
        if let Some(length) = given.or(length.filter(|length| *length > 0)) {
            content_length(out, length);
        }
        return Framing::Length(0);
    }
    match length.or(given) {
        Some(length) => {
            content_length(out, length);
            Framing::Length(length)
        }
        None => {
            line(out, TRANSFER_ENCODING.as_str(), b"chunked");
            Framing::Chunked
        }
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn content_length(out: &mut Vec<u8>, length: u64) {
    line(
        out,
        CONTENT_LENGTH.as_str(),
        itoa::Buffer::new().format(length).as_bytes(),
    );
}

fn number(value: &HeaderValue) -> Option<u64> {
    let text = value.as_bytes().trim_ascii();
    // A sign is no digit.
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| is_number);
    number.and_then(|text| text.parse().ok())
}
