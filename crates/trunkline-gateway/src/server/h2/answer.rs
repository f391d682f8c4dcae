//! One request on a connection of HTTP/2, and its answer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use trunkline_call::headers::{spare_table, strip_connection};
use trunkline_call::stream::{Ahead, Received, Sending};
use trunkline_core::Timestamp;

use super::super::date::dated;
use super::super::door::{Answer, Line};
use super::requests::Asked;
use crate::arrival::Arrival;
use crate::body::{Answered, Inbound};

/// Answers a request, unless its client takes it back.
pub(super) async fn answer(line: Line, (request, mut respond): Asked, is_first: bool) {
    let (head, body) = request.into_parts();
    if contradicts(&head.headers) {
        return respond.send_reset(Reason::PROTOCOL_ERROR);
    }
    let body = Inbound::Streamed(Received::new(body, &head.headers));
    let request = Request::from_parts(head, body);
    let sending = {
        // What is done here and not in functions of their own is not moved from one to the other: it is some kilobytes.
        let mut work = pin!(line.gateway().handle(request, &line.client));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(mut answer) => {
                ready(&mut answer, line.gateway().inner.env.now());
                // The names of the first answer come into the table of headers that both ends keep; what comes once does not.
                if !is_first {
                    spare_table(answer.headers_mut(), is_of_limits);
                }
                Poll::Ready(begin(answer, &mut respond, cx))
            }
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        })
        .await
    };
    if let Some(sending) = sending {
        // The client may want no more of it, and is told where it breaks off.
        drop(sending.await);
    }
}

/// Whether a request says two things of its length (RFC 9113, 8.1.1).
fn contradicts(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next();
    lengths.any(|other| Some(other) != first)
}

/// Has the head say what HTTP/2 wants in it, and nothing that it does not.
fn ready(answer: &mut Answer, now: Timestamp) {
    let is_empty = answer.body().is_end_stream();
    let length = answer.body().size_hint().exact().filter(|_| !is_empty);
    let headers = answer.headers_mut();
    strip_connection(headers);
    headers
        .entry(DATE)
        .or_insert_with(|| dated(now, HeaderValue::clone));
    if let Some(length) = length {
        headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
}

/// Whether a header tells what is left of a limit: that is less each time. What the limit is stays as it is.
fn is_of_limits(name: &str) -> bool {
    let told = ["ratelimit", "ratelimit-remaining", "ratelimit-reset"];
    told.contains(&name) || name.starts_with("x-ratelimit-remaining")
}

/// Sends an answer with what of its body is at hand, and gives back what is still to come, if anything is.
fn begin(
    answer: Answer,
    respond: &mut SendResponse<Bytes>,
    cx: &mut Context<'_>,
) -> Option<Sending<Answered<Arrival>>> {
    let (head, body) = answer.into_parts();
    let body = Ahead::new(body, cx);
    let is_empty = body.is_empty();
    match respond.send_response(Response::from_parts(head, ()), is_empty) {
        Ok(_) if is_empty => None,
        Ok(stream) => {
            let mut sending = body.on(stream);
            let is_pending = Pin::new(&mut sending).poll(cx).is_pending();
            is_pending.then_some(sending)
        }
        Err(error) => {
            tracing::debug!(service = "gateway", %error, "an answer could not be sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_kept_out_of_the_table() {
        for (name, is_kept_out) in [
            ("ratelimit", true),
            ("ratelimit-remaining", true),
            ("ratelimit-reset", true),
            ("x-ratelimit-remaining-minute", true),
            ("ratelimit-limit", false),
            ("ratelimit-policy", false),
            ("x-ratelimit-limit-minute", false),
            ("content-type", false),
        ] {
            assert_eq!(is_of_limits(name), is_kept_out, "{name}");
        }
    }
}
