//! Requests of HTTP/1.1, as the gateway's own reader and as hyper's reads them.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Waker};

use bytes::BytesMut;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use crate::server::{Read, read};

/// More than a fuzzer sends.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A connection of so few bytes has ended by then.
const POLLS_MAX: usize = 10_000;

/// Reads requests of any bytes, which come in pieces as long as the first byte says. What the gateway's own reader takes is what
/// hyper takes, request by request, and pieces make no difference.
///
/// # Panics
/// When one of that does not hold.
pub fn front(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let ours = ours([bytes]);
    let pieces = bytes.chunks(usize::from(*first).max(1));
    let mut piecemeal = self::ours(pieces);
    // A head that is wrong may be found out when its end comes.
    if (&piecemeal.then, &ours.then) == (&Then::Part, &Then::Other) {
        piecemeal.then = Then::Other;
    }
    assert_eq!(piecemeal, ours, "pieces make a difference");
    let theirs = theirs(bytes);
    let taken = theirs.get(..ours.plain.len()).unwrap_or_default();
    assert_eq!(taken, ours.plain, "hyper reads something else");
    match ours.then {
        Then::Other => {}
        Then::Part | Then::Close => assert_eq!(theirs.len(), ours.plain.len(), "{theirs:?}"),
    }
}

/// What was read of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Ours {
    plain: Vec<String>,
    then: Then,
    held: BytesMut,
}

#[derive(Debug, PartialEq, Eq)]
enum Then {
    Close,
    Part,
    Other,
}

fn ours<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Ours {
    let mut held = BytesMut::new();
    let mut plain = Vec::new();
    let mut then = None;
    for piece in pieces {
        let mut known = held.len();
        held.extend_from_slice(piece);
        while then.is_none() {
            match read(&mut held, known, HEAD_BYTES_MAX) {
                Read::Plain(request, keeps) => {
                    plain.push(told(&request));
                    then = (!keeps).then_some(Then::Close);
                    known = 0;
                }
                Read::Part => break,
                Read::Other => then = Some(Then::Other),
            }
        }
    }
    let then = then.unwrap_or(Then::Part);
    Ours { plain, then, held }
}

fn told<B>(request: &Request<B>) -> String {
    let (method, uri) = (request.method(), request.uri());
    let (version, headers) = (request.version(), request.headers());
    format!("{method} {uri:?} {version:?} {headers:?}")
}

/// The requests that hyper takes.
fn theirs(bytes: &[u8]) -> Vec<String> {
    let seen = Mutex::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| {
        let body = request.body().is_end_stream();
        let note = if body { "" } else { " and a body" };
        seen.lock().push(told(&request) + note);
        async { Ok::<_, Infallible>(Response::new(String::new())) }
    });
    let stream = tokio::io::join(bytes, tokio::io::sink());
    let connection = http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut cx = Context::from_waker(Waker::noop());
    // It waits for nothing, and now and then lets others go first.
    let ends = (0..POLLS_MAX).any(|_| connection.as_mut().poll(&mut cx).is_ready());
    assert!(ends, "hyper never ends");
    seen.lock().clone()
}
