//! Connections of HTTP/1.1, each for one request at a time, and kept for the next.
//!
//! A connection has no task of its own: the request that uses it drives it, and so does whoever reads the answer's body.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use trunkline_core::Result;

use super::{IDLE_MAX, host_of, tcp, unreached};
use crate::Body;

/// More connections that nobody uses are not kept.
const IDLE_COUNT_MAX: usize = 256;

/// The connections to one address.
pub(super) struct Pool {
    authority: Authority,
    /// What requests say that they are for, if they say nothing else.
    host: HeaderValue,
    idle: Mutex<VecDeque<Idle>>,
    /// Closes what nobody has used for too long; it ends when there is nothing left.
    sweeper: Mutex<JoinSet<()>>,
}

struct Idle {
    line: Box<Line>,
    since: Instant,
}

/// A connection and the handle that requests are given to.
struct Line {
    sender: SendRequest<Body>,
    /// None once it has ended: a request that waits in it is given back when it is dropped, and not before.
    connection: Option<Connection<TokioIo<TcpStream>, Body>>,
}

impl Pool {
    pub(super) fn new(authority: Authority) -> Result<Self> {
        let host = host_of(&authority)?;
        Ok(Self {
            host,
            authority,
            idle: Mutex::default(),
            sweeper: Mutex::default(),
        })
    }

    /// Whether it has a connection, or somebody is about to use it.
    pub(super) fn is_used(self: &Arc<Self>) -> bool {
        // One count is the table's.
        Arc::strong_count(self) > 1 || !self.idle.lock().is_empty()
    }

    /// Sends a request on a connection that is kept, or on a new one.
    ///
    /// # Errors
    /// As [`super::Wires::send`].
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<Body>,
    ) -> Result<Response<Body>> {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
        let headers = request.headers_mut();
        headers.entry(HOST).or_insert_with(|| self.host.clone());
        loop {
            let kept = self.take();
            let is_kept = kept.is_some();
            let mut line = match kept {
                Some(line) => line,
                None => self.connect().await?,
            };
            match line.exchange(request).await {
                Ok(response) => {
                    return Ok(response.map(|body| Answer::wrap(body, line, self)));
                }
                Err(mut error) => match error.take_message() {
                    // It was closed while nobody used it, and nothing was sent: each of them gives the request back once.
                    Some(unsent) if is_kept => request = unsent,
                    unsent => return Err(unreached(unsent.is_some(), error.into_error())),
                },
            }
        }
    }

    /// The connection that was used last: the longer others are idle, the sooner they are closed.
    fn take(&self) -> Option<Box<Line>> {
        let mut idle = self.idle.lock();
        let last = idle.pop_back()?;
        if last.since.elapsed() < IDLE_MAX {
            return Some(last.line);
        }
        // Those before it are older.
        idle.clear();
        None
    }

    async fn connect(&self) -> Result<Box<Line>> {
        let stream = tcp(&self.authority, 80).await?;
        let (sender, connection) = Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreached(true, error))?;
        Ok(Box::new(Line {
            sender,
            connection: Some(connection),
        }))
    }

    fn put(self: &Arc<Self>, line: Box<Line>) {
        let since = Instant::now();
        let is_first = {
            let mut idle = self.idle.lock();
            if idle.len() == IDLE_COUNT_MAX {
                idle.pop_front();
            }
            idle.push_back(Idle { line, since });
            idle.len() == 1
        };
        if is_first {
            self.sweep();
        }
    }

    fn sweep(self: &Arc<Self>) {
        let mut sweeper = self.sweeper.lock();
        while sweeper.try_join_next().is_some() {}
        if sweeper.is_empty() && tokio::runtime::Handle::try_current().is_ok() {
            let pool = Arc::downgrade(self);
            sweeper.spawn(async move {
                while let Some(next) = pool.upgrade().and_then(|pool| pool.close_old()) {
                    sleep_until(next).await;
                }
            });
        }
    }

    /// Closes what is too old, and says when the next will be.
    fn close_old(&self) -> Option<Instant> {
        let mut idle = self.idle.lock();
        while idle
            .front()
            .is_some_and(|first| first.since.elapsed() >= IDLE_MAX)
        {
            idle.pop_front();
        }
        idle.front().map(|first| first.since + IDLE_MAX)
    }
}

type Sent =
    std::result::Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<Body>>>;

impl Line {
    /// Sends a request and waits for the head of its answer.
    async fn exchange(&mut self, request: Request<Body>) -> Sent {
        let mut answer = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        std::future::poll_fn(|cx| {
            // The connection first: what it reads is what the answer waits for.
            drive(connection, cx);
            answer.as_mut().poll(cx)
        })
        .await
    }
}

/// Lets a connection read and write what it can; one that has ended goes.
fn drive(connection: &mut Option<Connection<TokioIo<TcpStream>, Body>>, cx: &mut Context<'_>) {
    let ended = connection
        .as_mut()
        .map(|connection| Pin::new(connection).poll(cx));
    if ended.is_some_and(|polled| polled.is_ready()) {
        *connection = None;
    }
}

/// The body of an answer, whose reader drives the connection.
struct Answer {
    body: Incoming,
    line: Option<Box<Line>>,
    pool: Arc<Pool>,
}

impl Answer {
    fn wrap(body: Incoming, line: Box<Line>, pool: &Arc<Pool>) -> Body {
        let mut answer = Self {
            body,
            line: line.connection.is_some().then_some(line),
            pool: pool.clone(),
        };
        if answer.body.is_end_stream() {
            answer.give_back(&mut Context::from_waker(Waker::noop()));
        }
        Body::new(answer)
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
            self.pool.put(line);
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
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
