//! Publishing: events are encoded by who publishes them and handed to the writer.

use std::sync::Arc;

use tokio::sync::oneshot;
use trunkline_bus::{PublishError, partition_of};
use trunkline_core::{Envelope, Error, ErrorKind, Result};

use crate::catalog::Slot;
use crate::error;
use crate::format::{EVENT_HEADER_BYTES, begin_event, end_event};
use crate::shared::{Chunk, Shared, Topic};

/// Bytes that are handed over at once; a larger batch goes in parts, one after the other.
const CHUNK_BYTES_MAX: usize = 4 << 20;

/// Publishes a batch in order. The part that was handed over when the future is dropped is published.
pub(crate) async fn publish(shared: &Shared, batch: &[Envelope]) -> Result<(), PublishError> {
    let mut accepted = 0;
    while let Some(rest) = batch.get(accepted..).filter(|rest| !rest.is_empty()) {
        let failed = |error| PublishError { accepted, error };
        let mut part = Part::encode(shared, rest);
        let count = part.events.len();
        if count > 0 {
            let (done, answer) = oneshot::channel();
            let chunk = Chunk {
                bytes: part.bytes,
                events: part.events,
                done,
            };
            shared.enqueue(chunk).await.map_err(failed)?;
            answer
                .await
                .unwrap_or_else(|_| Err(error::closed()))
                .map_err(failed)?;
            accepted += count;
        }
        if let Some(error) = part.refused.take() {
            return Err(PublishError { accepted, error });
        }
    }
    Ok(())
}

/// As much of a batch as goes at once.
struct Part {
    bytes: Vec<u8>,
    events: Vec<(Slot, u32, Envelope)>,
    /// Why the event after these can't be published.
    refused: Option<Error>,
}

impl Part {
    fn encode(shared: &Shared, batch: &[Envelope]) -> Self {
        let mut part = Self {
            bytes: shared.buffer(),
            events: Vec::with_capacity(batch.len()),
            refused: None,
        };
        let mut topic: Option<Arc<Topic>> = None;
        for envelope in batch {
            let known = topic
                .take()
                .filter(|topic| topic.spec.name == envelope.topic);
            let found = match known {
                Some(topic) => topic,
                None => match shared.topic(&envelope.topic) {
                    Ok(topic) => topic,
                    Err(error) => {
                        part.refused = Some(error);
                        break;
                    }
                },
            };
            let bytes_max = envelope.encoded_bytes_max() + EVENT_HEADER_BYTES;
            if !part.bytes.is_empty() && part.bytes.len() + bytes_max > CHUNK_BYTES_MAX {
                break;
            }
            if let Err(error) = part.push(shared, &found, envelope) {
                part.refused = Some(error);
                break;
            }
            topic = Some(found);
        }
        part
    }

    fn push(&mut self, shared: &Shared, topic: &Topic, envelope: &Envelope) -> Result<()> {
        let max = shared.config.event_bytes_max;
        if envelope.encoded_bytes_max() > max.saturating_add(ENCODING_SLACK) {
            return Err(too_large(envelope, max));
        }
        let partition = partition_of(envelope.order_key(), topic.spec.partitions);
        let Some(partition) = topic.partitions.get(usize::from(partition)) else {
            return Err(Error::internal("a topic without its partition"));
        };
        let begin = self.bytes.len();
        let start = begin_event(&mut self.bytes, partition.slot);
        envelope.encode(&mut self.bytes);
        let bytes = end_event(&mut self.bytes, start);
        if bytes as usize > max {
            self.bytes.truncate(begin);
            return Err(too_large(envelope, max));
        }
        self.events.push((partition.slot, bytes, envelope.clone()));
        Ok(())
    }
}

/// How far `encoded_bytes_max` may exceed what is encoded, but for many extensions.
const ENCODING_SLACK: usize = 1024;

fn too_large(envelope: &Envelope, max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "event_too_large",
        "the event is larger than the log takes",
    )
    .with("id", &envelope.id)
    .with("bytes_max", max)
}
