//! Entries that go elsewhere in batches, beside the requests.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use metrics::counter;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use trunkline_core::{Error, Retry, report};

use super::{Mistake, mistake};
use crate::workers::{Flush, Workers};

/// Kong's settings of a queue.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// The most entries of one batch.
    pub(super) max_batch_size: usize,
    /// How long the first entry of a batch waits for others, in seconds.
    pub(super) max_coalescing_delay: f64,
    /// More entries push out the oldest ones.
    pub(super) max_entries: usize,
    /// Whose bytes are not more than this.
    pub(super) max_bytes: Option<usize>,
    /// After so many seconds a batch that is not taken is dropped.
    pub(super) max_retry_time: f64,
    /// The pause before the second try, in seconds. Each is twice the one before.
    pub(super) initial_retry_delay: f64,
    /// The longest pause, in seconds.
    pub(super) max_retry_delay: f64,
    /// Batches go one after the other.
    pub(super) concurrency_limit: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_batch_size: 1,
            max_coalescing_delay: 1.0,
            max_entries: 10_000,
            max_bytes: None,
            max_retry_time: 60.0,
            initial_retry_delay: 0.01,
            max_retry_delay: 60.0,
            concurrency_limit: 1,
        }
    }
}

/// The most entries that a queue may be told to hold, and the most bytes if it is told nothing.
const ENTRIES_MAX: usize = 1_000_000;
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// A shorter pause would be none.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest time that a queue may be told to wait.
const SECONDS_MAX: f64 = 3_600.0;

/// The settings, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    batch_max: usize,
    linger: Duration,
    entries_max: usize,
    bytes_max: usize,
    retry_within: Duration,
    pause_first: Duration,
    pause_max: Duration,
}

impl Settings {
    pub(super) fn check(&self) -> Result<Policy, Mistake> {
        let count = |at: &str, value: usize| match value {
            1..=ENTRIES_MAX => Ok(value),
            _ => Err(mistake(at, format!("expected 1 to {ENTRIES_MAX}"))),
        };
        let seconds = |at: &str, value: f64| match value {
            0.0..=SECONDS_MAX => Ok(Duration::from_secs_f64(value)),
            _ => Err(mistake(at, format!("expected 0 to {SECONDS_MAX} seconds"))),
        };
        if self.concurrency_limit != 1 {
            let expected = "expected 1: batches go one after the other";
            return Err(mistake("queue.concurrency_limit", expected));
        }
        if self.max_bytes == Some(0) {
            return Err(mistake("queue.max_bytes", "expected bytes above 0"));
        }
        Ok(Policy {
            batch_max: count("queue.max_batch_size", self.max_batch_size)?,
            linger: seconds("queue.max_coalescing_delay", self.max_coalescing_delay)?,
            entries_max: count("queue.max_entries", self.max_entries)?,
            bytes_max: self.max_bytes.unwrap_or(BYTES_MAX).min(BYTES_MAX),
            retry_within: seconds("queue.max_retry_time", self.max_retry_time)?,
            pause_first: seconds("queue.initial_retry_delay", self.initial_retry_delay)?,
            pause_max: seconds("queue.max_retry_delay", self.max_retry_delay)?,
        })
    }
}

/// Something on its way.
pub(super) trait Entry: Send + Sync + 'static {
    /// About how much memory it takes.
    fn bytes(&self) -> usize;
}

impl Entry for String {
    fn bytes(&self) -> usize {
        self.len()
    }
}

/// Where batches go.
pub(super) trait Sink<T>: Send + Sync + 'static {
    /// Takes a batch; an error says whether it may be tried again.
    fn send<'a>(&'a self, batch: &'a [T]) -> BoxFuture<'a, Result<(), Error>>;
}

/// Entries on their way. A request never waits for it.
///
/// # Guarantees
/// It holds at most so many entries and bytes: one more pushes out the oldest, which is counted
/// (`trunkline_gateway_log_dropped_total`), and so is a batch that was not taken in time. The order is kept. What waits when the
/// plugin is replaced or the gateway ends is still sent.
pub(super) struct Queue<T: Entry> {
    shared: Arc<Shared<T>>,
    workers: Workers,
    began: AtomicBool,
}

struct Shared<T> {
    /// The plugin that fills it, and where it stands.
    name: &'static str,
    scope: String,
    policy: Policy,
    sink: Box<dyn Sink<T>>,
    waiting: Mutex<Waiting<T>>,
    wake: Notify,
    /// How many entries came, how many are done with, and until which one nobody wants to wait for more.
    came: AtomicU64,
    done: watch::Sender<u64>,
    hurry: AtomicU64,
    is_closed: AtomicBool,
}

struct Waiting<T> {
    entries: VecDeque<T>,
    bytes: usize,
}

impl<T: Entry> Queue<T> {
    pub(super) fn new(
        name: &'static str,
        scope: &str,
        policy: Policy,
        sink: impl Sink<T>,
        workers: &Workers,
    ) -> Self {
        let shared = Arc::new(Shared {
            name,
            scope: scope.to_owned(),
            policy,
            sink: Box::new(sink),
            waiting: Mutex::new(Waiting {
                entries: VecDeque::new(),
                bytes: 0,
            }),
            wake: Notify::new(),
            came: AtomicU64::new(0),
            done: watch::Sender::new(0),
            hurry: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
        });
        Self {
            shared,
            workers: workers.clone(),
            began: AtomicBool::new(false),
        }
    }

    /// Adds an entry.
    pub(super) fn push(&self, entry: T) {
        if !self.began.swap(true, Ordering::AcqRel) {
            let shared = self.shared.clone();
            let flush: Arc<dyn Flush> = shared.clone();
            self.workers.watch(Arc::downgrade(&flush));
            self.workers.spawn(async move { shared.run().await });
        }
        let policy = &self.shared.policy;
        let mut dropped = 0;
        let is_first = {
            let mut waiting = self.shared.waiting.lock();
            waiting.bytes += entry.bytes();
            waiting.entries.push_back(entry);
            while waiting.entries.len() > policy.entries_max || waiting.bytes > policy.bytes_max {
                let Some(oldest) = waiting.entries.pop_front() else {
                    break;
                };
                waiting.bytes -= oldest.bytes();
                dropped += 1;
            }
            self.shared.came.fetch_add(1, Ordering::AcqRel);
            let count = waiting.entries.len();
            count == 1 || count >= policy.batch_max
        };
        self.shared.settle(dropped, dropped);
        if is_first {
            self.shared.wake.notify_one();
        }
    }
}

impl<T: Entry> Drop for Queue<T> {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

impl<T: Entry> Shared<T> {
    async fn run(&self) {
        loop {
            let waits = self.waiting.lock().entries.len();
            if waits == 0 {
                if self.is_closed.load(Ordering::Acquire) {
                    return;
                }
                self.wake.notified().await;
                continue;
            }
            if waits < self.policy.batch_max && !self.is_hurried() {
                self.linger().await;
            }
            let batch = self.take();
            let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            let dropped = match self.send(&batch).await {
                Ok(()) => 0,
                Err(error) => {
                    let (plugin, scope) = (self.name, &*self.scope);
                    tracing::warn!(plugin, scope, count, error = %report(&error), "log entries are dropped");
                    count
                }
            };
            self.settle(count, dropped);
        }
    }

    /// Waits for a batch to be full, or for its time.
    async fn linger(&self) {
        let full = async {
            while self.waiting.lock().entries.len() < self.policy.batch_max && !self.is_hurried() {
                self.wake.notified().await;
            }
        };
        // What is there when the time is over is a batch too.
        drop(timeout(self.policy.linger, full).await);
    }

    fn is_hurried(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
            || *self.done.borrow() < self.hurry.load(Ordering::Acquire)
    }

    fn take(&self) -> Vec<T> {
        let mut waiting = self.waiting.lock();
        let count = waiting.entries.len().min(self.policy.batch_max);
        let rest = waiting.entries.split_off(count);
        let batch = mem::replace(&mut waiting.entries, rest);
        waiting.bytes -= batch.iter().map(T::bytes).sum::<usize>();
        batch.into()
    }

    async fn send(&self, batch: &[T]) -> Result<(), Error> {
        let ends = Instant::now() + self.policy.retry_within;
        let mut pause = self.policy.pause_first;
        loop {
            let Err(error) = self.sink.send(batch).await else {
                return Ok(());
            };
            pause = pause.clamp(PAUSE_MIN, self.policy.pause_max.max(PAUSE_MIN));
            if error.retry() == Retry::Permanent || Instant::now() + pause > ends {
                return Err(error);
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }

    /// So many entries are done with, of which some were dropped.
    fn settle(&self, count: u64, dropped: u64) {
        if count > 0 {
            self.done.send_modify(|done| *done += count);
        }
        if dropped > 0 {
            counter!("trunkline_gateway_log_dropped_total", "plugin" => self.name)
                .increment(dropped);
        }
    }
}

impl<T: Entry> Flush for Shared<T> {
    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let came = self.came.load(Ordering::Acquire);
            self.hurry.fetch_max(came, Ordering::AcqRel);
            self.wake.notify_one();
            let mut done = self.done.subscribe();
            // The sender lives as long as we do.
            drop(done.wait_for(|done| *done >= came).await);
        })
    }
}

impl<T: Entry> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("plugin", &self.shared.name)
            .field("waiting", &self.shared.waiting.lock().entries.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
