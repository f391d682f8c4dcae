//! The relay: sends what transactions published.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use trunkline_bus::Transport;
use trunkline_core::{Env, Envelope, Result};

use crate::Store;
use crate::error::unfinished;

/// Sends the outbox of one store to the bus. Cheap to clone; the last clone dropped stops it.
#[derive(Debug, Clone)]
pub struct Relay {
    #[expect(dead_code, reason = "the insides are not written yet")]
    store: Store,
}

/// How the relay stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelayStatus {
    /// Events committed, due and not sent, stuck ones not counted.
    pub pending: u64,
    /// Events published for later.
    pub scheduled: u64,
    /// Events set aside because they can never be sent as they are.
    pub stuck: u64,
    /// Events that wait behind a stuck one of their key.
    pub held: u64,
    /// How long the oldest pending event has waited.
    pub lag: Duration,
    /// Why the last attempt to send failed; none when it did not.
    pub last_error: Option<String>,
}

/// An event that can't be sent as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct StuckEvent {
    /// The event.
    pub envelope: Envelope,
    /// Why it can't be sent.
    pub error: String,
    /// When it was set aside.
    pub stuck_at: Timestamp,
    /// How many later events of its key wait behind it.
    pub held: u64,
}

impl Relay {
    /// Starts sending; there may be one for each process of a service, of which one sends at a time.
    pub fn start(store: Store, transport: Arc<dyn Transport>, env: Env) -> Self {
        let _ = (transport, env);
        Self { store }
    }

    /// How it stands.
    pub async fn status(&self) -> Result<RelayStatus> {
        Err(unfinished())
    }

    /// Events that were set aside, oldest first.
    pub async fn stuck(&self, limit: usize) -> Result<Vec<StuckEvent>> {
        let _ = limit;
        Err(unfinished())
    }

    /// Tries a stuck event again, before those that it holds.
    ///
    /// # Errors
    /// `NotFound` when no stuck event has this id.
    pub async fn retry_stuck(&self, event_id: &str) -> Result<()> {
        let _ = event_id;
        Err(unfinished())
    }

    /// Throws a stuck event away and lets those behind it go.
    ///
    /// # Errors
    /// `NotFound` when no stuck event has this id.
    pub async fn discard_stuck(&self, event_id: &str) -> Result<()> {
        let _ = event_id;
        Err(unfinished())
    }

    /// Waits until everything that is due has been sent, at most `limit`. Says whether it was.
    pub async fn drain(&self, limit: Duration) -> bool {
        let _ = limit;
        false
    }

    /// Stops after the batch in hand; what is not sent stays in the outbox.
    pub async fn stop(&self) {}
}
