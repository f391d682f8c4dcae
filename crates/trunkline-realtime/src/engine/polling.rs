//! Packets by requests and answers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{Request, header};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::sleep;

use super::link::{Link, Means};
use super::packet::{self, Packet};
use super::{Refusal, connect};
use crate::realtime::Inner;

/// A client that changes to a WebSocket is held up for so long by its last request.
const PROBED_WITHIN: Duration = Duration::from_millis(100);
const TEXT: &str = "text/plain; charset=UTF-8";

/// A new connection.
pub(super) fn begin(inner: &Arc<Inner>, request: &Request<Body>) -> Result<Response, Refusal> {
    let link = connect(inner, request)?;
    inner.tasks.spawn(link.clone().attend());
    Ok(text(link.opening(&["websocket"])))
}

/// Waits for packets and gives them.
pub(super) async fn wait(link: Arc<Link>) -> Result<Response, Refusal> {
    if *link.means.lock() == Means::WebSocket {
        return Err(Refusal::BadRequest);
    }
    let Some(polled) = link.poll() else {
        // Two at once would tear the order of packets apart.
        link.client.ends("transport error");
        return Err(Refusal::BadRequest);
    };
    let client = &link.client;
    let is_probed = *link.means.lock() == Means::Probed;
    tokio::select! {
        biased;
        () = client.queue.ready() => {}
        () = client.closed.cancelled() => return Err(Refusal::SessionUnknown),
        // A client that has a WebSocket to change to lets go of this request before it does: it is answered in any case.
        () = sleep(PROBED_WITHIN), if is_probed => {}
    }
    let frames = client.queue.take(client.realtime.limits.payload_max);
    let mut body = packet::Body::default();
    for frame in &frames {
        body.text(&frame.text);
        for attachment in &frame.attachments {
            body.binary(attachment);
        }
    }
    if frames.is_empty() {
        body.text("6");
    }
    drop(polled);
    Ok(text(body.into_text()))
}

/// Takes packets.
pub(super) async fn post(link: Arc<Link>, request: Request<Body>) -> Result<Response, Refusal> {
    if *link.means.lock() == Means::WebSocket {
        return Err(Refusal::BadRequest);
    }
    let limit = link.client.realtime.limits.payload_max;
    let Ok(body) = Limited::new(request.into_body(), limit).collect().await else {
        link.client.ends("transport error");
        return Err(Refusal::BadRequest);
    };
    let body = body.to_bytes();
    let taken = std::str::from_utf8(&body)
        .map_err(|error| packet::bad("expected UTF-8").with_source(error))
        .and_then(Packet::all_of)
        .and_then(|packets| packets.into_iter().try_for_each(|packet| link.take(packet)));
    if let Err(error) = taken {
        tracing::debug!(client = %link.client.id, %error, "a client that sends what it may not is disconnected");
        link.client.ends("parse error");
        return Err(Refusal::BadRequest);
    }
    Ok(text("ok".to_owned()))
}

fn text(body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, TEXT),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
}
