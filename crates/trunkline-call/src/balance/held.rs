//! A call at its instance: counted while it lasts, and how it ended.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use super::{Member, Pool};
use crate::Body;

/// A call that an instance has. It counts as in flight until this is dropped.
///
/// # Guarantees
/// Dropped before it was said how it ended, it counts as a failure when its deadline has passed, and else only as
/// slow as it was.
pub struct Held {
    pool: Arc<Pool>,
    member: Arc<Member>,
    began: u64,
    deadline: Option<Instant>,
    is_told: bool,
}

impl Held {
    pub(super) fn new(pool: Arc<Pool>, member: Arc<Member>, began: u64) -> Self {
        pool.in_flight.fetch_add(1, Relaxed);
        member.in_flight.fetch_add(1, Relaxed);
        Self {
            pool,
            member,
            began,
            deadline: None,
            is_told: false,
        }
    }

    /// The same with a deadline: who lets it pass has failed.
    #[must_use]
    pub fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// The instance.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Says how the call went, once: an answer came, or it failed.
    pub fn tell(&mut self, failed: bool) {
        if self.is_told {
            return;
        }
        self.is_told = true;
        let (now, took) = self.took();
        if failed {
            self.member.load.failed(now, took);
        } else {
            self.member.load.answered(now, took);
        }
        self.pool.ended(&self.member, now, failed);
    }

    /// Says that the body of an answer failed, which looked well before.
    fn broke(&self) {
        self.pool.ended(&self.member, self.pool.now(), true);
    }

    fn took(&self) -> (u64, f64) {
        let now = self.pool.now();
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a call")]
        let took = now.saturating_sub(self.began) as f64;
        (now, took)
    }

    /// Takes a response's status in, and holds on until its body ended or is dropped.
    pub(crate) fn answered(mut self, response: Response<Body>) -> Response<Body> {
        let failed = is_failure(response.status()) || grpc_failed(response.headers());
        self.tell(failed);
        if response.body().is_end_stream() {
            return response;
        }
        response.map(|inner| {
            Body::new(Tracked {
                inner,
                held: Some(self),
            })
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_told {
            if self
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now())
            {
                self.tell(true);
            } else {
                let (now, took) = self.took();
                // It would have taken longer still.
                if took > self.member.load.nanos(now) {
                    self.member.load.answered(now, took);
                }
            }
        }
        self.member.in_flight.fetch_sub(1, Relaxed);
        self.pool.in_flight.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.member).finish()
    }
}

/// Whether a status says that the instance is unwell, rather than that the request is.
fn is_failure(status: StatusCode) -> bool {
    status.is_server_error()
        && status != StatusCode::NOT_IMPLEMENTED
        && status != StatusCode::HTTP_VERSION_NOT_SUPPORTED
}

/// The same of gRPC's own status: internal (13), unavailable (14), data loss (15).
fn grpc_failed(headers: &HeaderMap) -> bool {
    let status = headers.get("grpc-status");
    status.is_some_and(|status| matches!(status.as_bytes(), b"13" | b"14" | b"15"))
}

/// A body that counts as in flight.
struct Tracked {
    inner: Body,
    held: Option<Held>,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let failed = match &frame {
            Some(Err(_)) => true,
            Some(Ok(frame)) => frame.trailers_ref().is_some_and(grpc_failed),
            None => false,
        };
        if failed && let Some(held) = &self.held {
            held.broke();
        }
        if failed || frame.is_none() || self.inner.is_end_stream() {
            self.held = None;
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
