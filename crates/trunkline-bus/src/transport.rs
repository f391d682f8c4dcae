//! The contract between the runtime and an engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures::future::BoxFuture;
use jiff::Timestamp;
use trunkline_core::{Envelope, Error, Kind, Priority, Result, Version};

/// An engine that carries events: memory, the embedded log, a broker.
///
/// No call waits for ever on a server: each has a limit, and fails with `Unavailable` or
/// `DeadlineExceeded` at it. A connection that is lost fails what waits on it; whoever subscribes or
/// publishes again makes it anew.
///
/// What it does not promise: order across topics, exactly one delivery, retries, dead letters,
/// delays, priority. The runtime adds those above it.
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// What this engine can do; the conformance suite proves each, and the absence of the others.
    fn capabilities(&self) -> Capabilities;

    /// Makes topics exist. Declaring what exists changes nothing; another number of partitions is a
    /// `Conflict`, and another retention applies from now on.
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
    /// The durable groups that will read it. An engine that keeps events for each group by itself keeps
    /// them for these from now on, so that a group that starts later misses nothing. Naming more of them
    /// later adds them; naming fewer takes none away.
    pub groups: Vec<ByteString>,
}

impl TopicSpec {
    /// Checks the name and the number of partitions.
    ///
    /// # Errors
    /// `InvalidInput`, code `topic_invalid`, naming what was expected.
    pub fn check(&self) -> Result<()> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let wrong = if self.name.is_empty() || self.name.len() > TOPIC_BYTES_MAX {
            "expected a topic's name of 1 to 200 bytes"
        } else if !self.name.bytes().all(allowed) {
            "expected a topic's name of ASCII letters, digits, `.`, `_` and `-`"
        } else if self.partitions == 0 {
            "expected at least 1 partition"
        } else {
            return Ok(());
        };
        Err(Error::invalid("topic_invalid", wrong).with("topic", &self.name))
    }

    /// Whether both describe the same topic, whoever reads it.
    pub fn is_same_topic(&self, other: &Self) -> bool {
        let shape = |spec: &Self| (spec.partitions, spec.retention, spec.retention_bytes);
        self.name == other.name && shape(self) == shape(other)
    }
}

/// The longest name of a topic.
const TOPIC_BYTES_MAX: usize = 200;

/// The partition of `count` that a key takes, the same in every process and for ever: FNV-1a.
pub fn partition_of(key: &str, count: u16) -> u16 {
    if count <= 1 {
        return 0;
    }
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u16::try_from((hash ^ (hash >> 32)) % u64::from(count)).unwrap_or(0)
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
    /// transport was closed; an error, that this subscription has ended and a new one is due. Cancel
    /// safe: nothing is lost when the future is dropped.
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
    /// Why the message is no event; the envelope is then what [`unreadable`] makes of it.
    pub unreadable: Option<Error>,
    /// The right to settle it, once.
    pub receipt: Receipt,
}

/// The type of an envelope around a message that is no event.
pub const UNREADABLE: &str = "trunkline.unreadable";

/// An envelope around a message that is no event, so that it can be kept as a dead letter. `place` says
/// where it was, such as `orders/3/1042`, and is its id; `body` is kept as it came.
pub fn unreadable(topic: &str, place: String, body: Bytes, at: Timestamp) -> Envelope {
    let id = ByteString::from(place);
    Envelope {
        event_type: ByteString::from_static(UNREADABLE),
        version: Version::new(1, 0),
        source: ByteString::from_static("trunkline"),
        time: at,
        topic: topic.into(),
        key: None,
        correlation_id: id.clone(),
        id,
        causation_id: None,
        trace: None,
        user_id: None,
        kind: Kind::System,
        priority: Priority::Medium,
        content_type: ByteString::from_static("application/octet-stream"),
        extensions: Vec::new(),
        data: body,
    }
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
    /// Handling of a delivery begins. `false` when it has been given to another member of the group
    /// meanwhile: it is to be dropped, not handled. Until what has begun is settled, the engine keeps
    /// other members from its partition, as long as it can.
    fn begin(&self, token: u64) -> bool {
        let _ = token;
        true
    }

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

    /// Handling begins; `false` when the delivery is another member's by now and has to be dropped.
    #[must_use]
    pub fn begin(&self) -> bool {
        self.settler
            .as_ref()
            .is_none_or(|settler| settler.begin(self.token))
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
