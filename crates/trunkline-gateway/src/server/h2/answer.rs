//! One request on a connection of HTTP/2, and its answer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use trunkline_call::headers::{spare_table, strip_connection};
use trunkline_call::stream::{Ahead, Received};
use trunkline_core::Timestamp;

use super::super::door::{Answer, Line};
use super::requests::Asked;
use crate::body::Inbound;

/// Answers a request, unless its client takes it back.
pub(super) async fn answer(line: Line, (request, mut respond): Asked, is_first: bool) {
    let (head, body) = request.into_parts();
    if contradicts(&head.headers) {
        return respond.send_reset(Reason::PROTOCOL_ERROR);
    }
    let body = Inbound::Streamed(Received::new(body, &head.headers));
    let request = Request::from_parts(head, body);
    let work = line.gateway().handle(request, &line.client);
    let Some(mut answer) = unless_taken_back(work, &mut respond).await else {
        return;
    };
    ready(&mut answer, line.gateway().inner.env.now());
    // The names of the first answer come into the table of headers that both ends keep; what comes once does not.
    if !is_first {
        spare_table(answer.headers_mut(), is_of_limits);
    }
    send(answer, respond).await;
}

/// Whether a request says two things of its length (RFC 9113, 8.1.1).
fn contradicts(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next();
    lengths.any(|other| Some(other) != first)
}

/// What comes of this, or nothing where the client takes its request back.
async fn unless_taken_back<T>(
    work: impl Future<Output = T>,
    respond: &mut SendResponse<Bytes>,
) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    })
    .await
}

/// Has the head say what HTTP/2 wants in it, and nothing that it does not.
fn ready(answer: &mut Answer, now: Timestamp) {
    let is_empty = answer.body().is_end_stream();
    let length = answer.body().size_hint().exact().filter(|_| !is_empty);
    let headers = answer.headers_mut();
    strip_connection(headers);
    headers.entry(DATE).or_insert_with(|| date(now));
    if let Some(length) = length {
        headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
}

/// A date is made once a second.
fn date(now: Timestamp) -> HeaderValue {
    thread_local! {
        static MADE: RefCell<Option<(i64, HeaderValue)>> = const { RefCell::new(None) };
    }
    MADE.with_borrow_mut(|made| match made {
        Some((second, value)) if *second == now.as_second() => value.clone(),
        _ => {
            // HTTP has no dates before 1970.
            let since = u64::try_from(now.as_second()).unwrap_or_default();
            let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(since));
            let value = HeaderValue::try_from(text);
            let value = value.unwrap_or(HeaderValue::from_static(""));
            made.insert((now.as_second(), value)).1.clone()
        }
    })
}

/// Whether a header tells what is left of a limit: that is less each time.
fn is_of_limits(name: &str) -> bool {
    name.starts_with("ratelimit") || name.starts_with("x-ratelimit-remaining")
}

async fn send(answer: Answer, mut respond: SendResponse<Bytes>) {
    let (head, body) = answer.into_parts();
    let body = Ahead::of(body).await;
    let head = Response::from_parts(head, ());
    match respond.send_response(head, body.is_empty()) {
        Ok(_) if body.is_empty() => {}
        // The client may want no more of it, and is told where it breaks off.
        Ok(stream) => drop(body.on(stream).await),
        Err(error) => {
            tracing::debug!(service = "gateway", %error, "an answer could not be sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}
