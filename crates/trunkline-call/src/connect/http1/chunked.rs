//! Chunks of a body (RFC 9112, 7.1).

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::invalid;

/// What a line about a chunk, or all trailers together, may take.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// What lines about chunks may say beside sizes, in all of a body.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;
const TRAILERS_MAX: usize = 100;

/// How far a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunked {
    next: Next,
    extension_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The line with the size of a chunk.
    Size,
    /// So much of a chunk.
    Data(u64),
    /// The end of the line behind it.
    DataEnd,
    Trailers,
    Nothing,
}

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    /// It has ended.
    End,
    /// More has to be read first.
    Unread,
}

impl Chunked {
    pub(super) const fn new() -> Self {
        Self {
            next: Next::Size,
            extension_bytes: 0,
        }
    }

    pub(super) fn is_over(self) -> bool {
        self.next == Next::Nothing
    }

    /// Takes the next piece off what was read.
    ///
    /// # Errors
    /// For what is no chunk.
    pub(super) fn take(&mut self, held: &mut BytesMut) -> io::Result<Piece> {
        loop {
            match self.next {
                Next::Size => match line(held)? {
                    Some(line) => self.begin(&line)?,
                    None => return Ok(Piece::Unread),
                },
                Next::Data(left) => {
                    if held.is_empty() {
                        return Ok(Piece::Unread);
                    }
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(held.len());
                    let data = held.split_to(taken).freeze();
                    self.next = match left - taken as u64 {
                        0 => Next::DataEnd,
                        left => Next::Data(left),
                    };
                    return Ok(Piece::Data(data));
                }
                Next::DataEnd => match **held {
                    [b'\r', b'\n', ..] => {
                        held.advance(2);
                        self.next = Next::Size;
                    }
                    [] | [b'\r'] => return Ok(Piece::Unread),
                    _ => return Err(invalid("a chunk is longer than it says")),
                },
                Next::Trailers => return self.trailers(held),
                Next::Nothing => return Ok(Piece::End),
            }
        }
    }

    fn begin(&mut self, line: &[u8]) -> io::Result<()> {
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let (size, extension) = line.split_at_checked(digits).unwrap_or_default();
        self.extension_bytes += extension.len();
        let is_extension = matches!(extension.trim_ascii_start(), [] | [b';', ..]);
        if !is_extension || self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(invalid("the size of a chunk is no number"));
        }
        // More than 16 digits are more than there can be.
        let size = std::str::from_utf8(size)
            .ok()
            .filter(|size| size.len() <= 16);
        let size = size.and_then(|size| u64::from_str_radix(size, 16).ok());
        self.next = match size {
            Some(0) => Next::Trailers,
            Some(size) => Next::Data(size),
            None => return Err(invalid("the size of a chunk is no number")),
        };
        Ok(())
    }

    fn trailers(&mut self, held: &mut BytesMut) -> io::Result<Piece> {
        if held.starts_with(b"\r\n") {
            held.advance(2);
            self.next = Next::Nothing;
            return Ok(Piece::End);
        }
        let mut space = [httparse::EMPTY_HEADER; TRAILERS_MAX];
        let parsed = httparse::parse_headers(held, &mut space);
        let parsed = parsed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let httparse::Status::Complete((length, headers)) = parsed else {
            if held.len() > LINE_BYTES_MAX {
                return Err(invalid("the trailers of the answer are too long"));
            }
            return Ok(Piece::Unread);
        };
        let mut trailers = HeaderMap::with_capacity(headers.len());
        for header in headers {
            let name = HeaderName::from_bytes(header.name.as_bytes());
            match (name, HeaderValue::from_bytes(header.value)) {
                (Ok(name), Ok(value)) => trailers.append(name, value),
                _ => return Err(invalid("a trailer of the answer is none")),
            };
        }
        held.advance(length);
        self.next = Next::Nothing;
        Ok(Piece::Trailers(trailers))
    }
}

/// A whole line off what was read, without its end.
fn line(held: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(end) = held.iter().position(|byte| *byte == b'\n') else {
        return match held.len() > LINE_BYTES_MAX {
            true => Err(invalid("the size of a chunk is too long")),
            false => Ok(None),
        };
    };
    let mut line = held.split_to(end + 1);
    match line.strip_suffix(b"\r\n").map(<[u8]>::len) {
        Some(length) => {
            line.truncate(length);
            Ok(Some(line.freeze()))
        }
        None => Err(invalid("the size of a chunk has no end")),
    }
}
