//! The consumer runtime: per-key order, bounded work, retries, dead letters, lanes.

mod config;
mod status;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trunkline_core::{Env, Error, Result};

use crate::{DeadLetter, DeadLetterQuery, Handler, ParkingLot, Transport};

pub use self::config::{ConsumerConfig, RetryPolicy};
pub use self::status::{
    ReplayOutcome, ReplayReport, ReplayRequest, ReplayedLetter, SubscriptionState,
    SubscriptionStatus,
};

/// What a consumer stands on.
#[derive(Debug, Clone)]
pub struct ConsumerPorts {
    /// Where events come from.
    pub transport: Arc<dyn Transport>,
    /// Who does the work.
    pub handler: Arc<dyn Handler>,
    /// Where dead letters are kept.
    pub lot: Arc<dyn ParkingLot>,
    /// Clock, randomness and ids.
    pub env: Env,
}

/// A running subscription of one group. Cheap to clone; dropping the last handle stops it at once,
/// and what it had not settled goes back to the transport.
#[derive(Clone)]
pub struct Consumer {
    inner: Arc<Inner>,
}

struct Inner {
    config: ConsumerConfig,
}

impl Consumer {
    /// Reads the keys that are parked, subscribes and begins to work.
    ///
    /// # Guarantees
    /// Each key is handled serially, in the order in which its lane delivers it; other keys run side by
    /// side. An event is acknowledged only after its effect, or its dead letter, is durable.
    ///
    /// # Errors
    /// `InvalidInput` for a configuration that cannot work; what the lot or the transport say otherwise.
    pub async fn start(config: ConsumerConfig, ports: ConsumerPorts) -> Result<Self> {
        config.check()?;
        drop(ports);
        Ok(Self { inner: Arc::new(Inner { config }) })
    }

    /// Stops taking up work: what is being handled ends, nothing new begins. Idempotent.
    pub async fn pause(&self) -> Result<()> {
        Err(unfinished())
    }

    /// Takes up work again. Idempotent.
    pub async fn resume(&self) -> Result<()> {
        Err(unfinished())
    }

    /// How it stands.
    pub async fn status(&self) -> SubscriptionStatus {
        SubscriptionStatus {
            group: self.inner.config.group.clone(),
            service: self.inner.config.service.clone(),
            topics: Vec::new(),
            state: SubscriptionState::Stopped,
            lag: None,
            in_flight: 0,
            queued: 0,
            retrying_keys: 0,
            parked_keys: 0,
            handled: 0,
            failed: 0,
            parked: 0,
        }
    }

    /// Ends gracefully: what is being handled may end within `limit`, the rest goes back to the
    /// transport, unsettled. Idempotent.
    ///
    /// # Guarantees
    /// Nothing is lost, and nothing becomes a dead letter because of it.
    ///
    /// # Errors
    /// `DeadlineExceeded` if a handler was still running at the limit; it is cancelled.
    pub async fn drain(&self, limit: Duration) -> Result<()> {
        let _ = limit;
        Err(unfinished())
    }

    /// Dead letters of this group, oldest first.
    ///
    /// # Errors
    /// What the lot says.
    pub async fn dead_letters(&self, query: DeadLetterQuery) -> Result<Vec<DeadLetter>> {
        let _ = query;
        Err(unfinished())
    }

    /// Replays dead letters, key by key, each key's letters in order through the same handler.
    /// Dropping the future interrupts it after the letter at hand; run it again to go on.
    ///
    /// # Guarantees
    /// Events of a key that come meanwhile queue behind; the key is free when its queue is empty.
    ///
    /// # Errors
    /// `Conflict` while another replay, edit or discard of this group runs; what the lot says.
    pub async fn replay(&self, request: ReplayRequest) -> Result<ReplayReport> {
        let _ = request;
        Err(unfinished())
    }

    /// Replaces the data of a dead letter; the original is kept. Its count of replays begins anew.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for data that is not JSON where it should be; `Conflict` as for replay.
    pub async fn edit(&self, id: &str, data: Bytes) -> Result<DeadLetter> {
        let _ = (id, data);
        Err(unfinished())
    }

    /// Drops the dead letters that match, for good; a key without letters is free again.
    /// Says how many.
    ///
    /// # Errors
    /// `InvalidInput` for a query that names no key, type or id; `Conflict` as for replay.
    pub async fn discard(&self, query: DeadLetterQuery) -> Result<usize> {
        let _ = query;
        Err(unfinished())
    }
}

fn unfinished() -> Error {
    Error::internal("the consumer runtime is being built")
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("group", &self.inner.config.group).finish_non_exhaustive()
    }
}
