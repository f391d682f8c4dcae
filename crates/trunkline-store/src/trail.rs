//! The trail: an index of every event of the platform.

use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;
use trunkline_core::{Envelope, Result};

use crate::Store;
use crate::error::unfinished;

/// The index of events, in the platform's own store.
#[derive(Debug, Clone)]
pub struct Trail {
    #[expect(dead_code, reason = "the insides are not written yet")]
    store: Store,
}

/// One event of the trail.
#[derive(Debug, Clone, PartialEq)]
pub struct TrailEntry {
    /// Its place in the trail: the cursor for [`EventQuery::after`]. Ignored by [`Trail::append`].
    pub position: u64,
    /// When it was recorded. Ignored by [`Trail::append`].
    pub recorded_at: Timestamp,
    /// The event.
    pub envelope: Envelope,
    /// The business keys that flows find in it, such as an order's id.
    pub business_keys: Vec<ByteString>,
}

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// The event with this id.
    pub id: Option<ByteString>,
    /// Of this flow.
    pub correlation_id: Option<ByteString>,
    /// Of this type.
    pub event_type: Option<ByteString>,
    /// With this business key.
    pub business_key: Option<ByteString>,
    /// That happened at or after this time.
    pub since: Option<Timestamp>,
    /// Only those after this position.
    pub after: Option<u64>,
    /// Newest first; `after` then means before that position.
    pub newest_first: bool,
    /// At most this many; 0 means 100. At most 1,000.
    pub limit: usize,
}

impl Trail {
    /// Opens the trail in `store`, making its tables.
    pub async fn open(store: Store) -> Result<Self> {
        let _ = store;
        Err(unfinished())
    }

    /// Records a batch; an event that is there already (same source and id) is left as it is.
    pub async fn append(&self, entries: &[TrailEntry]) -> Result<()> {
        let _ = entries;
        Err(unfinished())
    }

    /// Events that match, in the order of recording.
    pub async fn query(&self, query: &EventQuery) -> Result<Vec<TrailEntry>> {
        let _ = query;
        Err(unfinished())
    }

    /// Drops what is older than `age_max` or beyond `count_max` events, in small steps. Says how many.
    pub async fn prune(&self, age_max: Duration, count_max: u64) -> Result<u64> {
        let _ = (age_max, count_max);
        Err(unfinished())
    }
}
