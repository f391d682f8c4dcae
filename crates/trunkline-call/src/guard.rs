//! A response body under a deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use trunkline_core::{Error, ErrorKind};

use crate::Body;

/// Ends with an error when the call's deadline passes before the body does; what it was made from ends then too.
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

pin_project! {
    /// Work until a deadline: see [`until`].
    pub(crate) struct Until<F> {
        #[pin]
        work: F,
        deadline: Instant,
        timer: Option<Pin<Box<Sleep>>>,
    }
}

/// What work comes to, or nothing when the deadline passes before it does. Most work here never waits, and then
/// it costs no timer.
///
/// It is no `async fn`: that would have a second place for the work, as large as the first.
pub(crate) fn until<F: Future>(deadline: Instant, work: F) -> Until<F> {
    Until {
        work,
        deadline,
        timer: None,
    }
}

impl<F: Future> Future for Until<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.project();
        if let Poll::Ready(output) = this.work.poll(cx) {
            return Poll::Ready(Some(output));
        }
        let deadline = *this.deadline;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().poll(cx).map(|()| None)
    }
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
        // Whoever keeps what is left of the answer keeps no work going by it.
        self.inner = Body::empty();
        Poll::Ready(Some(Err(axum::Error::new(deadline_exceeded()))))
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    /// A body that never comes, and knows whether anybody waits for it.
    struct Awaited(#[expect(dead_code, reason = "it is counted")] Arc<()>);

    impl HttpBody for Awaited {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_body_is_made_from_ends_with_its_time() {
        let work = Arc::new(());
        let until = Instant::now() + Duration::from_secs(5);
        let mut body = Guarded::wrap(Body::new(Awaited(work.clone())), until);
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        assert!(frame.is_some_and(|frame| frame.is_err()));
        assert_eq!(Instant::now(), until);
        assert_eq!(Arc::strong_count(&work), 1, "the body is still held");
        assert!(body.is_end_stream());
    }
}
