//! What the tests share: a rig with a transport, a lot and a history, and handlers made of closures.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_bus::memory::{Memory, MemoryLot};
use trunkline_bus::{
    Changes, Consumer, ConsumerConfig, ConsumerPorts, DeadLetter, DeadLetterQuery, Handler,
    Outcome, ParkingLot, Reservation, Transport, lanes,
};
use trunkline_core::{ByteString, Env, Envelope, Error, Priority, Result};
use trunkline_telemetry::Telemetry;
use trunkline_testkit::{History, numbered, topic};

pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A transport with a topic `t` of four partitions and its lanes, a lot and a history.
#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) lot: Arc<dyn ParkingLot>,
    pub(crate) history: Arc<History>,
    pub(crate) telemetry: Telemetry,
    pub(crate) env: Env,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let env = Env::seeded(7);
        Self::over(Arc::new(Memory::new(env.clone())), env).await
    }

    pub(crate) async fn over(transport: Arc<dyn Transport>, env: Env) -> Self {
        transport.declare(&lanes(&topic("t", 4))).await.unwrap();
        Self {
            transport,
            lot: Arc::new(MemoryLot::default()),
            history: Arc::new(History::new()),
            telemetry: Telemetry::new(env.clone()),
            env,
        }
    }

    pub(crate) async fn publish(&self, events: &[Envelope]) {
        self.transport.publish(events).await.unwrap();
        events
            .iter()
            .for_each(|event| self.history.published(event));
    }

    /// Publishes events `range` of `key` on `t`.
    pub(crate) async fn publish_numbered(&self, key: &str, range: std::ops::Range<usize>) {
        let events: Vec<Envelope> = range.map(|n| numbered("t", key, n)).collect();
        self.publish(&events).await;
    }

    pub(crate) fn ports(&self, handler: Arc<dyn Handler>) -> ConsumerPorts {
        ConsumerPorts {
            transport: self.transport.clone(),
            handler,
            lot: self.lot.clone(),
            telemetry: self.telemetry.clone(),
            env: self.env.clone(),
        }
    }

    /// Starts a consumer whose events `rule` handles, recorded in the history.
    pub(crate) async fn start<F, W>(&self, config: ConsumerConfig, rule: F) -> Consumer
    where
        F: Fn(Envelope, u32) -> W + Send + Sync + 'static,
        W: Future<Output = Outcome> + Send + 'static,
    {
        let worker = self.worker(&config.group, rule);
        Consumer::start(config, self.ports(worker)).await.unwrap()
    }

    pub(crate) fn worker<F, W>(&self, group: &str, rule: F) -> Arc<Worker>
    where
        F: Fn(Envelope, u32) -> W + Send + Sync + 'static,
        W: Future<Output = Outcome> + Send + 'static,
    {
        Arc::new(Worker {
            group: group.into(),
            history: self.history.clone(),
            rule: Box::new(move |event, attempt| rule(event, attempt).boxed()),
            calls: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            running_max: AtomicUsize::new(0),
        })
    }

    pub(crate) async fn letters(&self) -> Vec<DeadLetter> {
        let query = DeadLetterQuery {
            limit: 1_000,
            ..DeadLetterQuery::default()
        };
        self.lot.list(&query).await.unwrap()
    }

    pub(crate) async fn letter_ids(&self) -> Vec<String> {
        self.letters()
            .await
            .iter()
            .map(|letter| letter.envelope.id.to_string())
            .collect()
    }
}

/// One group, reading the medium lane of `t`.
pub(crate) fn config() -> ConsumerConfig {
    ConsumerConfig::new("g").topic("t", &[Priority::Medium])
}

pub(crate) fn ids_of(key: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("{key}/{n}")).collect()
}

pub(crate) fn refused() -> Outcome {
    Outcome::Failed(Error::invalid("poisoned", "the event is poisoned"))
}

pub(crate) fn busy() -> Outcome {
    Outcome::Failed(Error::unavailable("busy", "the store is busy"))
}

type Rule = Box<dyn Fn(Envelope, u32) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// A handler that applies a rule to each event and keeps the contract about blocked ones.
pub(crate) struct Worker {
    group: ByteString,
    history: Arc<History>,
    rule: Rule,
    pub(crate) calls: AtomicUsize,
    running: AtomicUsize,
    pub(crate) running_max: AtomicUsize,
}

/// Counts a call as running until it is dropped.
struct Running<'a>(&'a Worker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends the record of an event even when its handling is cancelled or panics.
struct Recorded<'a> {
    worker: &'a Worker,
    event: &'a Envelope,
    done: bool,
}

impl Drop for Recorded<'_> {
    fn drop(&mut self) {
        self.worker
            .history
            .ended(&self.worker.group, self.event, self.done);
    }
}

impl Handler for Worker {
    fn handle<'a>(&'a self, batch: &'a [Envelope], attempt: u32) -> BoxFuture<'a, Vec<Outcome>> {
        async move {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
            self.running_max.fetch_max(running, Ordering::Relaxed);
            let _running = Running(self);
            let mut failed: Vec<Option<ByteString>> = Vec::new();
            let mut outcomes = Vec::new();
            for event in batch {
                if failed.contains(&event.key) {
                    outcomes.push(Outcome::Blocked);
                    continue;
                }
                self.history.began(&self.group, event);
                let mut recorded = Recorded {
                    worker: self,
                    event,
                    done: false,
                };
                let outcome = (self.rule)(event.clone(), attempt).await;
                recorded.done = matches!(outcome, Outcome::Done);
                if !recorded.done {
                    failed.push(event.key.clone());
                }
                drop(recorded);
                outcomes.push(outcome);
            }
            outcomes
        }
        .boxed()
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// A lot that fails its first parkings: a full disk.
#[derive(Debug)]
pub(crate) struct FullLot {
    pub(crate) inner: MemoryLot,
    pub(crate) failures: AtomicUsize,
}

impl FullLot {
    pub(crate) fn new(failures: usize) -> Self {
        Self {
            inner: MemoryLot::default(),
            failures: AtomicUsize::new(failures),
        }
    }
}

impl ParkingLot for FullLot {
    fn park<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<Vec<ByteString>>> {
        let fails = |left: usize| left.checked_sub(1);
        if self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails)
            .is_ok()
        {
            let error = Error::unavailable("disk_full", "no space left on device");
            return std::future::ready(Err(error)).boxed();
        }
        self.inner.park(letters)
    }

    fn parked_keys<'a>(
        &'a self,
        group: &'a str,
        among: Option<&'a [ByteString]>,
    ) -> BoxFuture<'a, Result<Vec<ByteString>>> {
        self.inner.parked_keys(group, among)
    }

    fn list<'a>(&'a self, query: &'a DeadLetterQuery) -> BoxFuture<'a, Result<Vec<DeadLetter>>> {
        self.inner.list(query)
    }

    fn update<'a>(&'a self, letter: &'a DeadLetter) -> BoxFuture<'a, Result<()>> {
        self.inner.update(letter)
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        self.inner.remove(id)
    }

    fn changes(&self) -> Changes {
        self.inner.changes()
    }

    fn reserve<'a>(
        &'a self,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Reservation>>>> {
        self.inner.reserve(group)
    }
}
