//! One transaction: rows, inbox and outbox together.

use jiff::Timestamp;
use sqlx::AnyConnection;
use trunkline_core::{Envelope, Result};

use crate::error::unfinished;
use crate::{JobRun, Store, StoredResponse};

/// A transaction. Dropped without [`Tx::commit`], it is rolled back.
#[derive(Debug)]
pub struct Tx {
    store: Store,
}

impl Tx {
    /// The store it is a transaction of.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The connection, for sqlx.
    pub fn conn(&mut self) -> &mut AnyConnection {
        unreachable!("no transaction can be begun yet")
    }

    /// Publishes an event when the transaction commits.
    pub async fn publish(&mut self, envelope: Envelope) -> Result<()> {
        let _ = envelope;
        Err(unfinished())
    }

    /// Publishes an event at a time after the commit; durable meanwhile.
    pub async fn publish_at(&mut self, envelope: Envelope, at: Timestamp) -> Result<()> {
        let _ = (envelope, at);
        Err(unfinished())
    }

    /// Takes back an event that was published for later and has not been sent. Says whether it did.
    pub async fn cancel_scheduled(&mut self, event_id: &str) -> Result<bool> {
        let _ = event_id;
        Err(unfinished())
    }

    /// Records that `consumer` handles this event, and says whether it is the first time.
    pub async fn first_time(&mut self, consumer: &str, event_id: &str) -> Result<bool> {
        let _ = (consumer, event_id);
        Err(unfinished())
    }

    /// Sets savepoint `n`.
    pub async fn savepoint(&mut self, n: u32) -> Result<()> {
        let _ = n;
        Err(unfinished())
    }

    /// Undoes everything since savepoint `n`, which stays set.
    pub async fn rollback_to(&mut self, n: u32) -> Result<()> {
        let _ = n;
        Err(unfinished())
    }

    /// Forgets savepoint `n` and keeps what was done since.
    pub async fn release(&mut self, n: u32) -> Result<()> {
        let _ = n;
        Err(unfinished())
    }

    /// Stores the answer of an idempotent request that [`crate::Idempotency::begin`] started.
    ///
    /// # Errors
    /// `Conflict` when the key is no longer held by this process.
    pub async fn complete_idempotent(
        &mut self,
        scope: &str,
        key: &str,
        response: &StoredResponse,
    ) -> Result<()> {
        let _ = (scope, key, response);
        Err(unfinished())
    }

    /// Ends a claimed run of a job and sets its next.
    ///
    /// # Errors
    /// `Conflict` when the claim has run out and another has taken it.
    pub async fn finish_job(&mut self, run: &JobRun, next: Timestamp) -> Result<()> {
        let _ = (run, next);
        Err(unfinished())
    }

    /// Makes everything durable and wakes the relay.
    ///
    /// # Errors
    /// `Unavailable` and `Unknown` when the connection broke: it may be committed or not.
    pub async fn commit(self) -> Result<()> {
        Err(unfinished())
    }

    /// Undoes everything now.
    pub async fn rollback(self) -> Result<()> {
        Err(unfinished())
    }
}
