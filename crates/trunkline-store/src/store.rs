//! Opening a store and getting at it.

use std::fmt;
use std::future::ready;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Once};

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection};
use tokio::sync::{Notify, watch};
use trunkline_bus::ParkingLot;
use trunkline_core::{ByteString, Env, Result};
use trunkline_saga::Durable;
use trunkline_telemetry::Check;

use crate::config::{Place, StoreConfig};
use crate::error::sql_error;
use crate::migrate::{self, Migration};
use crate::owner::Presence;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::tx::{Mode, Tx};
use crate::{Alerts, Idempotency, Jobs, Recoveries, inbox, parking, tables};

/// Which database a store is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file of its own, with one writer at a time.
    Sqlite,
    /// A schema of its own on a server.
    Postgres,
}

/// A service's own store. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    service: ByteString,
    config: StoreConfig,
    env: Env,
    backend: Backend,
    outbox: OutboxSignal,
    /// Changes when events were appended to streams.
    appended: watch::Sender<()>,
    news: parking::News,
    /// Alerts were written.
    alerted: Notify,
    inbox_turns: AtomicU64,
    presence: Presence,
    // Last, so that its folder goes when the connections are gone.
    _folder: Option<TemporaryFolder>,
}

#[derive(Debug)]
pub(crate) enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// How transactions tell the relay that there is something to send.
#[derive(Debug)]
pub(crate) struct OutboxSignal {
    pub(crate) committed: Notify,
    /// The earliest due time that was committed since the relay last looked.
    due: AtomicI64,
    /// The last row that this process has put into the outbox, on SQLite.
    last_id: AtomicI64,
}

impl OutboxSignal {
    /// A transaction with events is committed; `due` is the earliest of those meant for later.
    pub(crate) fn tell(&self, due: Option<Timestamp>) {
        if let Some(due) = due {
            self.due.fetch_min(due.as_microsecond(), Ordering::AcqRel);
        }
        self.committed.notify_one();
    }

    /// A row with this id is about to be committed.
    pub(crate) fn note_id(&self, id: i64) {
        self.last_id.fetch_max(id, Ordering::AcqRel);
    }

    /// Whether another process may have put this row there after all those of this process.
    pub(crate) fn is_foreign(&self, id: i64) -> bool {
        id > self.last_id.load(Ordering::Acquire)
    }

    /// The earliest due time since this was last called.
    pub(crate) fn take_due(&self) -> Option<Timestamp> {
        let due = self.due.swap(i64::MAX, Ordering::AcqRel);
        Timestamp::from_microsecond(due).ok()
    }
}

impl Store {
    /// Opens (and where needed makes) the store of `service`, with the toolkit's own tables in it.
    ///
    /// # Shape
    /// `sqlite:PATH` (relative paths are taken from the working directory), `sqlite::memory:` (a file
    /// that goes away with the store), or `postgres://USER@HOST/DATABASE?schema=NAME`, where `schema`
    /// is the service's name by default and `pool=4` bounds its writers. Each replica of a service takes
    /// up to eight connections more: two to read with, three of the relay, one that listens for dead
    /// letters, one while it replays some, and one while it sends alerts. `{service}` stands for the
    /// service's name.
    ///
    /// # Guarantees
    /// A commit is on disk when it returns: SQLite's WAL is synced first, once for all who commit meanwhile, PostgreSQL does as
    /// its server is set. Readers of SQLite see a commit a moment before: see [`Store::settled`]. The file is readable by its
    /// owner alone.
    ///
    /// # Errors
    /// `InvalidInput` for a URL that can't be understood, `Unavailable` when the folder can't be
    /// written, the disk is full or the server can't be reached, `Corrupt` for a file that is no
    /// database.
    pub async fn open(url: &str, service: &str, env: Env) -> Result<Self> {
        Self::open_with(StoreConfig::new(url, service), env).await
    }

    /// The same with other bounds.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(config: StoreConfig, env: Env) -> Result<Self> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let mut folder = None;
        let backend = match config.place()? {
            Place::Sqlite { path } => Backend::Sqlite(Sqlite::open(&path, &config).await?),
            Place::Temporary => {
                let made = TemporaryFolder::named(&env);
                let path = made.0.join("store.db");
                folder = Some(made);
                Backend::Sqlite(Sqlite::open(&path, &config).await?)
            }
            Place::Postgres {
                options,
                schema,
                pool_max,
            } => Backend::Postgres(
                Box::pin(Postgres::open(options, schema, pool_max, &config)).await?,
            ),
        };
        let presence = Presence::begin(&backend, &env).await?;
        let outbox = OutboxSignal {
            committed: Notify::new(),
            due: AtomicI64::new(i64::MAX),
            last_id: AtomicI64::new(0),
        };
        let store = Self(Arc::new(Inner {
            service: config.service.clone().into(),
            config,
            env,
            backend,
            outbox,
            appended: watch::Sender::new(()),
            news: parking::News::default(),
            alerted: Notify::new(),
            inbox_turns: AtomicU64::new(0),
            presence,
            _folder: folder,
        }));
        migrate::apply(&store, &tables::migrations(store.engine())).await?;
        store.0.presence.release_the_dead(&store).await?;
        Ok(store)
    }

    /// Which database it is.
    pub fn engine(&self) -> Engine {
        match &self.0.backend {
            Backend::Sqlite(_) => Engine::Sqlite,
            Backend::Postgres(_) => Engine::Postgres,
        }
    }

    /// The service whose store it is.
    pub fn service(&self) -> &ByteString {
        &self.0.service
    }

    /// Its clock, randomness and ids.
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// Applies the service's migrations that are not applied yet, in order, one transaction each,
    /// while no other process does.
    ///
    /// # Errors
    /// `Conflict` naming a migration that was changed after it was applied.
    pub async fn migrate(&self, migrations: &[Migration]) -> Result<()> {
        migrate::apply(self, migrations).await
    }

    /// Begins a transaction that may write.
    ///
    /// # Guarantees
    /// Cancel safe. On SQLite writers take turns, in the order in which they asked: whoever holds a
    /// transaction and asks for another waits for itself, until it is told `Overloaded`.
    ///
    /// # Errors
    /// `Overloaded` when no turn came in time, `Unavailable` when the server is gone: nothing happened.
    pub async fn begin(&self) -> Result<Tx> {
        Tx::begin(self.clone(), Mode::Durable).await
    }

    /// Begins a transaction of one statement that writes: on SQLite that is the whole of it, where else two more go to another
    /// thread and back.
    pub(crate) async fn begin_single(&self) -> Result<Tx> {
        let mode = match self.engine() {
            Engine::Sqlite => Mode::Single,
            Engine::Postgres => Mode::Durable,
        };
        Tx::begin(self.clone(), mode).await
    }

    /// Begins a transaction whose commit may be lost when the machine (not the process) dies.
    pub(crate) async fn begin_relaxed(&self) -> Result<Tx> {
        Tx::begin(self.clone(), Mode::Relaxed).await
    }

    /// The same, for the relay.
    pub(crate) async fn begin_relay(&self) -> Result<Tx> {
        Tx::begin(self.clone(), Mode::Relay).await
    }

    /// A connection to read with, outside any transaction. It sees what is committed.
    ///
    /// # Errors
    /// `Overloaded` when none became free in time, `Unavailable` when the server is gone.
    pub async fn read(&self) -> Result<Reader> {
        match &self.0.backend {
            Backend::Sqlite(sqlite) => sqlite.readers.acquire().await.map_err(sql_error),
            Backend::Postgres(postgres) => match postgres.readers.acquire().await {
                Ok(conn) => Ok(conn),
                Err(error) => Err(postgres.no_connection(error).await),
            },
        }
        .map(Reader)
    }

    /// Waits until everything that readers of this store may have seen so far is on disk. Who tells somebody outside of what it
    /// has read, or acts on it, waits for this first; a commit waits for it by itself. On PostgreSQL nothing is seen before.
    ///
    /// # Errors
    /// `Unavailable` when the disk does not confirm it.
    pub async fn settled(&self) -> Result<()> {
        match &self.0.backend {
            Backend::Sqlite(sqlite) => sqlite.syncs.settled().await,
            Backend::Postgres(_) => Ok(()),
        }
    }

    /// Becomes ready when everything that is committed by now is on disk, also what another process has committed.
    pub(crate) fn on_disk(&self) -> Durable {
        match &self.0.backend {
            Backend::Sqlite(sqlite) => sqlite.syncs.turn().boxed(),
            Backend::Postgres(_) => ready(Ok(())).boxed(),
        }
    }

    /// Whether commits can still be confirmed in this process: not since a sync has failed.
    pub(crate) fn confirms(&self) -> Result<()> {
        match &self.0.backend {
            Backend::Sqlite(sqlite) => sqlite.syncs.check(),
            Backend::Postgres(_) => Ok(()),
        }
    }

    /// Whether the store answers: for health checks.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn check(&self) -> Result<()> {
        self.confirms()?;
        let mut reader = self.read().await?;
        sqlx::query("SELECT 1")
            .execute(reader.conn())
            .await
            .map_err(sql_error)?;
        Ok(())
    }

    /// Whether `consumer` has handled this event before, as far as the inbox's window goes. It is for
    /// work with effects outside the store; inside, [`Tx::first_time`] decides.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn seen(&self, consumer: &str, event_id: &str) -> Result<bool> {
        inbox::seen(self, consumer, event_id).await
    }

    /// Where the dead letters of this service's groups are kept.
    pub fn parking_lot(&self) -> Arc<dyn ParkingLot> {
        Arc::new(parking::SqlParkingLot::new(self.clone()))
    }

    /// Those of them that this service decides about by itself.
    pub fn recoveries(&self) -> Recoveries {
        Recoveries::new(self.clone())
    }

    /// What the people who look after the platform are to be told of it.
    pub fn alerts(&self) -> Alerts {
        Alerts::new(self.clone())
    }

    /// Idempotency keys of HTTP requests.
    pub fn idempotency(&self) -> Idempotency {
        Idempotency::new(self.clone())
    }

    /// Durable next-run rows of the service's jobs.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(self.clone())
    }

    /// Waits for the last writer and closes the connections. Later calls fail with `Unavailable`.
    pub async fn close(&self) {
        self.0.news.close();
        match &self.0.backend {
            Backend::Sqlite(sqlite) => sqlite.close().await,
            Backend::Postgres(postgres) => {
                postgres.close().await;
            }
        }
    }

    pub(crate) fn config(&self) -> &StoreConfig {
        &self.0.config
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.0.backend
    }

    pub(crate) fn outbox(&self) -> &OutboxSignal {
        &self.0.outbox
    }

    /// Tells projections of commits.
    pub(crate) fn appended(&self) -> &watch::Sender<()> {
        &self.0.appended
    }

    /// What changes among the dead letters.
    pub(crate) fn news(&self) -> &parking::News {
        &self.0.news
    }

    /// Tells whoever sends alerts of commits.
    pub(crate) fn alerted(&self) -> &Notify {
        &self.0.alerted
    }

    /// The id of this process in this store.
    pub(crate) fn owner(&self) -> &str {
        self.0.presence.id()
    }

    pub(crate) fn now_micros(&self) -> i64 {
        self.0.env.now().as_microsecond()
    }

    /// Counts the inbox's turns, for its pruning now and then.
    pub(crate) fn inbox_turn(&self) -> u64 {
        self.0.inbox_turns.fetch_add(1, Ordering::Relaxed)
    }
}

impl Check for Store {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Self::check(self))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("service", &self.0.service)
            .field("engine", &self.engine())
            .finish_non_exhaustive()
    }
}

/// A connection to read with; it goes back to its pool when dropped.
#[derive(Debug)]
pub struct Reader(PoolConnection<Any>);

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

/// A folder that is removed when dropped.
#[derive(Debug)]
struct TemporaryFolder(std::path::PathBuf);

impl TemporaryFolder {
    fn named(env: &Env) -> Self {
        Self(std::env::temp_dir().join(format!("trunkline-{}", env.id())))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, folder = %self.0.display(), "a temporary store was not removed");
        }
    }
}
