//! Connections of HTTP/1.1, each for one request at a time, and kept for the next.
//!
//! A connection has no task of its own: the request that uses it drives it, and so does whoever reads the answer's body.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, ready};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use trunkline_core::{Error, Result};

use super::dial::{Asks, Dial, Dialled};
use super::http1;
use super::idle::{Bounds, Idle, Peered};
use super::line::Verdict;
use super::wire::{Stage, Unanswered};
use super::{IDLE_COUNT_MAX, IDLE_MAX, unreached};
use crate::Body;
use crate::layer::held::AtHand;

/// An answer that is no longer, and is there with its head, gives its connection back at once.
const AT_HAND_BYTES_MAX: u64 = 64 * 1024;

/// The connections to one place.
pub(crate) struct Pool {
    dial: Arc<dyn Dial>,
    /// What requests say that they are for, if they say nothing else.
    host: HeaderValue,
    idle: Arc<Idle<Box<Line>>>,
    /// Connections for requests without a body, which this takes over where it has none left.
    spare: Option<Arc<Idle<http1::Line>>>,
}

/// A connection and the handle that requests are given to.
struct Line {
    sender: SendRequest<Body>,
    /// None once it has ended: a request that waits in it is given back when it is dropped, and not before.
    connection: Option<Connection>,
    peer: Option<SocketAddr>,
    verdict: Verdict,
}

impl Peered for Box<Line> {
    fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

/// In a box for its type, which can also become something else than HTTP, has no name.
type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Pool {
    pub(super) fn new(authority: Authority) -> Result<Self> {
        // The port that the scheme has by itself is not said (RFC 9110, 7.2).
        let host = match authority.port_u16() {
            Some(80) | None => authority.host(),
            Some(_) => authority.as_str(),
        };
        let host = HeaderValue::from_str(host).map_err(|error| {
            Error::internal("an authority is a header's value").with_source(error)
        })?;
        let bounds = Bounds {
            idle_max: IDLE_MAX,
            idle_count_max: IDLE_COUNT_MAX,
        };
        Ok(Self::to(host, Arc::new(authority), bounds, None))
    }

    pub(super) fn to(
        host: HeaderValue,
        dial: Arc<dyn Dial>,
        bounds: Bounds,
        spare: Option<Arc<Idle<http1::Line>>>,
    ) -> Self {
        Self {
            idle: Idle::new(dial.clone(), bounds),
            dial,
            host,
            spare,
        }
    }

    /// Whether it has a connection, or somebody is about to use it.
    pub(super) fn is_used(self: &Arc<Self>) -> bool {
        // One count is the table's.
        Arc::strong_count(self) > 1 || self.idle.count() > 0
    }

    /// Sends a request of a channel. Where the answer comes with its head, it is in memory: [`AtHand`].
    ///
    /// # Errors
    /// As [`super::Wires::route`] says.
    pub(crate) fn call(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>>> + Send + 'static {
        self.send(request, None).map(|answer| match answer {
            Ok(answer) => Ok(Answer::take(answer)),
            Err(unanswered) => Err(unanswered.error),
        })
    }

    /// Sends a request on a connection that is kept, or on a new one.
    ///
    /// # Errors
    /// As [`super::wire::Wire::send`].
    pub(super) fn send<'a>(
        self: Arc<Self>,
        mut request: Request<Body>,
        stage: Option<&'a Stage>,
    ) -> impl Future<Output = Received> + Send + use<'a> {
        let uri = request.uri();
        // The path alone, without an address and never nothing (RFC 9112, 3.2.1).
        if uri.scheme().is_some() || uri.authority().is_some() || uri.path().is_empty() {
            let path = uri.path_and_query().cloned();
            *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
        }
        tell_of_body(&mut request);
        let headers = request.headers_mut();
        headers.entry(HOST).or_insert_with(|| self.host.clone());
        let Some(line) = self.idle.take() else {
            return Either::Left(self.anew(request, stage));
        };
        tell(stage, true);
        // The request is in the connection's hands at once, so that there is no room for it here.
        Either::Right(line.exchange(request).then(move |(sent, line)| match sent {
            Ok(response) if is_switched(&response) => {
                Either::Left(Box::pin(self.give_away(response, line)) as BoxFuture<'a, _>)
            }
            Ok(response) => Either::Right(ready(Ok(self.answer(response, line)))),
            Err(mut error) => match error.take_message() {
                // It was closed while nobody used it, and nothing was sent.
                Some(unsent) => Either::Left(self.anew(unsent, stage)),
                None => Either::Right(ready(Err(line.broke(error.into_error(), true)))),
            },
        }))
    }

    /// Sends a request on a new connection, or on one that is kept meanwhile: each of those gives the request back once.
    fn anew<'a>(
        self: Arc<Self>,
        mut request: Request<Body>,
        stage: Option<&'a Stage>,
    ) -> BoxFuture<'a, Received> {
        Box::pin(async move {
            loop {
                let kept = match self.idle.take() {
                    Some(line) => Some(line),
                    None => self.take_over().await,
                };
                let is_kept = kept.is_some();
                let line = match kept {
                    Some(line) => line,
                    None => {
                        tell(stage, false);
                        match self.connect().await {
                            Ok(line) => line,
                            Err(error) => return Err(Unanswered::unsent(error, request)),
                        }
                    }
                };
                tell(stage, true);
                let (sent, line) = line.exchange(request).await;
                match sent {
                    Ok(response) if is_switched(&response) => {
                        return self.give_away(response, line).await;
                    }
                    Ok(response) => return Ok(self.answer(response, line)),
                    Err(mut error) => match error.take_message() {
                        Some(unsent) if is_kept => request = unsent,
                        Some(unsent) => {
                            let error = unreached(true, error.into_error());
                            return Err(Unanswered::unsent(error, unsent));
                        }
                        None => return Err(line.broke(error.into_error(), is_kept)),
                    },
                }
            }
        })
    }

    fn answer(self: Arc<Self>, response: Response<Incoming>, line: Box<Line>) -> Response<Answer> {
        response.map(|body| Answer::new(body, line, self))
    }

    /// The connection ends as one of HTTP, and gives what it was made of to whoever waits for that.
    async fn give_away(
        self: Arc<Self>,
        response: Response<Incoming>,
        mut line: Box<Line>,
    ) -> Received {
        if let Some(connection) = line.connection.take() {
            drop(connection.await);
        }
        Ok(self.answer(response, line))
    }

    async fn connect(&self) -> Result<Box<Line>> {
        Self::greet(self.dial.dial(Asks::Http1).await?).await
    }

    async fn take_over(&self) -> Option<Box<Line>> {
        let line = self.spare.as_ref()?.take()?;
        Self::greet(line.into_dialled()).await.ok()
    }

    async fn greet(dialled: Dialled) -> Result<Box<Line>> {
        let begun = Builder::new().handshake(TokioIo::new(dialled.stream)).await;
        let (sender, connection) = begun.map_err(|error| unreached(true, error))?;
        Ok(Box::new(Line {
            sender,
            connection: Some(Box::pin(connection.with_upgrades())),
            peer: dialled.peer,
            verdict: dialled.verdict,
        }))
    }
}

/// Whether the other end had closed the connection.
pub(super) fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionReset | BrokenPipe | NotConnected)
}

fn is_switched(response: &Response<Incoming>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// Says that there is a body where nobody knows how long it is: hyper takes a `GET` for one without a body then.
fn tell_of_body(request: &mut Request<Body>) {
    let body = request.body();
    if body.is_end_stream() || body.size_hint().exact().is_some() {
        return;
    }
    let headers = request.headers_mut();
    if !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

fn tell(stage: Option<&Stage>, connected: bool) {
    if let Some(stage) = stage {
        stage.set(connected);
    }
}

type Received = Result<Response<Answer>, Unanswered>;

type Sent =
    std::result::Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<Body>>>;

impl Line {
    /// Sends a request and waits for the head of its answer.
    fn exchange(
        mut self: Box<Self>,
        request: Request<Body>,
    ) -> Exchange<impl Future<Output = Sent> + Send + use<>> {
        Exchange {
            answer: self.sender.try_send_request(request),
            line: Some(self),
        }
    }

    /// Why a request that it took has no answer.
    fn broke(&self, error: hyper::Error, is_kept: bool) -> Unanswered {
        let source = std::error::Error::source(&error);
        let io = source.and_then(|source| source.downcast_ref::<io::Error>());
        let was_kept = is_kept && (error.is_incomplete_message() || io.is_some_and(is_reset));
        let refusal = self.verdict.refusal();
        let error = refusal.unwrap_or_else(|| unreached(false, error));
        Unanswered {
            was_kept,
            ..Unanswered::from(error)
        }
    }
}

pin_project! {
    /// A request under way, which drives its connection, and gives it back with what it comes to.
    struct Exchange<F> {
        #[pin]
        answer: F,
        line: Option<Box<Line>>,
    }
}

impl<F: Future<Output = Sent>> Future for Exchange<F> {
    type Output = (Sent, Box<Line>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(Sent, Box<Line>)> {
        let this = self.project();
        // The connection first: what it reads is what the answer waits for.
        if let Some(line) = this.line {
            drive(&mut line.connection, cx);
        }
        let sent = std::task::ready!(this.answer.poll(cx));
        match this.line.take() {
            Some(line) => Poll::Ready((sent, line)),
            // It has ended, and gives nothing any more.
            None => Poll::Pending,
        }
    }
}

/// Lets a connection read and write what it can; one that has ended goes.
fn drive(connection: &mut Option<Connection>, cx: &mut Context<'_>) {
    let ended = connection
        .as_mut()
        .map(|connection| connection.as_mut().poll(cx));
    if ended.is_some_and(|polled| polled.is_ready()) {
        *connection = None;
    }
}

/// The body of an answer, whose reader drives the connection.
pub(super) struct Answer {
    body: Incoming,
    /// What was there with the head, if that was not all.
    first: Option<std::result::Result<Frame<Bytes>, hyper::Error>>,
    line: Option<Box<Line>>,
    pool: Arc<Pool>,
}

impl Answer {
    fn new(body: Incoming, line: Box<Line>, pool: Arc<Pool>) -> Self {
        let mut answer = Self {
            body,
            first: None,
            line: line.connection.is_some().then_some(line),
            pool,
        };
        if answer.body.is_end_stream() {
            answer.give_back(&mut Context::from_waker(Waker::noop()));
        }
        answer
    }

    /// The answer with its body: as it comes, or in memory if all of it came with the head.
    fn take(response: Response<Self>) -> Response<Body> {
        let (parts, mut answer) = response.into_parts();
        let Some(data) = answer.at_hand() else {
            return Response::from_parts(parts, Body::new(answer));
        };
        let mut response = Response::from_parts(parts, Body::from(data));
        response.extensions_mut().insert(AtHand);
        response
    }

    fn at_hand(&mut self) -> Option<Bytes> {
        if self.body.is_end_stream() {
            return None;
        }
        // Whoever polls next is woken, and nobody is before.
        let mut cx = Context::from_waker(Waker::noop());
        let bytes = self.body.size_hint().exact();
        bytes.filter(|bytes| *bytes <= AT_HAND_BYTES_MAX)?;
        let Poll::Ready(Some(first)) = Pin::new(&mut self.body).poll_frame(&mut cx) else {
            return None;
        };
        match first.map(Frame::into_data) {
            Ok(Ok(data)) if self.body.is_end_stream() => {
                self.give_back(&mut cx);
                return Some(data);
            }
            Ok(Ok(data)) => self.first = Some(Ok(Frame::data(data))),
            Ok(Err(frame)) => self.first = Some(Ok(frame)),
            Err(error) => {
                self.line = None;
                self.first = Some(Err(error));
            }
        }
        None
    }

    /// The answer has ended: its connection is kept, if it takes another request.
    fn give_back(&mut self, cx: &mut Context<'_>) {
        let Some(mut line) = self.line.take() else {
            return;
        };
        if !line.sender.is_ready() {
            drive(&mut line.connection, cx);
        }
        if line.connection.is_some() && line.sender.is_ready() {
            self.pool.idle.put(line);
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(first));
        }
        let mut frame = Pin::new(&mut this.body).poll_frame(cx);
        if frame.is_pending()
            && let Some(line) = &mut this.line
        {
            drive(&mut line.connection, cx);
            if line.connection.is_none() {
                this.line = None;
            }
            frame = Pin::new(&mut this.body).poll_frame(cx);
        }
        match &frame {
            Poll::Ready(Some(Ok(_))) if this.body.is_end_stream() => this.give_back(cx),
            Poll::Ready(None) => this.give_back(cx),
            Poll::Ready(Some(Err(_))) => this.line = None,
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok());
        let first = first.and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        match hint.exact() {
            Some(rest) => SizeHint::with_exact(first.saturating_add(rest)),
            None => hint,
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Of an answer that nobody read to its end nobody knows where the next begins: its connection goes with it.
        if self.body.is_end_stream() {
            self.give_back(&mut Context::from_waker(Waker::noop()));
        }
    }
}

#[cfg(test)]
mod tests;
