//! Connections of HTTP/2, each shared by many requests, a few to each goal.

use std::fmt;
use std::io::ErrorKind::{ConnectionReset, TimedOut};
use std::net::SocketAddr;

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong, Reason};
use http::{Request, Response};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use trunkline_core::{Error, Result, Retry, report};

use super::dial::{Asks, Dial, Dialled};
use super::exchange::{Carried, Failure, exchange};
use super::wire::{Stage, Unanswered};
use super::{CONNECT_WITHIN, IDLE_MAX, request_broken, unreached};
use crate::load::Load;
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
/// Before the other end says how many requests it takes at once, so many are sent.
const STREAMS_AT_FIRST: usize = 100;
/// An end with requests under way is asked each time after so long whether it is there: twice the pause after which a
/// connection that nobody uses is let go,
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
    sender: SendRequest<Bytes>,
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
            let sender = (line.sender.clone(), line.load.begun() == 1);
            match exchange(sender, request, &self.tasks).await {
                Ok(response) => {
                    return Ok(response.map(|body| body.holding(place, self.clone())));
                }
                Err(Failure::Own(error)) => return Err(request_broken(error).into()),
                Err(Failure::Broken(error)) => {
                    if ends_line(&error) {
                        self.remove(&line);
                    }
                    let refusal = line.verdict.refusal();
                    return Err(refusal.unwrap_or_else(|| broken(error)).into());
                }
                Err(Failure::Unsent(unsent)) => {
                    self.remove(&line);
                    if let Some(refusal) = line.verdict.refusal() {
                        return Err(refusal.into());
                    }
                    request = *unsent;
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
        let least = lines.iter().min_by_key(|line| line.load.under_way())?;
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
        let stream = Stall::new(stream, WRITE_STALL_MAX);
        let begun = builder().handshake(stream);
        let begun = timeout(CONNECT_WITHIN, begun).await;
        let begun = begun.map_err(|_| unreached(true, std::io::Error::from(TimedOut)))?;
        let (sender, mut connection) = begun.map_err(|error| unreached(true, error))?;
        let pings = connection.ping_pong();
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
        tasks.spawn(watched.until_over(connection, pings));
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

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(STREAMS_AT_FIRST)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(LINE_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADERS_BYTES_MAX);
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
    /// Drives it until it ends, or until the other end does not say that it is there.
    async fn until_over(
        self,
        connection: impl Future<Output = Result<(), h2::Error>>,
        pings: Option<PingPong>,
    ) {
        tokio::select! {
            biased;
            ended = connection => {
                if let Err(error) = ended {
                    tracing::debug!(error = %report(&error), "a connection ended");
                }
            }
            () = self.tend(pings) => {
                tracing::debug!(to = ?self.peer, "a connection whose other end is silent is given up");
            }
        }
        self.remove();
    }

    /// Once nobody has used it for a while, nobody is given it any more. Ends where nobody is at the other end.
    async fn tend(&self, mut pings: Option<PingPong>) {
        let (mut seen, mut busy) = (None, 0);
        loop {
            sleep(IDLE_MAX).await;
            let at_rest = self.load.at_rest();
            if at_rest.is_some() && at_rest == seen || !self.leads_there() {
                self.remove();
            }
            seen = at_rest;
            busy = if at_rest.is_some() { 0 } else { busy + 1 };
            if let Some(pings) = pings.as_mut().filter(|_| IDLE_MAX * busy >= ASK_AFTER) {
                busy = 0;
                let asked = timeout(ANSWER_WITHIN, pings.ping(Ping::opaque()));
                if !matches!(asked.await, Ok(Ok(_))) {
                    return;
                }
            }
        }
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

/// Whether nothing more is to be sent on a connection of which this was said.
fn ends_line(error: &h2::Error) -> bool {
    !error.is_reset() || error.reason() == Some(Reason::REFUSED_STREAM)
}

/// The error of a request that may have been received.
fn broken(error: h2::Error) -> Error {
    // The other end promises that it has done nothing.
    if error.reason() == Some(Reason::REFUSED_STREAM) {
        let text = "the service takes no more requests on this connection";
        return Error::unavailable("service_unreachable", text);
    }
    unreached(false, error)
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}
