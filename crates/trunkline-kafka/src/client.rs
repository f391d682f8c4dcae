//! The client library's clients: how they are set up, and what they tell of themselves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};
use tokio::sync::Notify;
use trunkline_core::{Error, Result};

use crate::config::{Compression, KafkaConfig, Security};
use crate::error;

pub(crate) type Reader = BaseConsumer<ReaderContext>;

/// What all clients have in common.
pub(crate) fn settings(config: &KafkaConfig) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", &config.brokers)
        .set("client.id", "trunkline")
        .set(
            "socket.timeout.ms",
            millis(config.limit.max(Duration::from_secs(1))),
        )
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("allow.auto.create.topics", "false")
        .set_log_level(RDKafkaLogLevel::Warning);
    if config.security == Security::SaslPlaintext
        && let Some((user, password)) = &config.credentials
    {
        settings
            .set("security.protocol", "sasl_plaintext")
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", user)
            .set("sasl.password", password);
    }
    settings
}

pub(crate) fn writer_settings(config: &KafkaConfig) -> ClientConfig {
    let compression = match config.compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Lz4 => "lz4",
        Compression::Snappy => "snappy",
    };
    let linger = config.linger.as_micros();
    let mut settings = settings(config);
    settings
        .set("enable.idempotence", "true")
        // What the Java client does, so that both put a key into the same partition.
        .set("partitioner", "murmur2_random")
        // The transport's own limit ends the whole producer, lest a later event overtakes an earlier one.
        .set("message.timeout.ms", "0")
        .set(
            "linger.ms",
            format!("{}.{:03}", linger / 1_000, linger % 1_000),
        )
        .set("compression.type", compression)
        .set("message.max.bytes", config.event_bytes_max.to_string())
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "65536");
    settings
}

/// How many events are read ahead of a partition at most, so that small ones don't fill the memory.
const PREFETCH_EVENTS_MAX: &str = "10000";

/// How long a partition that has read ahead enough pauses: less than a fast reader needs for what was read.
const PREFETCH_PAUSE_MS: &str = "5";

/// For a subscription; `group` is a full name, which is needed even where nothing is committed.
pub(crate) fn reader_settings(config: &KafkaConfig, group: &str) -> ClientConfig {
    let mut settings = settings(config);
    settings
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", millis(config.session))
        .set("heartbeat.interval.ms", millis(config.heartbeat))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", PREFETCH_PAUSE_MS)
        .set("queued.min.messages", PREFETCH_EVENTS_MAX)
        .set("fetch.error.backoff.ms", "100")
        .set(
            "queued.max.messages.kbytes",
            (config.prefetch_bytes >> 10).max(1).to_string(),
        );
    settings
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// What went wrong last, for those who only learn that nothing came.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    last: Mutex<Option<(Code, String)>>,
}

impl Faults {
    pub(crate) fn note(&self, error: &KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            let mut last = self.last.lock();
            // That all brokers are down says less than why the first one is.
            if code != Code::AllBrokersDown || last.is_none() {
                *last = Some((code, reason.to_owned()));
            }
        }
    }

    pub(crate) fn clear(&self) {
        *self.last.lock() = None;
    }

    /// The brokers refused the credentials.
    pub(crate) fn refused(&self, config: &KafkaConfig) -> Option<Error> {
        let last = self.last.lock();
        let (code, reason) = last.as_ref()?;
        let refused = matches!(
            code,
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism
        );
        let user = config.credentials.as_ref().map_or("none", |(user, _)| user);
        refused.then(|| {
            error::of_code("the brokers refused the credentials", *code)
                .with("brokers", &config.brokers)
                .with("user", user)
                .with("reason", reason)
        })
    }

    /// Why the brokers can't be reached, as far as is known.
    pub(crate) fn unreachable(&self, config: &KafkaConfig) -> Error {
        if let Some(refused) = self.refused(config) {
            return refused;
        }
        let error = Error::unavailable("kafka_unreachable", "no broker answered within the limit")
            .with("brokers", &config.brokers)
            .with("limit", format!("{:?}", config.limit));
        match &*self.last.lock() {
            Some((_, reason)) => error.with("reason", reason),
            None => error,
        }
    }
}

pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(facility, "kafka: {text}"),
        _ => tracing::debug!(facility, "kafka: {text}"),
    }
}

/// What the group's coordinator asks of a member.
#[derive(Debug)]
pub(crate) enum Change {
    /// These partitions are the member's now, in addition.
    Assign(TopicPartitionList),
    /// These are no longer.
    Revoke(TopicPartitionList),
}

/// What a consumer's callbacks leave for whoever serves it.
#[derive(Debug, Default)]
pub(crate) struct ReaderContext {
    pub(crate) faults: Arc<Faults>,
    pub(crate) changes: Mutex<VecDeque<Change>>,
    /// How many callbacks there were: a poll that returns nothing may have served one.
    pub(crate) served: AtomicU64,
    /// Nobody serves it any more: it answers changes by itself, so that it can be closed.
    pub(crate) ending: AtomicBool,
}

impl ReaderContext {
    pub(crate) fn new(faults: Arc<Faults>) -> Self {
        Self {
            faults,
            ..Self::default()
        }
    }

    fn serve(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for ReaderContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.serve();
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.serve();
        tracing::debug!(%error, "kafka: {reason}");
        self.faults.note(&error, reason);
    }
}

impl ConsumerContext for ReaderContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        self.serve();
        let assign = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.ending.load(Ordering::Acquire) {
            let answered = if assign {
                consumer.incremental_assign(&TopicPartitionList::new())
            } else {
                consumer.incremental_unassign(partitions)
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "a member that leaves could not answer a change");
            }
            return;
        }
        let partitions = partitions.clone();
        self.changes.lock().push_back(if assign {
            Change::Assign(partitions)
        } else {
            Change::Revoke(partitions)
        });
    }
}

/// A consumer whose end is told to its context before it is closed: closing waits for answers to changes.
pub(crate) struct Client(Arc<Reader>);

impl Client {
    pub(crate) fn new(
        settings: &ClientConfig,
        faults: Arc<Faults>,
        wake: Arc<Notify>,
    ) -> Result<Self> {
        let context = ReaderContext::new(faults);
        let created: KafkaResult<Reader> = settings.create_with_context(context);
        let mut reader = created.map_err(|error| error::kafka("no consumer", error))?;
        reader.set_nonempty_callback(move || wake.notify_one());
        Ok(Self(Arc::new(reader)))
    }

    pub(crate) fn reader(&self) -> &Arc<Reader> {
        &self.0
    }

    pub(crate) fn downgrade(&self) -> Weak<Reader> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn context(&self) -> &ReaderContext {
        self.0.client().context()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.context().ending.store(true, Ordering::Release);
        // Closing alone tells the coordinator nothing where the member has no partition, and then the group
        // waits for its session to end.
        self.0.unsubscribe();
    }
}

/// Runs what blocks on the brokers off the async threads, no longer than `limit` and a little.
pub(crate) async fn blocking<T: Send + 'static>(
    limit: Duration,
    doing: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    // The library keeps the limit itself; the grace is for the way there and back.
    let grace = limit + Duration::from_secs(1);
    match tokio::time::timeout(grace, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            Err(Error::internal("a call of the client library panicked").with_source(error))
        }
        Err(_) => Err(error::silent(doing)),
    }
}
