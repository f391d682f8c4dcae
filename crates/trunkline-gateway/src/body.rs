//! Bodies on their way through: bounded and timed from the client, counted to the client. Both stream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use trunkline_call::stream::Received;
use trunkline_core::Error;

use crate::plugin::AnswerHeaders;
use crate::problem;

/// How the client's body fares. Shared with whoever waits for the answer, because the service sees only that
/// its body broke off.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: AtomicU8,
    bytes: AtomicU64,
}

const COMING: u8 = 0;
const WHOLE: u8 = 1;
const TOO_LARGE: u8 = 2;
const SLOW: u8 = 3;
const BROKEN: u8 = 4;
const AWAITED: u8 = 5;

impl Progress {
    /// Why the request fails whatever the service said, if it does.
    pub(crate) fn refusal(&self, bytes_max: Option<u64>) -> Option<Error> {
        match self.state.load(Ordering::Acquire) {
            TOO_LARGE => Some(problem::body_too_large(bytes_max.unwrap_or_default())),
            SLOW => Some(problem::body_slow()),
            BROKEN => Some(problem::malformed("the request's body broke off")),
            _ => None,
        }
    }

    /// Whether the service wants more of it and the client has not sent it yet.
    pub(crate) fn is_awaited(&self) -> bool {
        self.state.load(Ordering::Acquire) == AWAITED
    }

    /// Whether it has all gone on, or will not go on.
    pub(crate) fn is_whole(&self) -> bool {
        !matches!(self.state.load(Ordering::Acquire), COMING | AWAITED)
    }

    /// Changes whenever it goes on.
    pub(crate) fn step(&self) -> (u8, u64) {
        (self.state.load(Ordering::Acquire), self.bytes())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Release);
    }
}

/// The body of a request, as it comes.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// There is none.
    None,
    /// hyper reads it.
    Coming(Incoming),
    /// A stream of HTTP/2 brings it.
    Streamed(Received),
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Coming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Streamed(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Coming(body) => body.is_end_stream(),
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Coming(body) => body.size_hint(),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

/// A client's body: at most so many bytes, and never longer than so long without a piece of it.
pub(crate) struct ClientBody<B> {
    inner: B,
    bytes_max: u64,
    idle_max: Duration,
    // Only a body that lets us wait has a timer.
    idle: Option<Pin<Box<Sleep>>>,
    progress: Arc<Progress>,
}

impl<B: Body> ClientBody<B> {
    pub(crate) fn new(inner: B, bytes_max: Option<u64>, idle_max: Duration) -> Self {
        let progress = Arc::new(Progress::default());
        if inner.is_end_stream() {
            progress.set(WHOLE);
        }
        Self {
            inner,
            bytes_max: bytes_max.unwrap_or(u64::MAX),
            idle_max,
            idle: None,
            progress,
        }
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    fn end(&self, state: u8) -> Option<Result<Frame<Bytes>, Error>> {
        self.progress.set(state);
        self.progress.refusal(Some(self.bytes_max)).map(Err)
    }
}

impl<B> Body for ClientBody<B>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.idle = None;
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                let before = this.progress.bytes.fetch_add(length, Ordering::Relaxed);
                if before.saturating_add(length) > this.bytes_max {
                    return Poll::Ready(this.end(TOO_LARGE));
                }
                let state = if this.inner.is_end_stream() {
                    WHOLE
                } else {
                    COMING
                };
                this.progress.set(state);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => Poll::Ready(this.end(WHOLE)),
            Poll::Ready(Some(Err(error))) => {
                let ended = this.end(BROKEN);
                Poll::Ready(ended.map(|ended| ended.map_err(|ours| ours.with_source(error))))
            }
            Poll::Pending => {
                this.progress.set(AWAITED);
                let idle_max = this.idle_max;
                let idle = this
                    .idle
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle_max)));
                std::task::ready!(idle.as_mut().poll(cx));
                Poll::Ready(this.end(SLOW))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Hears how an answer ended: once, when its body has ended or was dropped.
pub(crate) trait Ending: Send + Unpin + 'static {
    /// The bytes that were sent, and why they are not all, if they are not; and when.
    fn ended(&mut self, bytes: u64, cut_off: Option<String>, at: Instant);

    /// The trailers that a client is told of it by that the rest does not come, where its protocol has such.
    fn last_words(&self, error: &axum::Error) -> Option<HeaderMap>;
}

/// An answer's body, which tells when it has ended.
pub(crate) struct Answered<E: Ending> {
    inner: trunkline_call::Body,
    bytes: u64,
    /// In a box: an answer is passed on often.
    ending: Option<Box<E>>,
    /// What its head says besides.
    told: AnswerHeaders,
    /// What time it is, if nothing was waited for since.
    now: Option<Instant>,
}

impl<E: Ending> Answered<E> {
    pub(crate) fn new(inner: trunkline_call::Body, ending: Box<E>, told: AnswerHeaders) -> Self {
        Self {
            inner,
            bytes: 0,
            ending: Some(ending),
            told,
            now: None,
        }
    }

    /// The head is written at this time, and what is there of the body with it.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// What the head says besides, for who writes it. Whoever else gets it has to be told by
    /// [`AnswerHeaders::set`].
    pub(crate) fn take_told(&mut self) -> AnswerHeaders {
        std::mem::take(&mut self.told)
    }

    /// Who hears how it ends, until that.
    pub(crate) fn ending(&self) -> Option<&E> {
        self.ending.as_deref()
    }

    fn end(&mut self, cut_off: Option<String>) {
        if let Some(mut ending) = self.ending.take() {
            ending.ended(self.bytes, cut_off, self.now.unwrap_or_else(Instant::now));
        }
    }
}

impl<E: Ending> Body for Answered<E> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Poll::Ready(mut frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            this.now = None;
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                this.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                if this.inner.is_end_stream() {
                    this.end(None);
                }
            }
            Some(Err(error)) => {
                let words = this
                    .ending
                    .as_ref()
                    .and_then(|ending| ending.last_words(error));
                this.end(Some(trunkline_core::report(error).to_string()));
                if let Some(words) = words {
                    frame = Some(Ok(Frame::trailers(words)));
                    this.inner = trunkline_call::Body::empty();
                }
            }
            None => this.end(None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<E: Ending> Drop for Answered<E> {
    fn drop(&mut self) {
        let whole = self.inner.is_end_stream();
        self.end((!whole).then(|| "the client went away".to_owned()));
    }
}
