//! Connections that nobody uses, kept for the next request.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::dial::Dial;

/// How many connections are kept that nobody uses, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) idle_max: Duration,
    pub(super) idle_count_max: usize,
}

/// A connection to one peer.
pub(super) trait Peered: Send + 'static {
    /// Whom it leads to, if that is known.
    fn peer(&self) -> Option<SocketAddr>;
}

/// The connections to one place that nobody uses.
pub(super) struct Idle<L> {
    dial: Arc<dyn Dial>,
    bounds: Bounds,
    kept: Mutex<VecDeque<Kept<L>>>,
    /// Closes what nobody has used for too long; it ends when there is nothing left.
    sweeper: Mutex<JoinSet<()>>,
}

struct Kept<L> {
    line: L,
    since: Instant,
}

impl<L: Peered> Idle<L> {
    pub(super) fn new(dial: Arc<dyn Dial>, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            dial,
            bounds,
            kept: Mutex::default(),
            sweeper: Mutex::default(),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.kept.lock().len()
    }

    /// The connection that was used last: the longer others are idle, the sooner they are closed.
    pub(super) fn take(&self) -> Option<L> {
        self.take_at(Instant::now())
    }

    /// The same, for who knows what time it is.
    pub(super) fn take_at(&self, now: Instant) -> Option<L> {
        let mut kept = self.kept.lock();
        let last = kept.pop_back()?;
        if now.saturating_duration_since(last.since) < self.bounds.idle_max {
            return Some(last.line);
        }
        // Those before it are older.
        kept.clear();
        None
    }

    pub(super) fn put(self: &Arc<Self>, line: L) {
        if !self.dial.leads_to(line.peer()) {
            return;
        }
        let since = Instant::now();
        let is_first = {
            let mut kept = self.kept.lock();
            if kept.len() >= self.bounds.idle_count_max {
                kept.pop_front();
            }
            kept.push_back(Kept { line, since });
            kept.len() == 1
        };
        if is_first {
            self.sweep();
        }
    }

    fn sweep(self: &Arc<Self>) {
        let mut sweeper = self.sweeper.lock();
        while sweeper.try_join_next().is_some() {}
        if sweeper.is_empty() && tokio::runtime::Handle::try_current().is_ok() {
            let idle = Arc::downgrade(self);
            sweeper.spawn(async move {
                while let Some(next) = Self::look(&idle).await {
                    sleep_until(next).await;
                }
            });
        }
    }

    /// Closes what is too old or leads elsewhere by now, and says when to look again.
    async fn look(idle: &Weak<Self>) -> Option<Instant> {
        let idle = idle.upgrade()?;
        idle.dial.refresh().await;
        let idle_max = idle.bounds.idle_max;
        let mut kept = idle.kept.lock();
        kept.retain(|one| one.since.elapsed() < idle_max && idle.dial.leads_to(one.line.peer()));
        kept.front().map(|first| first.since + idle_max)
    }
}
