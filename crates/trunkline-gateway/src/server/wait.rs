//! How long a client may be silent.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::{Fuse, FusedFuture};
use tokio::time::{Instant, Sleep};

/// A connection that has been silent for so long is parked. A second: by then whatever comes of one page has come, and who asks
/// once a second at most does not notice the 10 µs that it takes to be put away and fetched again.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// How the next head of a connection is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// It has to be whole by then.
    pub(super) until: Instant,
    /// Whether the connection can be parked.
    pub(super) parks: bool,
    /// Whether there was no request yet.
    pub(super) is_new: bool,
}

impl Wait {
    /// For the first head of a connection.
    pub(super) fn new(within: Duration, parks: bool) -> Self {
        Self {
            until: Instant::now() + within,
            parks,
            is_new: true,
        }
    }

    /// When something is to be done about a client that says nothing from now on.
    pub(super) fn first(&self, now: Instant) -> Instant {
        match self.parks {
            true => self.until.min(now + SILENT_AFTER),
            false => self.until,
        }
    }
}

/// What is done about a client that says nothing.
pub(super) enum Silent {
    /// It may say something later.
    Parks,
    /// It has had its time.
    Ends,
}

/// A wait, and what ends it.
pub(super) struct Watch<'a, F> {
    pub(super) wait: &'a mut Wait,
    pub(super) timer: Pin<&'a mut Sleep>,
    /// The beginning of a stop: who says nothing is kept for `linger` from then on.
    pub(super) stops: Pin<&'a mut Fuse<F>>,
    pub(super) linger: Duration,
}

impl<F: Future<Output = ()>> Watch<'_, F> {
    /// A head is waited for from now on.
    pub(super) fn next(&mut self, head_within: Duration) {
        let now = Instant::now();
        self.wait.is_new = false;
        self.wait.until = match self.stops.is_terminated() {
            true => now + self.linger,
            false => now + head_within,
        };
        self.timer.as_mut().reset(self.wait.first(now));
    }

    /// Waits; `is_idle` is a client of whose next head nothing has come.
    pub(super) fn poll(&mut self, is_idle: bool, cx: &mut Context<'_>) -> Poll<Silent> {
        let stopped = self.stops.is_terminated();
        if !stopped && self.stops.as_mut().poll(cx).is_ready() && is_idle {
            self.wait.until = Instant::now() + self.linger;
            self.timer.as_mut().reset(self.wait.until);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= self.wait.until {
                return Poll::Ready(Silent::Ends);
            }
            if is_idle && !self.stops.is_terminated() {
                return Poll::Ready(Silent::Parks);
            }
            self.timer.as_mut().reset(self.wait.until);
        }
    }
}
