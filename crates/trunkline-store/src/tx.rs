//! One transaction: rows, inbox and outbox together.

use std::future::ready;

use futures::FutureExt;
use jiff::Timestamp;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Transaction};
use trunkline_bus::DeadLetter;
use trunkline_core::{Envelope, Error, ErrorKind, Result, Retry};
use trunkline_saga::Durable;

use crate::error::sql_error;
use crate::outbox::{self, OutboxRow};
use crate::postgres::Postgres;
use crate::sqlite::Held;
use crate::store::Backend;
use crate::{JobRun, Store, StoredResponse, idempotency, inbox, jobs, parking};

/// Events that one transaction may publish; more is `TooLarge`.
const EVENTS_MAX: usize = 10_000;

/// Bytes of events that one transaction may publish; more is `TooLarge`.
const EVENT_BYTES_MAX: usize = 64 << 20;

/// A broken connection is found out when a transaction begins on it; so many times another is tried.
const BEGIN_ATTEMPTS: usize = 3;

/// SQLite's result code when a sync of its own, at a checkpoint, has failed.
const SQLITE_IOERR_FSYNC: &str = "1034";

/// A transaction. Dropped without [`Tx::commit`], it is rolled back.
///
/// # Guarantees
/// The rows written through [`Tx::conn`], the inbox rows, the events published and the stored answer
/// take effect together or not at all. Events of one key are sent in the order of the commits.
#[derive(Debug)]
pub struct Tx {
    store: Store,
    conn: Conn,
    mode: Mode,
    /// Events wait here for the commit: the locks that keep the order of their keys are then held
    /// for the length of the commit and not of the transaction, and are taken in one order.
    events: Vec<OutboxRow>,
    events_bytes: usize,
    /// Each savepoint and how many events there were then.
    savepoints: Vec<(u32, usize)>,
    due: Option<Timestamp>,
    /// Events were appended to streams, which projections want to know.
    appended: bool,
    /// Alerts were written, which somebody is to send.
    alerted: bool,
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Work: on disk when its commit returns.
    Durable,
    /// Housekeeping: a commit may be lost when the machine (not the process) dies.
    Relaxed,
    /// One statement, on SQLite: it commits by itself, and is on disk when it returns.
    Single,
    /// The relay's housekeeping: the same, and on PostgreSQL it never waits for a writer, so that
    /// long transactions don't keep what is committed from being sent.
    Relay,
}

#[derive(Debug)]
enum Conn {
    Sqlite(Held),
    Postgres(Box<Transaction<'static, Any>>),
}

impl Conn {
    fn get(&mut self) -> &mut AnyConnection {
        match self {
            Self::Sqlite(held) => held.conn(),
            Self::Postgres(transaction) => transaction,
        }
    }
}

impl Tx {
    pub(crate) async fn begin(store: Store, mode: Mode) -> Result<Self> {
        let conn = match store.backend() {
            Backend::Sqlite(sqlite) => {
                let mut held = sqlite.writer().await?;
                if mode == Mode::Single {
                    sqlite.syncs.commit_begins();
                } else {
                    let begun = sqlx::raw_sql("BEGIN IMMEDIATE").execute(held.conn()).await;
                    begun.map_err(sql_error)?;
                }
                Conn::Sqlite(held)
            }
            Backend::Postgres(postgres) => {
                let mut transaction = begin_postgres(postgres, mode).await?;
                if matches!(mode, Mode::Relaxed | Mode::Relay) {
                    sqlx::raw_sql("SET LOCAL synchronous_commit = off")
                        .execute(&mut *transaction)
                        .await
                        .map_err(sql_error)?;
                }
                Conn::Postgres(Box::new(transaction))
            }
        };
        Ok(Self {
            store,
            conn,
            mode,
            events: Vec::new(),
            events_bytes: 0,
            savepoints: Vec::new(),
            due: None,
            appended: false,
            alerted: false,
        })
    }

    /// The store it is a transaction of.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The connection, for sqlx. Savepoints are set by [`Tx::savepoint`], which knows of the events
    /// published since; one set by hand does not.
    pub fn conn(&mut self) -> &mut AnyConnection {
        self.conn.get()
    }

    /// Publishes an event when the transaction commits.
    ///
    /// # Errors
    /// `TooLarge` above 10,000 events or 64 MiB in one transaction.
    pub async fn publish(&mut self, envelope: Envelope) -> Result<()> {
        let row = OutboxRow::of(&envelope);
        self.events_bytes = self.events_bytes.saturating_add(row.envelope.len());
        if self.events.len() >= EVENTS_MAX || self.events_bytes > EVENT_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "tx_events_too_many",
                "a transaction may publish 10,000 events or 64 MiB at most",
            ));
        }
        self.events.push(row);
        Ok(())
    }

    /// Publishes an event at a time after the commit; durable meanwhile. It is sent within the order
    /// of its key as if it were published at that time.
    ///
    /// # Errors
    /// As any statement.
    pub async fn publish_at(&mut self, envelope: Envelope, at: Timestamp) -> Result<()> {
        outbox::schedule(self.conn.get(), &OutboxRow::of(&envelope), at).await?;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
        Ok(())
    }

    /// Takes back an event that was published for later and is not due yet. Says whether it did.
    ///
    /// # Errors
    /// As any statement.
    pub async fn cancel_scheduled(&mut self, event_id: &str) -> Result<bool> {
        outbox::cancel(self.conn.get(), event_id).await
    }

    /// Records that `consumer` handles this event, and says whether it is the first time.
    ///
    /// # Guarantees
    /// Of two transactions that ask at once, one gets `true`; the other waits for its end.
    ///
    /// # Errors
    /// As any statement.
    pub async fn first_time(&mut self, consumer: &str, event_id: &str) -> Result<bool> {
        inbox::first_time(&self.store, self.conn.get(), consumer, event_id).await
    }

    /// Sets savepoint `n`.
    ///
    /// # Errors
    /// As any statement.
    pub async fn savepoint(&mut self, n: u32) -> Result<()> {
        self.savepoints.push((n, self.events.len()));
        self.run(format!("SAVEPOINT trunkline_{n}")).await
    }

    /// Undoes everything since savepoint `n`, which stays set.
    ///
    /// # Errors
    /// As any statement; an unknown savepoint is a defect.
    pub async fn rollback_to(&mut self, n: u32) -> Result<()> {
        let place = self.savepoint_place(n)?;
        self.savepoints.truncate(place + 1);
        if let Some((_, events)) = self.savepoints.last() {
            self.events.truncate(*events);
            self.events_bytes = self.events.iter().map(|row| row.envelope.len()).sum();
        }
        self.run(format!("ROLLBACK TO SAVEPOINT trunkline_{n}"))
            .await
    }

    /// Forgets savepoint `n` and those set since, and keeps what was done.
    ///
    /// # Errors
    /// As any statement; an unknown savepoint is a defect.
    pub async fn release(&mut self, n: u32) -> Result<()> {
        let place = self.savepoint_place(n)?;
        self.savepoints.truncate(place);
        self.run(format!("RELEASE SAVEPOINT trunkline_{n}")).await
    }

    /// Stores the answer of an idempotent request that [`crate::Idempotency::begin`] started.
    ///
    /// # Errors
    /// `Conflict` when another has taken the key meanwhile: roll back. `TooLarge` for a body above
    /// 1 MiB.
    pub async fn complete_idempotent(
        &mut self,
        scope: &str,
        key: &str,
        response: &StoredResponse,
    ) -> Result<()> {
        idempotency::complete(&self.store, self.conn.get(), (scope, key), response).await
    }

    /// Ends a claimed run of a job and sets its next.
    ///
    /// # Errors
    /// `Conflict` when the claim has run out and another has taken it: roll back.
    pub async fn finish_job(&mut self, run: &JobRun, next: Timestamp) -> Result<()> {
        jobs::finish(&self.store, self.conn.get(), run, next).await
    }

    /// Notes what becomes of a dead letter: it is replayed from `retry_at` on, or kept. Says whether the letter is still as
    /// it was read; if not, it is gone, has failed again, or somebody else has decided: roll back.
    ///
    /// # Errors
    /// As any statement.
    pub async fn decide(
        &mut self,
        letter: &DeadLetter,
        retry_at: Option<Timestamp>,
    ) -> Result<bool> {
        parking::decide(self, letter, retry_at).await
    }

    pub(crate) fn note_append(&mut self) {
        self.appended = true;
    }

    pub(crate) fn note_alert(&mut self) {
        self.alerted = true;
    }

    /// Makes everything durable and wakes the relay.
    ///
    /// # Guarantees
    /// Cancelled, it may be committed or not, as with any lost answer.
    ///
    /// # Errors
    /// `Unavailable` with retry `Unknown` when the connection broke or the disk did not confirm it: it may be committed or not.
    pub async fn commit(self) -> Result<()> {
        self.commit_ahead().await?.await
    }

    /// Commits, in the order in which others see it, and gives what becomes ready when it is durable. Until then nobody outside
    /// may learn of it; what is committed later is durable only if this is.
    pub(crate) async fn commit_ahead(mut self) -> Result<Durable> {
        let published = !self.events.is_empty();
        if published {
            outbox::insert(&self.store, self.conn.get(), &self.events).await?;
        }
        let durable = match self.conn {
            Conn::Sqlite(held) => commit_sqlite(&self.store, held, self.mode).await?,
            Conn::Postgres(transaction) => {
                transaction.commit().await.map_err(in_doubt)?;
                ready(Ok(())).boxed()
            }
        };
        // The relay itself waits until what it has read is durable.
        if published || self.due.is_some() {
            self.store.outbox().tell(self.due);
        }
        if self.appended {
            self.store.appended().send_replace(());
        }
        if self.alerted {
            self.store.alerted().notify_one();
        }
        Ok(durable)
    }

    /// Undoes everything now, and waits until what it has read is durable: it may be why it is undone.
    ///
    /// # Errors
    /// `Unavailable` when the connection broke; it is undone all the same.
    pub async fn rollback(self) -> Result<()> {
        match self.conn {
            // The janitor does it.
            Conn::Sqlite(held) => drop(held),
            Conn::Postgres(transaction) => transaction.rollback().await.map_err(sql_error)?,
        }
        self.store.settled().await
    }

    fn savepoint_place(&self, n: u32) -> Result<usize> {
        self.savepoints
            .iter()
            .rposition(|(name, _)| *name == n)
            .ok_or_else(|| {
                Error::internal("no such savepoint is set")
                    .with_retry(Retry::Permanent)
                    .with("n", n)
            })
    }

    async fn run(&mut self, sql: String) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(self.conn.get())
            .await
            .map_err(sql_error)?;
        Ok(())
    }
}

async fn commit_sqlite(store: &Store, mut held: Held, mode: Mode) -> Result<Durable> {
    let Backend::Sqlite(sqlite) = store.backend() else {
        return Err(Error::internal("a connection of another engine"));
    };
    if mode != Mode::Single {
        sqlite.syncs.commit_begins();
        let committed = sqlx::raw_sql("COMMIT").execute(held.conn()).await;
        if let Err(sqlx::Error::Database(error)) = &committed
            && error.code().is_some_and(|code| code == SQLITE_IOERR_FSYNC)
        {
            sqlite.syncs.fail(error.message());
        }
        committed.map_err(in_doubt)?;
    }
    held.done();
    Ok(match mode {
        Mode::Durable | Mode::Single => sqlite.syncs.turn().boxed(),
        Mode::Relaxed | Mode::Relay => ready(Ok(())).boxed(),
    })
}

/// An error of a commit: where the connection broke, it may have come about.
fn in_doubt(error: sqlx::Error) -> Error {
    let in_doubt = matches!(error, sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed);
    let error = sql_error(error);
    if in_doubt {
        error.with_retry(Retry::Unknown)
    } else {
        error
    }
}

async fn begin_postgres(postgres: &Postgres, mode: Mode) -> Result<Transaction<'static, Any>> {
    let mut attempts = 1;
    loop {
        match postgres.pool(mode).begin().await {
            Err(sqlx::Error::Io(error)) if attempts < BEGIN_ATTEMPTS => {
                tracing::debug!(%error, "a connection to the store was broken; trying another");
                attempts += 1;
            }
            Err(error) => return Err(postgres.no_connection(error).await),
            Ok(begun) => return Ok(begun),
        }
    }
}
