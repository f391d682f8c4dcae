//! Requests to go on in another protocol, each on a connection of its own.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HOST, UPGRADE};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use trunkline_core::{Error, ErrorKind, Result};

use super::{host_of, tcp, unreached};
use crate::Body;

/// Whether a request asks to go on in another protocol.
pub(super) fn is_asked(request: &Request<Body>) -> bool {
    request.headers().contains_key(UPGRADE)
}

/// Sends such a request on a new connection. An answer of 101 has the connection among its extensions, as hyper's
/// `OnUpgrade`; any other is an answer.
///
/// # Errors
/// `Unsupported` (`upgrade_unsupported`) where TLS is called for, which is HTTP/2 alone here; otherwise as
/// [`super::Wires::send`].
pub(super) async fn send(mut request: Request<Body>) -> Result<Response<Body>> {
    let uri = std::mem::take(request.uri_mut()).into_parts();
    let (Some(scheme), Some(authority)) = (uri.scheme, uri.authority) else {
        return Err(Error::internal("a request on its way out has an address"));
    };
    if scheme != Scheme::HTTP {
        let text = "services with certificates speak HTTP/2, in which nothing else is gone on in";
        return Err(Error::new(
            ErrorKind::Unsupported,
            "upgrade_unsupported",
            text,
        ));
    }
    let path = uri.path_and_query;
    *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    let host = host_of(&authority)?;
    request.headers_mut().entry(HOST).or_insert(host);
    let stream = tcp(&authority, 80).await?;
    let begun = Builder::new().handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = begun.map_err(|error| unreached(true, error))?;
    let mut connection = Some(connection.with_upgrades());
    let mut answer = pin!(sender.try_send_request(request));
    let sent = poll_fn(|cx| {
        // The connection first: what it reads is what the answer waits for.
        drive(&mut connection, cx);
        answer.as_mut().poll(cx)
    });
    let response = sent.await.map_err(|mut error| {
        let unsent = error.take_message().is_some();
        unreached(unsent, error.into_error())
    })?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // It ends as a connection of HTTP, and gives what it was made of to whoever waits for that.
        if let Some(connection) = connection {
            connection.await.map_err(|error| unreached(false, error))?;
        }
        return Ok(response.map(|_| Body::empty()));
    }
    Ok(response.map(|body| Body::new(Answer { body, connection })))
}

/// Lets a connection read and write what it can; one that has ended goes.
fn drive<C: Future + Unpin>(connection: &mut Option<C>, cx: &mut Context<'_>) {
    let ended = connection
        .as_mut()
        .map(|connection| Pin::new(connection).poll(cx));
    if ended.is_some_and(|polled| polled.is_ready()) {
        *connection = None;
    }
}

/// The body of a refusal, whose reader drives the connection. It ends with it.
struct Answer<C> {
    body: Incoming,
    connection: Option<C>,
}

impl<C: Future + Unpin> HttpBody for Answer<C> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        drive(&mut this.connection, cx);
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
