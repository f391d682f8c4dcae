//! Since when the oldest dead letter of a group has waited.

use jiff::Timestamp;
use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use trunkline_core::{Result, report};

use super::{ConsumerConfig, ConsumerPorts};
use crate::DeadLetterQuery;

/// Keeps the gauge `trunkline_dead_letters_oldest_timestamp_seconds`: seconds since 1970, zero without letters. A time, not
/// an age, so that it is right whenever it is read and nothing has to tick.
pub(super) struct Oldest {
    gauge: Gauge,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Counts what was parked since the start.
    parked: u64,
    at: Option<Timestamp>,
}

impl Oldest {
    pub(super) fn new(config: &ConsumerConfig) -> Self {
        let labels = [
            ("service", config.service.to_string()),
            ("group", config.group.to_string()),
        ];
        Self {
            gauge: gauge!("trunkline_dead_letters_oldest_timestamp_seconds", &labels),
            known: Mutex::default(),
        }
    }

    /// The lot has one more letter.
    pub(super) fn parked(&self, at: Timestamp) {
        let mut known = self.known.lock();
        known.parked += 1;
        let at = known.at.map_or(at, |oldest| oldest.min(at));
        self.set(&mut known, Some(at));
    }

    /// Letters may have left the lot.
    pub(super) async fn left(&self, ports: &ConsumerPorts, group: &DeadLetterQuery) {
        if let Err(error) = self.look(ports, group).await {
            tracing::warn!(error = %report(&error), "the oldest dead letter is not known");
        }
    }

    async fn look(&self, ports: &ConsumerPorts, group: &DeadLetterQuery) -> Result<()> {
        loop {
            let before = self.known.lock().parked;
            let query = DeadLetterQuery {
                limit: 1,
                ..group.clone()
            };
            let first = ports.lot.list(&query).await?;
            let mut known = self.known.lock();
            // One that was parked meanwhile may or may not be in what was read.
            if known.parked == before {
                self.set(&mut known, first.first().map(|letter| letter.parked_at));
                return Ok(());
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge, in seconds")]
    fn set(&self, known: &mut Known, at: Option<Timestamp>) {
        known.at = at;
        self.gauge.set(at.map_or(0, Timestamp::as_second) as f64);
    }
}
