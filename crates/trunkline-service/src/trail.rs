//! The trail: an ordinary group that notes every event, and shows it to whoever watches.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{broadcast, watch};
use trunkline_bus::{Handler, Outcome};
use trunkline_core::{ByteString, Envelope, Error, ErrorKind, Result, Retry, Timestamp};
use trunkline_saga::Flow;
use trunkline_store::{Trail, TrailEntry};

/// The group that records the trail.
pub(crate) const GROUP: &str = "trunkline.trail";

/// Every so many events the oldest are dropped, if they are beyond what is kept.
const PRUNE_EVERY: u64 = 10_000;

pub(crate) struct Recorder {
    pub(crate) trail: Trail,
    pub(crate) flows: Arc<[Flow]>,
    pub(crate) feed: broadcast::Sender<Envelope>,
    pub(crate) keep: Keep,
    /// How many were recorded since the start; whoever follows the trail waits for it to change.
    pub(crate) recorded: watch::Sender<u64>,
}

/// How much of the trail is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    pub(crate) age_max: Duration,
    pub(crate) events_max: u64,
}

impl Recorder {
    async fn record(&self, batch: &[Envelope]) -> Result<()> {
        let entries: Vec<_> = batch.iter().map(|event| self.entry(event)).collect();
        self.trail.append(&entries).await?;
        for event in batch {
            // Nobody may be watching; who watches too slowly misses some.
            drop(self.feed.send(event.clone()));
        }
        let count = batch.len() as u64;
        let before = *self.recorded.borrow();
        self.recorded.send_modify(|recorded| *recorded += count);
        if before / PRUNE_EVERY != (before + count) / PRUNE_EVERY {
            self.trail
                .prune(self.keep.age_max, self.keep.events_max)
                .await?;
        }
        Ok(())
    }

    fn entry(&self, event: &Envelope) -> TrailEntry {
        let mut business_keys: Vec<ByteString> = Vec::new();
        for key in self
            .flows
            .iter()
            .filter_map(|flow| flow.business_key(event))
        {
            if !business_keys.iter().any(|known| **known == *key) {
                business_keys.push(key.into());
            }
        }
        TrailEntry {
            position: 0,
            recorded_at: Timestamp::UNIX_EPOCH,
            envelope: event.clone(),
            business_keys,
        }
    }
}

impl Handler for Recorder {
    fn handle<'a>(&'a self, batch: &'a [Envelope], _attempt: u32) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let done = self.record(batch).await;
            batch
                .iter()
                .map(|_| match &done {
                    Ok(()) => Outcome::Done,
                    Err(error) => Outcome::Failed(unrecorded(error)),
                })
                .collect()
        })
    }
}

const AWAY: &str = "trail_away";

/// Whether an error says that the trail's store is away, which no event is to blame for.
pub(crate) fn is_away(error: &Error) -> bool {
    error.code() == AWAY
}

fn unrecorded(error: &Error) -> Error {
    let away = trunkline_store::is_away(error);
    Error::new(
        ErrorKind::Unavailable,
        if away { AWAY } else { "trail_unwritable" },
        "the trail can't be written",
    )
    .with("why", trunkline_core::report(error))
    .with_retry(Retry::Transient)
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}
