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
use crate::topics::Topics;
use crate::wire::{self, Record};

/// How long a purged producer may take to say of each event that it was given up.
const PURGE_MAX: Duration = Duration::from_secs(2);

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
        let mut scratch = String::new();
        for event in events {
            if let Err(error) = self
                .send_one(writer, event, (&batch, sent, until), &mut scratch)
                .await
            {
                refusal = Some(error);
                break;
            }
            sent += 1;
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

    /// Hands an event to the producer; waits while its queue is full.
    async fn send_one(
        &self,
        writer: &Arc<Writer>,
        event: &Envelope,
        (batch, index, until): (&Arc<Batch>, usize, Instant),
        scratch: &mut String,
    ) -> Result<()> {
        let topic = self.topics.find(&event.topic).await?;
        let mut record = wire::write(self.config.form, event, scratch)?;
        if record.bytes > self.config.event_bytes_max {
            return Err(too_large(event, Some(record.bytes), &self.config));
        }
        loop {
            let ticket = Ticket {
                batch: batch.clone(),
                index,
            };
            let key = event.key.as_ref().map(|key| &key.as_bytes()[..]);
            let Record {
                headers,
                body,
                bytes,
            } = record;
            let mut next = BaseRecord::with_opaque_to(&topic.full, Box::new(ticket))
                .payload(&body[..])
                .headers(headers);
            next.key = key;
            // Taken before it is tried, so that room made meanwhile is not missed.
            let room = writer.room.notified();
            let headers = match writer.producer().send(next) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => back.headers,
                Err((KafkaError::MessageProduction(Code::MessageSizeTooLarge), _)) => {
                    return Err(too_large(event, Some(bytes), &self.config));
                }
                Err((error, _)) => {
                    self.retire(writer);
                    return Err(error::kafka("the event could not be sent", error));
                }
            };
            if timeout_at(until, room).await.is_err() {
                let full = "the producer's queue stayed full for the whole limit";
                return Err(error::of_code(full, Code::QueueFull));
            }
            record = Record {
                headers: headers.unwrap_or_default(),
                body,
                bytes,
            };
        }
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
