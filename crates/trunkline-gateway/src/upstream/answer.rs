//! The body of a target's answer, which must not pause for too long.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use trunkline_call::{Body, WireBody};
use trunkline_core::Error;

use super::pick::Vitals;
use crate::problem;

/// A request that a target has to do, until dropped.
pub(super) struct Place(Arc<Vitals>);

impl Place {
    pub(super) fn at(vitals: &Arc<Vitals>) -> Self {
        vitals.under_way.fetch_add(1, Ordering::Relaxed);
        Self(vitals.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body: its target has it to do until it ends.
pub(super) struct AnswerBody {
    inner: WireBody,
    place: Option<Place>,
    read_within: Duration,
    // Only a body that lets us wait has a timer.
    idle: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    pub(super) fn wrap(inner: WireBody, place: Place, read_within: Duration) -> Body {
        if inner.is_end_stream() {
            return Body::empty();
        }
        Body::new(Self {
            inner,
            place: Some(place),
            read_within,
            idle: None,
        })
    }
}

impl HttpBody for AnswerBody {
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
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.place = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                this.place = None;
                Poll::Ready(Some(
                    Err(problem::upstream_unreachable().with_source(error)),
                ))
            }
            Poll::Pending => {
                let until = || Instant::now() + this.read_within;
                let idle = this
                    .idle
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until())));
                std::task::ready!(idle.as_mut().poll(cx));
                Poll::Ready(Some(Err(problem::upstream_timeout())))
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
