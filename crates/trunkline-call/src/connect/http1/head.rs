//! Heads: written from where they stand, and read.

use std::io;
use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::ext::ReasonPhrase;

use super::body::Framing;
use super::invalid;

/// More headers are refused.
const HEADERS_MAX: usize = 100;
/// Who passes an answer on says so much more.
const MORE: usize = 2;
/// What most headers have room in.
const HEADER_BYTES: usize = 48;

/// The head of a request, which stays where it is.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// Its method.
    pub method: &'a Method,
    /// What is asked for: of it path and query count.
    pub uri: &'a Uri,
    /// Its headers,
    pub headers: &'a HeaderMap,
    /// and more of them, each in place of those of its name.
    pub more: &'a [(HeaderName, HeaderValue)],
    /// The host that it is for, where its headers name none.
    pub host: Option<&'a HeaderValue>,
    /// What goes with it in this process.
    pub extensions: &'a Extensions,
}

impl RequestHead<'_> {
    /// The same as a request of its own.
    pub fn to_request<B>(&self, body: B) -> Request<B> {
        self.with_headers(self.headers.clone(), body)
    }

    /// The same with these headers in place of its own.
    pub fn with_headers<B>(&self, headers: HeaderMap, body: B) -> Request<B> {
        let (mut parts, body): (Parts, B) = Request::new(body).into_parts();
        parts.method = self.method.clone();
        parts.uri = self.uri.clone();
        parts.headers = headers;
        for (name, value) in self.more {
            parts.headers.insert(name.clone(), value.clone());
        }
        if let Some(host) = self.host {
            parts.headers.entry(HOST).or_insert_with(|| host.clone());
        }
        parts.extensions = self.extensions.clone();
        Request::from_parts(parts, body)
    }

    /// Whether it has a header of this name.
    pub fn has(&self, name: &HeaderName) -> bool {
        self.is_more(name) || self.headers.contains_key(name)
    }

    fn is_more(&self, name: &HeaderName) -> bool {
        self.more.iter().any(|(own, _)| own == name)
    }

    /// Writes it; `host` stands where nobody names one.
    pub(super) fn encode(&self, host: &HeaderValue) -> Vec<u8> {
        let count = self.headers.len() + self.more.len() + 2;
        let mut bytes = Vec::with_capacity(count * HEADER_BYTES);
        bytes.extend_from_slice(self.method.as_str().as_bytes());
        bytes.push(b' ');
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        // A path is never nothing (RFC 9112, 3.2.1).
        if !path.starts_with('/') && path != "*" {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(path.as_bytes());
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        if !self.has(&HOST) {
            write(&mut bytes, &HOST, self.host.unwrap_or(host));
        }
        for (name, value) in self.headers {
            if !self.is_more(name) {
                write(&mut bytes, name, value);
            }
        }
        for (name, value) in self.more {
            write(&mut bytes, name, value);
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

fn write(bytes: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    bytes.extend_from_slice(name.as_str().as_bytes());
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value.as_bytes());
    bytes.extend_from_slice(b"\r\n");
}

/// The head of an answer, and what came with it.
pub(super) struct Received {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// What came behind the head.
    pub(super) rest: Bytes,
    /// Whether the connection takes another request afterwards.
    pub(super) keeps: bool,
}

/// Reads the head of an answer, if all of it is there; those that only inform are passed over. `known` bytes were looked
/// at before.
///
/// # Errors
/// What can't be read, or whose end can't be told.
pub(super) fn receive(
    held: &mut BytesMut,
    mut known: usize,
    method: &Method,
) -> io::Result<Option<Received>> {
    while !held.is_empty() && (known == 0 || has_end(held, known)) {
        let bytes = std::mem::take(held).freeze();
        let Some((mut response, length, is_1_1)) = parse(&bytes)? else {
            *held = BytesMut::from(bytes);
            return Ok(None);
        };
        let rest = bytes.slice(length..);
        let status = response.status();
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            *held = BytesMut::from(rest);
            known = 0;
            continue;
        }
        let framing = framing(&mut response, method, is_1_1)?;
        let keeps = is_kept(response.headers(), is_1_1) && framing != Framing::UntilClosed;
        return Ok(Some(Received {
            response,
            framing,
            rest,
            keeps,
        }));
    }
    Ok(None)
}

/// Whether an empty line is among what is new: what comes in small pieces is not read anew for each of them.
fn has_end(bytes: &[u8], known: usize) -> bool {
    let new = bytes.get(known.saturating_sub(3)..).unwrap_or_default();
    let empty = |end: &[u8]| new.windows(end.len()).any(|bytes| bytes == end);
    empty(b"\n\n") || empty(b"\n\r\n")
}

/// A head, how long it is, and whether it is of HTTP/1.1.
fn parse(bytes: &Bytes) -> io::Result<Option<(Response<()>, usize, bool)>> {
    let mut space = [MaybeUninit::uninit(); HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut space);
    let length = match status.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let mut response = Response::new(());
    let code = StatusCode::from_u16(parsed.code.unwrap_or_default());
    *response.status_mut() = code.map_err(|_| invalid("the answer has no status"))?;
    let reason = parsed.reason.unwrap_or_default();
    if Some(reason) != response.status().canonical_reason() && !reason.is_empty() {
        let reason = ReasonPhrase::try_from(reason.as_bytes());
        let reason = reason.map_err(|_| invalid("the reason of the answer is no text"))?;
        response.extensions_mut().insert(reason);
    }
    let headers = response.headers_mut();
    headers.reserve(parsed.headers.len() + MORE);
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(header.value));
        match (name, value) {
            (Ok(name), Ok(value)) => headers.append(name, value),
            _ => return Err(invalid("a header of the answer is none")),
        };
    }
    Ok(Some((response, length, parsed.version == Some(1))))
}

/// Where the body of an answer ends (RFC 9112, 6.3). The head then says no other length.
fn framing(response: &mut Response<()>, method: &Method, is_1_1: bool) -> io::Result<Framing> {
    let status = response.status();
    let has_none = [
        StatusCode::SWITCHING_PROTOCOLS,
        StatusCode::NO_CONTENT,
        StatusCode::NOT_MODIFIED,
    ];
    let headers = response.headers_mut();
    // What stands in a head without a body is passed on as well, and has to make sense.
    let framing = match is_chunked(headers, is_1_1)? {
        true => {
            // A length and chunks together are read as chunks.
            headers.remove(CONTENT_LENGTH);
            Framing::chunked()
        }
        false => by_length(headers)?,
    };
    match *method == Method::HEAD || has_none.contains(&status) {
        true => Ok(Framing::Length(0)),
        false => Ok(framing),
    }
}

fn is_chunked(headers: &HeaderMap, is_1_1: bool) -> io::Result<bool> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_known = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(_), _) if !is_1_1 => Err(invalid("HTTP/1.0 has no transfer coding")),
        (Some(coding), None) if is_known(coding) => Ok(true),
        // Whoever gets the body would not learn of a coding that is not undone here.
        _ => Err(invalid("the answer has a transfer coding besides chunked")),
    }
}

/// The end by the one length that is given, perhaps several times, or else by the connection's.
fn by_length(headers: &mut HeaderMap) -> io::Result<Framing> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let mut all = lengths
        .by_ref()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let Some(first) = all.next() else {
        return Ok(Framing::UntilClosed);
    };
    let length = number(first)?;
    let mut count = 1;
    for other in all {
        count += 1;
        if number(other)? != length {
            return Err(invalid("the answer has two lengths"));
        }
    }
    if count > 1 {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(Framing::Length(length))
}

fn number(text: &[u8]) -> io::Result<u64> {
    let text = text.trim_ascii();
    // A sign is no digit.
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| is_number);
    let number = number.and_then(|text| text.parse().ok());
    number.ok_or_else(|| invalid("the answer's length is no number"))
}

fn is_kept(headers: &HeaderMap, is_1_1: bool) -> bool {
    let values = headers.get_all(CONNECTION).iter();
    let mut keeps = is_1_1;
    for word in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let word = word.trim_ascii();
        if word.eq_ignore_ascii_case(b"close") {
            return false;
        }
        keeps |= word.eq_ignore_ascii_case(b"keep-alive");
    }
    keeps
}
