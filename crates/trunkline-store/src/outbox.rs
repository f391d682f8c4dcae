//! The outbox's tables: what is published, what is meant for later, and what is held back.
//!
//! # Order
//! Events of one key leave in the order in which their transactions committed. The relay reads what
//! is there in ascending id, never from a cursor, so a row that appears late with a low id is sent
//! like any other. It is enough, then, that of two rows of one key the one committed first has the
//! lower id, and that nobody sees the second before the first:
//! - SQLite has one writer, so ids are given in the order of the commits.
//! - On PostgreSQL a transaction takes an advisory lock on the key before its row gets an id, and
//!   holds it until after its commit is visible. The next one with that key gets its id from the
//!   sequence only then: a higher one, and whoever sees its row sees the first as well. Rows of
//!   different keys may appear in any order, which nobody was promised.

use std::sync::LazyLock;

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use trunkline_core::{Envelope, Result};

use crate::error::sql_error;
use crate::store::Backend;
use crate::{Engine, Store, text};

/// Keys share so many locks in each schema: a transaction that publishes thousands of keys must not
/// fill the server's lock table. Two keys that share one wait for each other for a commit's length.
const KEY_LOCKS: i64 = 1024;

/// Rows in one `INSERT`, the largest first. Fixed sizes, so that the statements stay prepared.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutboxRow {
    /// Zero before it is stored.
    pub(crate) id: i64,
    pub(crate) event_id: ByteString,
    /// The event's key, or its id where it has none.
    pub(crate) key: ByteString,
    /// Microseconds.
    pub(crate) made_at: i64,
    pub(crate) envelope: Vec<u8>,
}

impl OutboxRow {
    pub(crate) fn of(envelope: &Envelope) -> Self {
        let mut bytes = Vec::with_capacity(256 + envelope.data.len());
        envelope.encode(&mut bytes);
        Self {
            id: 0,
            event_id: envelope.id.clone(),
            key: envelope.key.clone().unwrap_or_else(|| envelope.id.clone()),
            made_at: 0,
            envelope: bytes,
        }
    }

    pub(crate) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            event_id: text::read(row.try_get(1)?),
            key: text::read(row.try_get(2)?),
            made_at: row.try_get(3)?,
            envelope: row.try_get(4)?,
        })
    }

    pub(crate) fn decode(&self) -> Result<Envelope> {
        Envelope::decode(Bytes::copy_from_slice(&self.envelope))
    }
}

static SQLITE_INSERTS: LazyLock<[String; 4]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        let values = values(rows, 1);
        format!("INSERT INTO trunkline_outbox (event_id, key, made_at, envelope) VALUES {values}")
    })
});

static POSTGRES_INSERTS: LazyLock<[String; 4]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        let values = values(rows, 2);
        // Materialized and joined: every lock is held before the first row gets its id.
        format!(
            "WITH locks AS MATERIALIZED (SELECT pg_advisory_xact_lock(lock) FROM \
             unnest(CAST(string_to_array($1, ',') AS BIGINT[])) AS lock), \
             held AS MATERIALIZED (SELECT count(*) FROM locks) \
             INSERT INTO trunkline_outbox (event_id, key, made_at, envelope) \
             SELECT rows.* FROM held, (VALUES {values}) AS rows"
        )
    })
});

/// `($1, $2, $3, $4), ...`
fn values(rows: usize, first: usize) -> String {
    let row = |n: usize| {
        let at = first + n * 4;
        format!("(${}, ${}, ${}, ${})", at, at + 1, at + 2, at + 3)
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Inserts the events of a transaction, in order, just before it commits.
pub(crate) async fn insert(
    store: &Store,
    conn: &mut AnyConnection,
    rows: &[OutboxRow],
) -> Result<()> {
    let made_at = store.now_micros();
    let (inserts, mut locks) = match store.backend() {
        Backend::Sqlite(_) => (&*SQLITE_INSERTS, None),
        Backend::Postgres(postgres) => {
            (&*POSTGRES_INSERTS, Some(key_locks(&postgres.schema, rows)))
        }
    };
    let mut left = rows;
    while !left.is_empty() {
        let fitting = CHUNKS
            .iter()
            .zip(inserts)
            .find(|(size, _)| **size <= left.len());
        let Some((size, sql)) = fitting else { break };
        let (chunk, rest) = left.split_at(*size);
        let mut query = sqlx::query(sql.as_str());
        if let Some(locks) = &mut locks {
            query = query.bind(std::mem::take(locks));
        }
        for row in chunk {
            query = query
                .bind(text::write(&row.event_id).into_owned())
                .bind(text::write(&row.key).into_owned())
                .bind(made_at)
                .bind(row.envelope.as_slice());
        }
        let inserted = query.execute(&mut *conn).await.map_err(sql_error)?;
        if let Some(id) = inserted.last_insert_id() {
            store.outbox().note_id(id);
        }
        left = rest;
    }
    Ok(())
}

/// The locks of these rows' keys, in the one order in which everybody takes them.
fn key_locks(schema: &str, rows: &[OutboxRow]) -> String {
    let base = lock_number(&["outbox", schema]) & !(KEY_LOCKS - 1);
    let mut locks: Vec<i64> = rows
        .iter()
        .map(|row| base | (lock_number(&[&row.key]) & (KEY_LOCKS - 1)))
        .collect();
    locks.sort_unstable();
    locks.dedup();
    locks
        .iter()
        .map(i64::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// The number of an advisory lock: the same in every process and version, whatever its parts.
pub(crate) fn lock_number(parts: &[&str]) -> i64 {
    let mut hash = Sha256::new_with_prefix("trunkline");
    for part in parts {
        hash.update([0]);
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(8)
        .fold(0, |number: i64, byte| (number << 8) | i64::from(*byte))
}

/// Keeps an event for later.
pub(crate) async fn schedule(
    conn: &mut AnyConnection,
    row: &OutboxRow,
    due: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO trunkline_scheduled (event_id, key, due, envelope) VALUES ($1, $2, $3, $4)",
    )
    .bind(text::write(&row.event_id).into_owned())
    .bind(text::write(&row.key).into_owned())
    .bind(due.as_microsecond())
    .bind(row.envelope.as_slice())
    .execute(conn)
    .await
    .map_err(sql_error)?;
    Ok(())
}

/// Takes back a scheduled event.
pub(crate) async fn cancel(conn: &mut AnyConnection, event_id: &str) -> Result<bool> {
    let done = sqlx::query("DELETE FROM trunkline_scheduled WHERE event_id = $1")
        .bind(text::write(event_id).into_owned())
        .execute(conn)
        .await
        .map_err(sql_error)?;
    Ok(done.rows_affected() > 0)
}

/// When the next scheduled event is due.
pub(crate) async fn next_due(conn: &mut AnyConnection) -> Result<Option<Timestamp>> {
    let row = sqlx::query("SELECT due FROM trunkline_scheduled ORDER BY due LIMIT 1")
        .fetch_optional(conn)
        .await
        .map_err(sql_error)?;
    let due: Option<i64> = row
        .map(|row| row.try_get(0))
        .transpose()
        .map_err(sql_error)?;
    Ok(due.map(|due| Timestamp::from_microsecond(due).unwrap_or(Timestamp::MAX)))
}

/// Publishes the scheduled events that are due, at most `limit`. Says how many.
pub(crate) async fn release_due(store: &Store, limit: i64) -> Result<usize> {
    let mut tx = store.begin_relay().await?;
    let rows = sqlx::query(
        "SELECT id, event_id, key, due, envelope FROM trunkline_scheduled WHERE due <= $1 \
         ORDER BY due, id LIMIT $2",
    )
    .bind(store.now_micros())
    .bind(limit)
    .fetch_all(tx.conn())
    .await
    .map_err(sql_error)?;
    let rows: Vec<OutboxRow> = rows
        .iter()
        .map(OutboxRow::read)
        .collect::<Result<_, _>>()
        .map_err(sql_error)?;
    // Whoever removes a row publishes it: one that was cancelled meanwhile, or that another relay
    // has released, is not there to remove.
    let mut released = Vec::with_capacity(rows.len());
    for row in rows {
        let removed = sqlx::query("DELETE FROM trunkline_scheduled WHERE id = $1")
            .bind(row.id)
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        if removed.rows_affected() > 0 {
            released.push(row);
        }
    }
    insert(store, tx.conn(), &released).await?;
    tx.commit().await?;
    Ok(released.len())
}

/// What there is to send, oldest first, without the rows named in `but`.
pub(crate) async fn pending(
    engine: Engine,
    conn: &mut AnyConnection,
    but: &str,
    limit: i64,
) -> Result<Vec<OutboxRow>> {
    let sql = match engine {
        Engine::Sqlite => {
            "SELECT id, event_id, key, made_at, envelope FROM trunkline_outbox \
             WHERE id NOT IN (SELECT value FROM json_each('[' || $1 || ']')) ORDER BY id LIMIT $2"
        }
        Engine::Postgres => {
            "SELECT id, event_id, key, made_at, envelope FROM trunkline_outbox \
             WHERE id <> ALL (CAST(string_to_array($1, ',') AS BIGINT[])) ORDER BY id LIMIT $2"
        }
    };
    let rows = sqlx::query(sql)
        .bind(but)
        .bind(limit)
        .fetch_all(conn)
        .await
        .map_err(sql_error)?;
    rows.iter()
        .map(OutboxRow::read)
        .collect::<Result<_, _>>()
        .map_err(sql_error)
}

/// Removes rows of one of the outbox's tables. Says how many were there.
pub(crate) async fn remove(
    engine: Engine,
    conn: &mut AnyConnection,
    held: bool,
    ids: &str,
) -> Result<u64> {
    let sql = match (engine, held) {
        (Engine::Sqlite, false) => {
            "DELETE FROM trunkline_outbox \
             WHERE id IN (SELECT value FROM json_each('[' || $1 || ']'))"
        }
        (Engine::Sqlite, true) => {
            "DELETE FROM trunkline_held \
             WHERE id IN (SELECT value FROM json_each('[' || $1 || ']'))"
        }
        (Engine::Postgres, false) => {
            "DELETE FROM trunkline_outbox \
             WHERE id = ANY (CAST(string_to_array($1, ',') AS BIGINT[]))"
        }
        (Engine::Postgres, true) => {
            "DELETE FROM trunkline_held \
             WHERE id = ANY (CAST(string_to_array($1, ',') AS BIGINT[]))"
        }
    };
    let done = sqlx::query(sql)
        .bind(ids)
        .execute(conn)
        .await
        .map_err(sql_error)?;
    Ok(done.rows_affected())
}

/// `1,2,3`
pub(crate) fn id_list(ids: impl IntoIterator<Item = i64>) -> String {
    ids.into_iter()
        .map(|id| id.to_string())
        .collect::<Vec<_>>()
        .join(",")
}
