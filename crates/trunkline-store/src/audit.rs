//! The audit log as a table whose entries vouch for each other.

mod chain;
mod query;

use futures::future::BoxFuture;
use sqlx::{AnyConnection, Row};
use trunkline_core::{Result, Timestamp};
use trunkline_security::{AuditEntry, AuditOutcome, AuditSink, Secret};

use crate::error::sql_error;
use crate::store::Backend;
use crate::{Migration, Store, Tx, migrate, text};

pub use chain::{AuditBreak, AuditCheck, AuditHead};
pub use query::{AuditQuery, AuditRecord};

use chain::Chain;

/// Entries dropped in one transaction.
const PRUNE_STEP: i64 = 500;

const TABLES: Migration = Migration {
    name: "trunkline/0001_audit",
    sql: "CREATE TABLE trunkline_audit (position BIGINT PRIMARY KEY, entry_id TEXT NOT NULL UNIQUE,
            happened_at BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
            object TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT, correlation_id TEXT,
            hash TEXT NOT NULL);
          CREATE INDEX trunkline_audit_by_time ON trunkline_audit (happened_at);
          CREATE INDEX trunkline_audit_by_actor ON trunkline_audit (actor, position);
          CREATE INDEX trunkline_audit_by_outcome ON trunkline_audit (outcome, position);
          CREATE TABLE trunkline_audit_anchor (position BIGINT NOT NULL, hash TEXT NOT NULL,
            seal TEXT NOT NULL)",
};

const INSERT: &str = "INSERT INTO trunkline_audit (position, entry_id, happened_at, actor, action, \
    object, outcome, reason, correlation_id, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// The audit log of a store: entries are appended and never changed, and each has a hash over itself and the hash of
/// the one before. Cheap to clone.
///
/// # Guarantees
/// [`AuditLog::verify`] finds an entry that was changed, added, removed or moved, and names the first such place.
/// With a secret the hashes are made with it (HMAC-SHA256), and whoever can write the table but does not have the
/// secret can't make them. That the newest entries were cut off is seen by who keeps a [`AuditLog::head`] elsewhere.
///
/// # Shape
/// Positions have no gaps.
#[derive(Clone)]
pub struct AuditLog {
    store: Store,
    chain: Chain,
}

impl AuditLog {
    /// Opens the audit log in `store`, making its tables. Its hashes are made with `secret`, if there is one; it has to
    /// stay the same.
    ///
    /// # Errors
    /// As [`Store::migrate`].
    pub async fn open(store: Store, secret: Option<Secret>) -> Result<Self> {
        migrate::apply(&store, &[TABLES]).await?;
        Ok(Self {
            store,
            chain: Chain::new(secret),
        })
    }

    /// Appends entries in a transaction of the caller's: a change and what is noted of it take effect together.
    ///
    /// # Guarantees
    /// Transactions that append wait for each other until they end, so it should be the last thing that one does. An
    /// entry that is there already (by its id) is passed over.
    ///
    /// # Errors
    /// As any statement.
    pub async fn append_in(&self, tx: &mut Tx, entries: &[AuditEntry]) -> Result<()> {
        if let Backend::Postgres(postgres) = self.store.backend() {
            sqlx::query("SELECT CAST(pg_advisory_xact_lock($1) AS TEXT)")
                .bind(crate::outbox::lock_number(&["audit", &postgres.schema]))
                .execute(tx.conn())
                .await
                .map_err(sql_error)?;
        }
        let mut head = self.head_of(tx.conn()).await?;
        for entry in entries {
            if !is_known(tx.conn(), entry).await? {
                head = self.insert(tx.conn(), &head, entry).await?;
            }
        }
        Ok(())
    }

    /// The newest entry's position and hash. Kept elsewhere, it tells later whether entries were cut off.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn head(&self) -> Result<AuditHead> {
        let mut reader = self.store.read().await?;
        self.head_of(reader.conn()).await
    }

    /// Drops entries from before `until`, in steps of 500, and notes that in the log itself. Says how many.
    ///
    /// # Guarantees
    /// Those that are left still vouch for each other: the hash of the last that was dropped is kept.
    ///
    /// # Errors
    /// As any transaction; what was dropped by then stays dropped.
    pub async fn prune(&self, until: Timestamp, actor: &str) -> Result<u64> {
        let mut dropped = 0;
        loop {
            let mut tx = self.store.begin().await?;
            let step = self.prune_step(&mut tx, until).await?;
            if step == 0 {
                break;
            }
            dropped += step;
            let object = format!("{step} entries before {until}");
            let env = self.store.env();
            let outcome = AuditOutcome::Done;
            let entry = AuditEntry::new(actor, "audit.prune", object, outcome, env);
            self.append_in(&mut tx, &[entry]).await?;
            tx.commit().await?;
            if step < PRUNE_STEP.unsigned_abs() {
                break;
            }
        }
        Ok(dropped)
    }

    async fn prune_step(&self, tx: &mut Tx, until: Timestamp) -> Result<u64> {
        // The order of appending is nearly that of time, so the oldest are the first.
        let last = sqlx::query(
            "SELECT position, hash FROM (SELECT position, hash, happened_at FROM trunkline_audit \
             ORDER BY position LIMIT $1) AS first WHERE happened_at < $2 \
             ORDER BY position DESC LIMIT 1",
        )
        .bind(PRUNE_STEP)
        .bind(until.as_microsecond())
        .fetch_optional(tx.conn())
        .await
        .map_err(sql_error)?;
        let Some(last) = last else { return Ok(0) };
        let head = AuditHead {
            position: last.try_get::<i64, _>(0).map_err(sql_error)?.unsigned_abs(),
            hash: last.try_get(1).map_err(sql_error)?,
        };
        let position = head.column();
        sqlx::query("DELETE FROM trunkline_audit_anchor")
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        sqlx::query(
            "INSERT INTO trunkline_audit_anchor (position, hash, seal) VALUES ($1, $2, $3)",
        )
        .bind(position)
        .bind(head.hash.clone())
        .bind(self.chain.seal(&head))
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
        let done = sqlx::query("DELETE FROM trunkline_audit WHERE position <= $1")
            .bind(position)
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        Ok(done.rows_affected())
    }

    async fn head_of(&self, conn: &mut AnyConnection) -> Result<AuditHead> {
        let sql = "SELECT position, hash FROM trunkline_audit ORDER BY position DESC LIMIT 1";
        match head_row(conn, sql).await? {
            Some(head) => Ok(head),
            None => Ok(self.anchor(conn).await?.0),
        }
    }

    /// What the oldest entry follows, and whether that was written by us.
    async fn anchor(&self, conn: &mut AnyConnection) -> Result<(AuditHead, bool)> {
        let row = sqlx::query("SELECT position, hash, seal FROM trunkline_audit_anchor")
            .fetch_optional(conn)
            .await
            .map_err(sql_error)?;
        let Some(row) = row else {
            return Ok((AuditHead::first(), true));
        };
        let head = chain::head(&row)?;
        let seal: String = row.try_get(2).map_err(sql_error)?;
        let ours = seal == self.chain.seal(&head);
        Ok((head, ours))
    }

    async fn insert(
        &self,
        conn: &mut AnyConnection,
        head: &AuditHead,
        entry: &AuditEntry,
    ) -> Result<AuditHead> {
        let next = self.chain.next(head, entry);
        sqlx::query(INSERT)
            .bind(next.column())
            .bind(stored(&entry.id))
            .bind(entry.at.as_microsecond())
            .bind(stored(&entry.actor))
            .bind(stored(&entry.action))
            .bind(stored(&entry.object))
            .bind(entry.outcome.name())
            .bind(entry.reason.as_deref().map(stored))
            .bind(entry.correlation_id.as_deref().map(stored))
            .bind(next.hash.clone())
            .execute(conn)
            .await
            .map_err(sql_error)?;
        Ok(next)
    }
}

impl AuditSink for AuditLog {
    fn append<'a>(&'a self, entries: &'a [AuditEntry]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await?;
            self.append_in(&mut tx, entries).await?;
            tx.commit().await
        })
    }
}

async fn is_known(conn: &mut AnyConnection, entry: &AuditEntry) -> Result<bool> {
    let row = sqlx::query("SELECT position FROM trunkline_audit WHERE entry_id = $1")
        .bind(stored(&entry.id))
        .fetch_optional(conn)
        .await
        .map_err(sql_error)?;
    Ok(row.is_some())
}

async fn head_row(conn: &mut AnyConnection, sql: &'static str) -> Result<Option<AuditHead>> {
    let row = sqlx::query(sql)
        .fetch_optional(conn)
        .await
        .map_err(sql_error)?;
    row.as_ref().map(chain::head).transpose()
}

fn stored(text: &str) -> String {
    text::write(text).into_owned()
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditLog")
            .field("store", &self.store)
            .field("keyed", &self.chain.is_keyed())
            .finish_non_exhaustive()
    }
}
