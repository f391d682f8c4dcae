//! The heads of requests.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};

/// More headers are too many, as they are for hyper.
const HEADERS_MAX: usize = 100;
/// A longer target is too long, as it is for hyper.
const TARGET_BYTES_MAX: usize = 65_534;
/// As many headers come to those of most requests on their way.
const MORE: usize = 8;

/// What stands at the beginning of what is held.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are requests, and are taken apart at once"
)]
pub(crate) enum Read {
    /// A request of HTTP/1.1 that has no body and wants nothing but an answer, and whether the connection is kept then. It
    /// is taken off.
    Plain(Request<()>, bool),
    /// The beginning of a head.
    Part,
    /// Anything else: hyper knows what.
    Other,
}

/// Reads a head, if all of it is there; `known` bytes were looked at before.
pub(crate) fn read(held: &mut BytesMut, known: usize, bytes_max: usize) -> Read {
    if held.is_empty() || (known > 0 && !has_end(held, known)) {
        return part(held, bytes_max);
    }
    let bytes = std::mem::take(held).freeze();
    let read = parse(&bytes, bytes_max);
    match read {
        Ok(Some((request, length, keeps))) => {
            if length < bytes.len() {
                *held = BytesMut::from(bytes.slice(length..));
            }
            Read::Plain(request, keeps)
        }
        Ok(None) => {
            *held = BytesMut::from(bytes);
            part(held, bytes_max)
        }
        Err(Odd) => {
            *held = BytesMut::from(bytes);
            Read::Other
        }
    }
}

/// A request that is not plain, or none at all.
struct Odd;

fn part(held: &BytesMut, bytes_max: usize) -> Read {
    match held.len() > bytes_max {
        true => Read::Other,
        false => Read::Part,
    }
}

/// Whether an empty line is among what is new: what comes in small pieces is not read anew for each of them.
fn has_end(bytes: &[u8], known: usize) -> bool {
    let new = bytes.get(known.saturating_sub(3)..).unwrap_or_default();
    let empty = |end: &[u8]| new.windows(end.len()).any(|bytes| bytes == end);
    empty(b"\n\n") || empty(b"\n\r\n")
}

/// A plain request, how long its head is, and whether the connection is kept.
fn parse(bytes: &Bytes, bytes_max: usize) -> Result<Option<(Request<()>, usize, bool)>, Odd> {
    let mut space = [MaybeUninit::uninit(); HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config.parse_request_with_uninit_headers(&mut parsed, bytes, &mut space);
    let length = match status {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Odd),
    };
    let target = parsed.path.unwrap_or_default();
    if parsed.version != Some(1) || length > bytes_max || target.len() > TARGET_BYTES_MAX {
        return Err(Odd);
    }
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes());
    let method = method.ok().filter(|method| *method != Method::CONNECT);
    let mut request = Request::new(());
    *request.method_mut() = method.ok_or(Odd)?;
    let target = bytes.slice_ref(target.as_bytes());
    *request.uri_mut() = Uri::from_maybe_shared(target).map_err(|_| Odd)?;
    let (headers, keeps) = headers(bytes, parsed.headers)?;
    *request.headers_mut() = headers;
    Ok(Some((request, length, keeps)))
}

/// The headers, and whether they want the connection to be kept.
fn headers(bytes: &Bytes, parsed: &[httparse::Header<'_>]) -> Result<(HeaderMap, bool), Odd> {
    let mut headers = HeaderMap::with_capacity(parsed.len() + MORE);
    let mut keeps = true;
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Odd)?;
        if is_framing(&name) {
            return Err(Odd);
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(header.value));
        let value = value.map_err(|_| Odd)?;
        if name == CONNECTION {
            // hyper looks for words in text alone.
            value.to_str().map_err(|_| Odd)?;
            keeps &= !closes(&value);
        }
        headers.append(name, value);
    }
    Ok((headers, keeps))
}

/// Whether a header says where a body ends, or asks for more than an answer.
fn is_framing(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "content-length" | "transfer-encoding" | "expect" | "upgrade"
    )
}

/// Whether a value of `Connection` asks to close it.
pub(super) fn closes(value: &HeaderValue) -> bool {
    let mut words = value.as_bytes().split(|byte| *byte == b',');
    words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
}
