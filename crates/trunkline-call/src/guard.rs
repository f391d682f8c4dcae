//! A response body under a deadline.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use trunkline_core::{Error, ErrorKind};

use crate::Body;

/// Ends with an error when the call's deadline passes before the body does.
pub(crate) struct Guarded {
    inner: Body,
    deadline: Instant,
    // Made only when the body makes us wait.
    timer: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Guarded {
    pub(crate) fn wrap(inner: Body, deadline: Instant) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        Body::new(Self {
            inner,
            deadline,
            timer: None,
            over: false,
        })
    }
}

/// What work comes to, or nothing when the deadline passes before it does. Most work here never waits, and then
/// it costs no timer.
pub(crate) async fn until<F: Future>(deadline: Instant, work: F) -> Option<F::Output> {
    until_pinned(deadline, pin!(work)).await
}

/// The same of work that stands where it stays: it is not moved, and there is no second place for it.
pub(crate) async fn until_pinned<F: Future>(
    deadline: Instant,
    mut work: Pin<&mut F>,
) -> Option<F::Output> {
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// The error of a call whose time is up.
pub(crate) fn deadline_exceeded() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "deadline_exceeded",
        "the time for this call is up",
    )
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.inner).poll_frame(cx) {
            return ready;
        }
        let deadline = self.deadline;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        std::task::ready!(timer.as_mut().poll(cx));
        self.over = true;
        Poll::Ready(Some(Err(axum::Error::new(deadline_exceeded()))))
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }
}
