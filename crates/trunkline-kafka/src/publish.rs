//! Publishing: a batch is sent in order and confirmed together.

mod writer;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::{Instant, timeout_at};
use trunkline_bus::PublishError;
use trunkline_core::{Envelope, Error, ErrorKind, Result, Retry};

use self::writer::{Batch, Ticket, Writer};
use crate::client::{Faults, blocking};
use crate::config::KafkaConfig;
use crate::error;
use crate::topics::{Topic, Topics};
use crate::wire::{self, Record};

/// How long a purged producer may take to say of each event that it was given up.
const PURGE_MAX: Duration = Duration::from_secs(2);

/// How many records are made before they are handed to the producer at once.
///
/// The client library waits for more only as long as [`KafkaConfig::linger`]: what comes slower leaves in more
/// requests, and while five of a partition are out its thread turns in circles, as long as more is waiting.
const READY_MAX: usize = 1_024;

/// The idempotent producer, and its successor when it had to be given up.
pub(crate) struct Publisher {
    config: Arc<KafkaConfig>,
    faults: Arc<Faults>,
    topics: Arc<Topics>,
    writer: Mutex<State>,
}

enum State {
    Empty,
    Open(Arc<Writer>),
    Closed,
}

impl Publisher {
    pub(crate) fn new(config: Arc<KafkaConfig>, faults: Arc<Faults>, topics: Arc<Topics>) -> Self {
        let writer = Mutex::new(State::Empty);
        Self {
            config,
            faults,
            topics,
            writer,
        }
    }

    /// Publishes a batch.
    ///
    /// An event that can never be sent ends the batch before it: what stands behind it is not sent. Without
    /// confirmation within the limit the whole producer is given up, with everything that others have in it,
    /// so that nothing of it can arrive behind what is published later.
    pub(crate) async fn publish(&self, batch: &[Envelope]) -> Result<(), PublishError> {
        let refused = |accepted, error| PublishError { accepted, error };
        let mut accepted = 0;
        while accepted < batch.len() {
            let writer = self.writer().map_err(|error| refused(accepted, error))?;
            let rest = batch.get(accepted..).unwrap_or_default();
            match self.send(&writer, rest).await {
                Ok(()) => return Ok(()),
                // Brokers refuse a whole record batch for one event in it: each is tried alone.
                Err(failed) if failed.error.kind() == ErrorKind::TooLarge && failed.sent > 1 => {
                    accepted += failed.accepted;
                    let one = batch.get(accepted..=accepted).unwrap_or_default();
                    if let Err(failed) = self.send(&writer, one).await {
                        return Err(refused(accepted, failed.error));
                    }
                    accepted += 1;
                }
                Err(failed) => return Err(refused(accepted + failed.accepted, failed.error)),
            }
        }
        self.writer().map_err(|error| refused(0, error)).map(drop)
    }

    fn writer(&self) -> Result<Arc<Writer>> {
        let mut slot = self.writer.lock();
        match &*slot {
            State::Open(writer) => Ok(writer.clone()),
            State::Closed => Err(error::closed()),
            State::Empty => {
                let writer = Arc::new(Writer::new(&self.config, self.faults.clone())?);
                *slot = State::Open(writer.clone());
                Ok(writer)
            }
        }
    }

    /// Makes the next publish use another producer.
    fn retire(&self, writer: &Arc<Writer>) {
        let mut slot = self.writer.lock();
        if matches!(&*slot, State::Open(open) if Arc::ptr_eq(open, writer)) {
            *slot = State::Empty;
        }
    }

    /// Ends all publishing; what is not confirmed within the limit is given up.
    pub(crate) async fn close(&self) {
        let old = std::mem::replace(&mut *self.writer.lock(), State::Closed);
        let State::Open(writer) = old else {
            return;
        };
        let limit = self.config.limit;
        let flushed = blocking(limit, "flushing", move || {
            let flushed = writer.producer().flush(limit);
            writer.give_up();
            flushed.map_err(|error| error::kafka("flushing", error))
        });
        if let Err(error) = flushed.await {
            tracing::warn!(%error, "events were given up when Kafka was closed");
        }
    }

    async fn send(&self, writer: &Arc<Writer>, events: &[Envelope]) -> Result<(), Failed> {
        let until = Instant::now() + self.config.limit;
        let batch = Arc::new(Batch::new(events.len()));
        let mut refusal = None;
        let mut sent = 0;
        for some in events.chunks(READY_MAX) {
            let (ready, refused) = self.make_ready(some).await;
            let handed_over = self.hand_over(writer, ready, (&batch, &mut sent, until));
            refusal = handed_over.await.err().or(refused);
            if refusal.is_some() {
                break;
            }
        }
        batch.settled(events.len() - sent);
        if timeout_at(until, batch.wait()).await.is_err() {
            // What it has not confirmed it never sends from here on.
            self.retire(writer);
            writer.give_up();
            // Bounded by the purge, which answers for every event.
            drop(tokio::time::timeout(PURGE_MAX, batch.wait()).await);
        }
        let (accepted, error) = match batch.failure() {
            _ if batch.is_waiting() => (
                0,
                self.faults
                    .unreachable(&self.config)
                    .with_retry(Retry::Unknown),
            ),
            Some((index, code)) => (index, self.failed(writer, events.get(index), code)),
            None => match refusal {
                Some(error) => (sent, error),
                None => return Ok(()),
            },
        };
        Err(Failed {
            accepted,
            error,
            sent,
        })
    }

    /// The records of some events, up to the first that can never be sent.
    async fn make_ready<'a>(&self, events: &'a [Envelope]) -> (Vec<Ready<'a>>, Option<Error>) {
        let mut all: Vec<Ready<'a>> = Vec::with_capacity(events.len());
        let mut scratch = String::new();
        for event in events {
            let same = all.last().filter(|last| last.event.topic == event.topic);
            let topic = match same {
                Some(last) => Ok(last.topic.clone()),
                None => self.topics.find(&event.topic).await,
            };
            let record = topic.and_then(|topic| {
                let record = wire::write(self.config.form, event, &mut scratch)?;
                if record.bytes > self.config.event_bytes_max {
                    return Err(too_large(event, Some(record.bytes), &self.config));
                }
                Ok((topic, record))
            });
            match record {
                Ok((topic, record)) => all.push(Ready {
                    event,
                    topic,
                    record,
                }),
                Err(error) => return (all, Some(error)),
            }
        }
        (all, None)
    }

    /// Hands records to the producer; waits while its queue is full.
    async fn hand_over(
        &self,
        writer: &Arc<Writer>,
        all: Vec<Ready<'_>>,
        (batch, sent, until): (&Arc<Batch>, &mut usize, Instant),
    ) -> Result<()> {
        for mut ready in all {
            while let Some(full) = self.try_send(writer, ready, batch, *sent)? {
                ready = full;
                if Instant::now() >= until {
                    let full = "the producer's queue stayed full for the whole limit";
                    return Err(error::of_code(full, Code::QueueFull));
                }
                writer.room(until).await;
            }
            *sent += 1;
        }
        Ok(())
    }

    /// Hands a record to the producer; it comes back where its queue is full.
    fn try_send<'a>(
        &self,
        writer: &Arc<Writer>,
        ready: Ready<'a>,
        batch: &Arc<Batch>,
        index: usize,
    ) -> Result<Option<Ready<'a>>> {
        let Ready {
            event,
            topic,
            record,
        } = ready;
        let ticket = Ticket {
            batch: batch.clone(),
            index,
        };
        let mut next = BaseRecord::with_opaque_to(&topic.full, Box::new(ticket))
            .payload(&record.body[..])
            .headers(record.headers);
        next.key = event.key.as_ref().map(|key| &key.as_bytes()[..]);
        let headers = match writer.producer().send(next) {
            Ok(()) => return Ok(None),
            Err((KafkaError::MessageProduction(Code::QueueFull), back)) => back.headers,
            Err((KafkaError::MessageProduction(Code::MessageSizeTooLarge), _)) => {
                return Err(too_large(event, Some(record.bytes), &self.config));
            }
            Err((error, _)) => {
                self.retire(writer);
                return Err(error::kafka("the event could not be sent", error));
            }
        };
        let headers = headers.unwrap_or_default();
        let record = Record { headers, ..record };
        Ok(Some(Ready {
            event,
            topic,
            record,
        }))
    }

    fn failed(&self, writer: &Arc<Writer>, event: Option<&Envelope>, code: Code) -> Error {
        match (code, event) {
            (Code::MessageSizeTooLarge | Code::MessageBatchTooLarge, Some(event)) => {
                too_large(event, None, &self.config)
            }
            (Code::PurgeQueue | Code::PurgeInflight, _) => {
                let error = self.faults.unreachable(&self.config);
                error.with_retry(Retry::Unknown)
            }
            (
                Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition,
                Some(event),
            ) => {
                self.topics.forget(&event.topic);
                error::unknown_topic(&event.topic)
            }
            _ => {
                // A refusal is remembered by the producer for longer than it may last.
                let denied = [
                    Code::TopicAuthorizationFailed,
                    Code::ClusterAuthorizationFailed,
                ];
                if writer.is_broken() || denied.contains(&code) {
                    self.retire(writer);
                }
                let error = error::of_code("the brokers did not take the event", code);
                match event {
                    Some(event) => error.with("topic", &event.topic),
                    None => error,
                }
            }
        }
    }
}

/// An event's record, ready to be handed to the producer.
struct Ready<'a> {
    event: &'a Envelope,
    topic: Arc<Topic>,
    record: Record,
}

/// Why a part of a batch was not sent, and how much of it was handed to the producer at all.
struct Failed {
    accepted: usize,
    error: Error,
    sent: usize,
}

fn too_large(event: &Envelope, bytes: Option<usize>, config: &KafkaConfig) -> Error {
    let message = "the event is larger than the brokers or the setting event_bytes_max allow";
    let error = Error::new(ErrorKind::TooLarge, "kafka_event_too_large", message)
        .with("topic", &event.topic)
        .with("id", &event.id)
        .with("data_bytes", event.data.len())
        .with("event_bytes_max", config.event_bytes_max);
    match bytes {
        Some(bytes) => error.with("event_bytes", bytes),
        None => error.with("refused_by", "the broker"),
    }
}
