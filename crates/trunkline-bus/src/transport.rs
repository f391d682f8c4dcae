//! The contract between the runtime and an engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures::future::BoxFuture;
use jiff::Timestamp;
use trunkline_core::{Envelope, Error, Result};

/// An engine that carries events: memory, the embedded log, a broker.
///
/// What it does not promise: order across topics, exactly one delivery, retries, dead letters,
/// delays, priority. The runtime adds those above it.
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// What this engine can do; the conformance suite proves each, and the absence of the others.
    fn capabilities(&self) -> Capabilities;

    /// Makes topics exist. Declaring what exists changes nothing; a different shape is a `Conflict`.
    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>>;

    /// Appends a batch, in order. When it returns `Ok`, every event is as durable as the engine's
    /// setting promises. Cancelling it may leave any prefix published.
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>>;

    /// Joins a group (or, without one, reads on its own) and delivers from where `spec` says.
    fn subscribe<'a>(&'a self, spec: &'a Subscribe)
    -> BoxFuture<'a, Result<Box<dyn Subscription>>>;

    /// Flushes and stops. Idempotent; blocked calls return `Unavailable`.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}

/// What an engine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// Published events survive the death of the process.
    pub durable: bool,
    /// Events of one key are delivered in the order they were published.
    pub ordered_by_key: bool,
    /// Groups share the work and remember where they were.
    pub groups: bool,
    /// A subscription may start at an offset or a time.
    pub replay: bool,
    /// A batch is published whole or not at all.
    pub atomic_batch: bool,
}

/// A topic as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The name: ASCII letters, digits, `.`, `_` and `-`, at most 200 bytes.
    pub name: ByteString,
    /// How many partitions; a key always takes the same one. At least 1.
    pub partitions: u16,
    /// Events older than this may be dropped; none means never.
    pub retention: Option<Duration>,
    /// The oldest events may be dropped beyond this size; none means never.
    pub retention_bytes: Option<u64>,
}

/// What to subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The topics, all declared before.
    pub topics: Vec<ByteString>,
    /// The durable group that shares the work; none reads everything and remembers nothing.
    pub group: Option<ByteString>,
    /// Where to start.
    pub start: Start,
    /// How many deliveries may be out and unsettled at once. At least 1.
    pub in_flight_max: usize,
}

/// Where a subscription starts.
///
/// A start other than `Committed` moves a group that exists only when nobody else is in it; whoever
/// joins others begins where the group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// Where the group was; a new group starts at the earliest.
    #[default]
    Committed,
    /// The earliest event that is kept.
    Earliest,
    /// Only what is published from now on.
    Latest,
    /// This offset in each partition; the nearest kept one if it is gone.
    Offset(u64),
    /// The first event published at or after this time.
    Time(Timestamp),
}

/// A running subscription; dropping it leaves the group and returns unsettled deliveries to it.
pub trait Subscription: Send + fmt::Debug {
    /// Waits for at least one delivery and returns at most `max`. An empty batch means that the
    /// transport was closed. Cancel safe: nothing is lost when the future is dropped.
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>>;

    /// Waits until every settlement made so far has been handed to the engine, durably where it is durable.
    fn flush(&self) -> BoxFuture<'_, Result<()>>;

    /// How many events of its topics the group has not settled yet.
    fn lag(&self) -> BoxFuture<'_, Result<u64>>;
}

/// One event, out for handling. It is settled by consuming its receipt; dropped, it is delivered again.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub envelope: Envelope,
    /// Its offset in its partition.
    pub offset: u64,
    /// Its partition.
    pub partition: u16,
    /// How often the engine has delivered it before, as far as it knows.
    pub redeliveries: u32,
    /// The right to settle it, once.
    pub receipt: Receipt,
}

/// How a delivery ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Done: never deliver it to this group again.
    Ack,
    /// Not done: deliver it again after this pause.
    Retry(Duration),
}

/// The engine's end of a receipt.
pub trait Settler: Send + Sync {
    /// Takes a settlement; never blocks. `token` is the engine's own name for the delivery.
    fn settle(&self, token: u64, how: Settlement);
}

/// The right to settle one delivery, once: both ways consume it, so a double ack does not compile.
///
/// ```
/// fn once(receipt: trunkline_bus::Receipt) {
///     receipt.ack();
/// }
/// ```
///
/// ```compile_fail,E0382
/// fn twice(receipt: trunkline_bus::Receipt) {
///     receipt.ack();
///     receipt.ack();
/// }
/// ```
///
/// ```compile_fail,E0382
/// fn both(receipt: trunkline_bus::Receipt) {
///     receipt.ack();
///     receipt.retry(std::time::Duration::ZERO);
/// }
/// ```
pub struct Receipt {
    settler: Option<Arc<dyn Settler>>,
    token: u64,
}

impl Receipt {
    /// A receipt that tells `settler` how the delivery `token` ended.
    pub fn new(settler: Arc<dyn Settler>, token: u64) -> Self {
        Self {
            settler: Some(settler),
            token,
        }
    }

    /// Done: never deliver it to this group again.
    pub fn ack(mut self) {
        self.settle(Settlement::Ack);
    }

    /// Not done: deliver it again after `pause`.
    pub fn retry(mut self, pause: Duration) {
        self.settle(Settlement::Retry(pause));
    }

    fn settle(&mut self, how: Settlement) {
        if let Some(settler) = self.settler.take() {
            settler.settle(self.token, how);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.settle(Settlement::Retry(Duration::ZERO));
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// Why a batch was not published whole.
#[derive(Debug, thiserror::Error)]
#[error("{accepted} events of the batch were published, then it failed")]
pub struct PublishError {
    /// How many of the batch, from its start, are published and durable.
    pub accepted: usize,
    /// Why the next one was not. `Permanent` means that this one event can never be sent.
    #[source]
    pub error: Error,
}
