//! The producer, and what it tells of the events in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use trunkline_core::Result;

use crate::client::{Faults, log, writer_settings};
use crate::config::KafkaConfig;
use crate::error;

/// One producer. Its end blocks for a moment, so it has a thread of its own for that.
pub(super) struct Writer {
    producer: Option<ThreadedProducer<WriterContext>>,
    room: Arc<Room>,
}

/// How long a full queue is left alone at most. A confirmation is told a moment before its room is free.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Room in a producer's queue.
#[derive(Default)]
struct Room {
    /// Somebody waits: every confirmation would have to wake nobody otherwise.
    wanted: AtomicBool,
    made: Notify,
}

impl Writer {
    pub(super) fn new(config: &KafkaConfig, faults: Arc<Faults>) -> Result<Self> {
        let room = Arc::new(Room::default());
        let context = WriterContext {
            faults,
            room: room.clone(),
        };
        let producer: KafkaResult<_> = writer_settings(config).create_with_context(context);
        let producer = producer.map_err(|error| error::kafka("no producer", error))?;
        Ok(Self {
            producer: Some(producer),
            room,
        })
    }

    pub(super) fn producer(&self) -> &ThreadedProducer<WriterContext> {
        self.producer
            .as_ref()
            .expect("it is there until it is dropped")
    }

    /// Waits until there may be room in its queue again, no longer than `until`.
    pub(super) async fn room(&self, until: Instant) {
        // Taken before it is wanted, so that room made meanwhile is not missed.
        let made = self.room.made.notified();
        self.room.wanted.store(true, Ordering::SeqCst);
        let until = until.min(Instant::now() + LOOK_AGAIN);
        // Whichever comes first, it is tried again.
        drop(timeout_at(until, made).await);
    }

    /// Nothing that waits in it is sent any more.
    pub(super) fn give_up(&self) {
        self.producer()
            .purge(PurgeConfig::default().queue().inflight());
    }

    pub(super) fn is_broken(&self) -> bool {
        self.producer().client().fatal_error().is_some()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let producer = self.producer.take();
        let ends = std::thread::Builder::new().name("trunkline-kafka-end".to_owned());
        // Without a thread it ends here, later than it should but all the same.
        drop(ends.spawn(move || drop(producer)));
    }
}

/// What a producer's callbacks work with.
pub(super) struct WriterContext {
    faults: Arc<Faults>,
    room: Arc<Room>,
}

impl ClientContext for WriterContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "kafka: {reason}");
        self.faults.note(&error, reason);
    }
}

impl ProducerContext for WriterContext {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        match result {
            Ok(_) => ticket.batch.settled(1),
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
                ticket.batch.failed(ticket.index, code);
            }
        }
        if self.room.wanted.load(Ordering::SeqCst) {
            self.room.wanted.store(false, Ordering::SeqCst);
            self.room.made.notify_waiters();
        }
    }
}

/// Which event of which batch a confirmation is for.
pub(super) struct Ticket {
    pub(super) batch: Arc<Batch>,
    pub(super) index: usize,
}

/// A batch on its way.
pub(super) struct Batch {
    /// How many of its events have neither been confirmed nor failed.
    left: AtomicUsize,
    /// The first event that failed, and why.
    failure: Mutex<Option<(usize, Code)>>,
    done: Notify,
}

impl Batch {
    pub(super) fn new(events: usize) -> Self {
        Self {
            left: AtomicUsize::new(events),
            failure: Mutex::new(None),
            done: Notify::new(),
        }
    }

    pub(super) fn settled(&self, count: usize) {
        if count > 0 && self.left.fetch_sub(count, Ordering::AcqRel) == count {
            self.done.notify_one();
        }
    }

    fn failed(&self, index: usize, code: Code) {
        let mut failure = self.failure.lock();
        if failure.is_none_or(|(first, _)| index < first) {
            *failure = Some((index, code));
        }
        drop(failure);
        self.settled(1);
    }

    pub(super) async fn wait(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            self.done.notified().await;
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.left.load(Ordering::Acquire) > 0
    }

    /// The first event that failed, and why.
    pub(super) fn failure(&self) -> Option<(usize, Code)> {
        *self.failure.lock()
    }
}
