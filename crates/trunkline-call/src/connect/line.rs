//! Connections of HTTP/2, each shared by many requests, a few to each goal.

use std::fmt;
use std::io::ErrorKind::{ConnectionReset, TimedOut};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use trunkline_core::{Error, Result, Retry, report};

use super::dial::{Asks, Dial, Dialled};
use super::wire::{Stage, Unanswered};
use super::{CONNECT_WITHIN, IDLE_MAX, unreached};
use crate::load::{Load, Place};
use crate::{Body, Stall};

/// Connections to one goal. Each has a lock of its own, which requests of all cores meet at.
const LINES_MAX: usize = 4;
/// With fewer requests under way on a connection another is not worth its making.
const SHARED_BY: usize = 8;
/// Where so many are under way on each, some wait for others to end: then there may be
const CROWDED_BY: usize = 64;
/// so many connections.
const CROWDED_LINES_MAX: usize = 32;
/// What one answer may send ahead of its reader.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// What all answers of a connection may send ahead of their readers.
const LINE_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// A request's body is read this far ahead of the connection.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// An answer's headers, trailers or pushed headers beyond this are refused.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// An end that is silent with requests under way is asked after so long whether it is there,
const ASK_AFTER: Duration = Duration::from_secs(10);
/// and has so long to say so.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A service that takes nothing of what is sent to it for longer is cut off.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);

/// The connections to one place.
pub(crate) struct Bundle {
    /// What it is called in logs.
    to: String,
    dial: Arc<dyn Dial>,
    lines: ArcSwap<Vec<Arc<Line>>>,
    /// Who makes a connection holds it.
    making: tokio::sync::Mutex<()>,
    tasks: Mutex<JoinSet<()>>,
}

pub(super) struct Line {
    sender: SendRequest<Body>,
    load: Arc<Load>,
    verdict: Verdict,
}

impl Bundle {
    pub(super) fn to(to: String, dial: Arc<dyn Dial>) -> Self {
        Self {
            to,
            dial,
            lines: ArcSwap::default(),
            making: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// Whether it has a connection, or is about to.
    pub(super) fn is_used(self: &Arc<Self>) -> bool {
        // One count is the table's.
        !self.lines.load().is_empty() || Arc::strong_count(self) > 1
    }

    /// Sends a request of a channel.
    ///
    /// # Errors
    /// As [`super::Wires::route`] says.
    pub(crate) async fn call(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>> {
        let answer = self.send(request, &Stage::default()).await;
        let answer = answer.map_err(|unanswered| unanswered.error)?;
        Ok(answer.map(Body::new))
    }

    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<Body>,
        stage: &Stage,
    ) -> Result<Response<Carried>, Unanswered> {
        // Each connection that was closed a moment ago gives the request back once.
        for _ in 0..=CROWDED_LINES_MAX {
            stage.set(false);
            let line = match self.line().await {
                Ok(line) => line,
                Err(error) => return Err(Unanswered::unsent(error, request)),
            };
            stage.set(true);
            let place = line.load.enter();
            let sent = line.sender.clone().try_send_request(request).await;
            match sent {
                Ok(response) => {
                    return Ok(response.map(|body| Carried::new(body, place, self.clone())));
                }
                Err(mut error) => {
                    let unsent = error.take_message();
                    self.remove(&line);
                    if let Some(refusal) = line.verdict.refusal() {
                        return Err(refusal.into());
                    }
                    let Some(unsent) = unsent else {
                        return Err(broken(error.into_error()).into());
                    };
                    request = unsent;
                }
            }
        }
        let closed = std::io::Error::from(ConnectionReset);
        Err(Unanswered::unsent(unreached(true, closed), request))
    }

    /// The connection with the least to do; another one if all have enough and there may be more. Who finds all of them
    /// crowded waits for the other one, and so does who finds none.
    async fn line(self: &Arc<Self>) -> Result<Arc<Line>> {
        let (making, enough) = match self.least() {
            None => (self.making.lock().await, CROWDED_BY),
            Some((_, under_way, count)) if under_way >= CROWDED_BY && count < CROWDED_LINES_MAX => {
                (self.making.lock().await, CROWDED_BY)
            }
            Some((line, under_way, count)) => {
                let may_grow = under_way >= SHARED_BY && count < LINES_MAX;
                match may_grow.then(|| self.making.try_lock().ok()).flatten() {
                    Some(making) => (making, SHARED_BY),
                    None => return Ok(line),
                }
            }
        };
        // Somebody may have made one meanwhile.
        let found = self.least();
        if let Some((line, under_way, count)) = &found
            && (*under_way < enough || *count >= CROWDED_LINES_MAX)
        {
            return Ok(line.clone());
        }
        let made = Box::pin(self.make()).await;
        drop(making);
        match (made, found) {
            // Where no more can be had, what there is has to do.
            (Err(_), Some((line, ..))) => Ok(line),
            (made, _) => made,
        }
    }

    /// The connection with the least to do, how much that is, and how many connections there are.
    fn least(&self) -> Option<(Arc<Line>, usize, usize)> {
        let lines = self.lines.load();
        let open = lines.iter().filter(|line| !line.sender.is_closed());
        let least = open.min_by_key(|line| line.load.under_way())?;
        Some((least.clone(), least.load.under_way(), lines.len()))
    }

    async fn make(self: &Arc<Self>) -> Result<Arc<Line>> {
        self.begin(self.dial.dial(Asks::Http2).await?).await
    }

    /// Takes a connection that was made into use.
    pub(super) async fn begin(self: &Arc<Self>, dialled: Dialled) -> Result<Arc<Line>> {
        let Dialled {
            stream,
            verdict,
            peer,
            ..
        } = dialled;
        let stream = TokioIo::new(Stall::new(stream, WRITE_STALL_MAX));
        let begun = builder().handshake(stream);
        let begun = timeout(CONNECT_WITHIN, begun).await;
        let begun = begun.map_err(|_| unreached(true, std::io::Error::from(TimedOut)))?;
        let (sender, connection) = begun.map_err(|error| unreached(true, error))?;
        let line = Arc::new(Line {
            sender,
            load: Arc::default(),
            verdict,
        });
        self.change(|lines| lines.push(line.clone()));
        let watched = Watched {
            bundle: Arc::downgrade(self),
            line: Arc::downgrade(&line),
            load: line.load.clone(),
            peer,
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(watched.until_over(connection));
        Ok(line)
    }

    fn remove(&self, line: &Arc<Line>) {
        self.change(|lines| lines.retain(|other| !Arc::ptr_eq(other, line)));
    }

    fn change(&self, change: impl Fn(&mut Vec<Arc<Line>>)) {
        self.lines.rcu(|lines| {
            let mut lines = Vec::clone(lines);
            change(&mut lines);
            lines
        });
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(LINE_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(ASK_AFTER)
        .keep_alive_timeout(ANSWER_WITHIN);
    builder
}

/// What the other end said of this one after the handshake: with TLS 1.3 a client learns only then that it is refused.
#[derive(Debug, Clone, Default)]
pub(super) struct Verdict(pub(super) Arc<OnceLock<String>>);

impl Verdict {
    /// Why the other end does not trust us, if it said so.
    pub(super) fn refusal(&self) -> Option<Error> {
        let why = self.0.get()?;
        let text = "the service refused this process's certificate";
        let error = Error::unavailable("certificate_refused", text);
        Some(error.with_retry(Retry::Permanent).with("why", why))
    }
}

/// A connection at work.
struct Watched {
    bundle: Weak<Bundle>,
    line: Weak<Line>,
    load: Arc<Load>,
    peer: Option<SocketAddr>,
}

impl Watched {
    /// Drives it until it ends; once nobody has used it for a while, nobody is given it any more.
    async fn until_over(self, connection: impl Future<Output = hyper::Result<()>>) {
        let mut connection = pin!(connection);
        let mut seen = None;
        loop {
            tokio::select! {
                biased;
                ended = &mut connection => {
                    if let Err(error) = ended {
                        tracing::debug!(error = %report(&error), "a connection ended");
                    }
                    break;
                }
                () = sleep(IDLE_MAX) => {
                    let at_rest = self.load.at_rest();
                    if at_rest.is_some() && at_rest == seen || !self.leads_there() {
                        self.remove();
                    }
                    seen = at_rest;
                }
            }
        }
        self.remove();
    }

    fn leads_there(&self) -> bool {
        let bundle = self.bundle.upgrade();
        bundle.is_none_or(|bundle| bundle.dial.leads_to(self.peer))
    }

    fn remove(&self) {
        if let (Some(bundle), Some(line)) = (self.bundle.upgrade(), self.line.upgrade()) {
            bundle.remove(&line);
        }
    }
}

/// The error of a request that may have been received.
fn broken(error: hyper::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        // The other end promises that it has done nothing.
        if let Some(h2) = error.downcast_ref::<h2::Error>()
            && h2.reason() == Some(h2::Reason::REFUSED_STREAM)
        {
            let text = "the service takes no more requests on this connection";
            return Error::unavailable("service_unreachable", text);
        }
        cause = error.source();
    }
    unreached(false, error)
}

/// An answer's body; its connection has it to do until it ends.
pub(super) struct Carried {
    inner: Incoming,
    place: Option<Place>,
    /// Whoever lets go of a goal lets go of its connections; not of one that this comes by.
    bundle: Option<Arc<Bundle>>,
}

impl Carried {
    fn new(inner: Incoming, place: Place, bundle: Arc<Bundle>) -> Self {
        let is_over = inner.is_end_stream();
        Self {
            inner,
            place: (!is_over).then_some(place),
            bundle: (!is_over).then_some(bundle),
        }
    }
}

impl HttpBody for Carried {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.place = None;
            self.bundle = None;
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}
