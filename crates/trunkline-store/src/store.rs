//! Opening a store and getting at it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::AnyConnection;
use sqlx::pool::PoolConnection;
use trunkline_bus::ParkingLot;
use trunkline_core::{Env, Result};

use crate::error::unfinished;
use crate::{Idempotency, Jobs, Migration, Tx};

/// Which database a store is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file of its own, with one writer at a time.
    Sqlite,
    /// A schema of its own on a server.
    Postgres,
}

/// A service's own store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    #[expect(dead_code, reason = "the insides are not written yet")]
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {}

impl Store {
    /// Opens (and where needed makes) the store of `service` and the toolkit's own tables in it.
    ///
    /// # Errors
    /// `InvalidInput` for a URL that can't be understood, `Unavailable` when the folder can't be written
    /// or the server can't be reached.
    pub async fn open(url: &str, service: &str, env: Env) -> Result<Self> {
        let _ = (url, service, env);
        Err(unfinished())
    }

    /// Which database it is.
    pub fn engine(&self) -> Engine {
        Engine::Sqlite
    }

    /// Applies the service's migrations that are not applied yet, in order, one transaction each.
    ///
    /// # Errors
    /// `Conflict` naming a migration that was changed after it was applied.
    pub async fn migrate(&self, migrations: &[Migration]) -> Result<()> {
        let _ = migrations;
        Err(unfinished())
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Tx> {
        Err(unfinished())
    }

    /// A connection to read with, outside any transaction.
    pub async fn read(&self) -> Result<Reader> {
        Err(unfinished())
    }

    /// Whether the store answers: for health checks.
    pub async fn check(&self) -> Result<()> {
        Err(unfinished())
    }

    /// Whether `consumer` has handled this event before, as far as the inbox's window goes.
    pub async fn seen(&self, consumer: &str, event_id: &str) -> Result<bool> {
        let _ = (consumer, event_id);
        Err(unfinished())
    }

    /// Where the dead letters of this service's groups are kept.
    pub fn parking_lot(&self) -> Arc<dyn ParkingLot> {
        Arc::new(crate::parking::SqlParkingLot::new(self.clone()))
    }

    /// Idempotency keys of HTTP requests.
    pub fn idempotency(&self) -> Idempotency {
        Idempotency::new(self.clone())
    }

    /// Durable next-run rows of the service's jobs.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(self.clone())
    }

    /// Waits for the last writer and closes every connection.
    pub async fn close(&self) -> Result<()> {
        Err(unfinished())
    }
}

/// A connection to read with; it goes back to its pool when dropped.
#[derive(Debug)]
pub struct Reader(PoolConnection<sqlx::Any>);

impl Reader {
    /// The connection, for sqlx.
    pub fn conn(&mut self) -> &mut AnyConnection {
        &mut self.0
    }
}

impl Deref for Reader {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.0
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.0
    }
}
