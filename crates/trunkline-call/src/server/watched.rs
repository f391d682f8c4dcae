//! A response's body under watch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use trunkline_core::{Error, ErrorKind, report};
use trunkline_telemetry::Scope;

use super::panicked;
use crate::Body;
use crate::load::Place;

/// Ends a body that pauses for too long or panics: whoever reads it sees it break off, the log says why, and the task
/// that writes it goes on.
pub(super) struct Watched {
    inner: Body,
    pause_max: Option<Duration>,
    /// What the lines of the body's own work say of it; none where that is not known.
    scope: Option<Scope>,
    // Made only when the body makes us wait.
    timer: Option<Pin<Box<Sleep>>>,
    over: bool,
    /// Its connection's place, given back at its end.
    place: Option<Place>,
}

type Polled = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

impl Watched {
    pub(super) fn wrap(inner: Body, pause_max: Duration, scope: Scope) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        Body::new(Self {
            scope: Some(scope),
            ..Self::of(inner, Some(pause_max))
        })
    }

    /// The same as a connection does it, which knows nothing of the work.
    pub(super) fn outermost(inner: Body, pause_max: Option<Duration>, place: Place) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        Body::new(Self {
            place: Some(place),
            ..Self::of(inner, pause_max)
        })
    }

    fn of(inner: Body, pause_max: Option<Duration>) -> Self {
        Self {
            inner,
            pause_max,
            scope: None,
            timer: None,
            over: false,
            place: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        let inner = &mut self.inner;
        let poll = AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx));
        match catch_unwind(poll) {
            Ok(Poll::Ready(frame)) => {
                self.timer = None;
                if !matches!(frame, Some(Ok(_))) {
                    self.place = None;
                }
                if let Some(Err(error)) = &frame {
                    tracing::warn!(error = %report(error), "an answer broke off");
                }
                Poll::Ready(frame)
            }
            Ok(Poll::Pending) => {
                let Some(pause_max) = self.pause_max else {
                    return Poll::Pending;
                };
                let sleep = || Box::pin(tokio::time::sleep(pause_max));
                std::task::ready!(self.timer.get_or_insert_with(sleep).as_mut().poll(cx));
                self.end(&stalled(pause_max))
            }
            Err(panic) => self.end(&panicked("the answer's body panicked", &*panic)),
        }
    }

    fn end(&mut self, error: &Error) -> Polled {
        self.over = true;
        self.place = None;
        tracing::error!(code = error.code(), error = %report(error), "an answer broke off");
        // The client is told that it broke off, not why.
        let told = Error::unavailable("answer_broken", "the answer broke off");
        Poll::Ready(Some(Err(axum::Error::new(told))))
    }
}

fn stalled(pause_max: Duration) -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "answer_stalled",
        "the answer's body paused for too long",
    )
    .with("pause_max", format!("{pause_max:?}"))
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        if self.over {
            return Poll::Ready(None);
        }
        match self.scope.clone() {
            Some(scope) => scope.enter(|| self.poll(cx)),
            None => self.poll(cx),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }
}
