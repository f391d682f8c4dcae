//! Dead letters in SQL.

use bytes::Bytes;
use bytestring::ByteString;
use futures::future::BoxFuture;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use trunkline_bus::{DeadLetter, DeadLetterQuery, ParkingLot};
use trunkline_core::{Envelope, Error, Result};

use crate::error::sql_error;
use crate::jobs::{optional_timestamp, timestamp};
use crate::store::Backend;
use crate::{Store, Tx, text};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

// The same (group, event) keeps one letter: the one that is there.
const PARK: &str = "INSERT INTO trunkline_dead_letter \
    (id, consumer, key, event_id, event_type, envelope, original, error, code, attempts, replays, \
    parked_at, failed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
    ON CONFLICT (consumer, event_id) DO NOTHING";

const UPDATE: &str = "UPDATE trunkline_dead_letter SET event_type = $1, envelope = $2, \
    original = $3, error = $4, code = $5, attempts = $6, replays = $7, failed_at = $8 \
    WHERE id = $9";

const KEYS: &str =
    "SELECT DISTINCT key FROM trunkline_dead_letter WHERE consumer = $1 ORDER BY key";

const COLUMNS: &str = "SELECT id, consumer, key, envelope, original, error, code, attempts, \
    replays, parked_at, failed_at FROM trunkline_dead_letter";

// A cursor whose letter is gone stands where its id says: ids are in the order of parking, except
// within a millisecond.
const AFTER: &str = "seq > COALESCE((SELECT seq FROM trunkline_dead_letter WHERE id = $A), \
    (SELECT MIN(seq) - 1 FROM trunkline_dead_letter WHERE id > $A), \
    (SELECT MAX(seq) FROM trunkline_dead_letter))";

/// Dead letters in the service's own store.
///
/// Their order is that of `seq`. On PostgreSQL those who park for one group take turns, so that the
/// order of `seq` is the order in which letters appear.
#[derive(Debug)]
pub(crate) struct SqlParkingLot {
    store: Store,
}

impl SqlParkingLot {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    async fn park_all(&self, letters: &[DeadLetter]) -> Result<()> {
        let mut tx = self.store.begin().await?;
        self.take_turns(&mut tx, letters).await?;
        for letter in letters {
            let mut envelope = Vec::with_capacity(256 + letter.envelope.data.len());
            letter.envelope.encode(&mut envelope);
            sqlx::query(PARK)
                .bind(text::write(&letter.id).into_owned())
                .bind(text::write(&letter.group).into_owned())
                .bind(text::write(&letter.key).into_owned())
                .bind(text::write(&letter.envelope.id).into_owned())
                .bind(text::write(&letter.envelope.event_type).into_owned())
                .bind(envelope)
                .bind(letter.original.as_deref())
                .bind(
                    letter
                        .error
                        .as_deref()
                        .map(|text| text::write(text).into_owned()),
                )
                .bind(letter.code.as_deref())
                .bind(i64::from(letter.attempts))
                .bind(i64::from(letter.replays))
                .bind(letter.parked_at.as_microsecond())
                .bind(letter.failed_at.map(|at| at.as_microsecond()))
                .execute(tx.conn())
                .await
                .map_err(sql_error)?;
        }
        tx.commit().await
    }

    async fn take_turns(&self, tx: &mut Tx, letters: &[DeadLetter]) -> Result<()> {
        let Backend::Postgres(postgres) = self.store.backend() else {
            return Ok(());
        };
        let mut locks: Vec<i64> = letters
            .iter()
            .map(|letter| crate::outbox::lock_number(&["parking", &postgres.schema, &letter.group]))
            .collect();
        locks.sort_unstable();
        locks.dedup();
        for lock in locks {
            sqlx::query("SELECT pg_advisory_xact_lock($1)")
                .bind(lock)
                .execute(tx.conn())
                .await
                .map_err(sql_error)?;
        }
        Ok(())
    }

    async fn keys(&self, group: &str) -> Result<Vec<ByteString>> {
        let mut reader = self.store.read().await?;
        let rows = sqlx::query(KEYS)
            .bind(group)
            .fetch_all(reader.conn())
            .await
            .map_err(sql_error)?;
        rows.iter()
            .map(|row| row.try_get(0).map(text::read))
            .collect::<Result<_, _>>()
            .map_err(sql_error)
    }

    async fn find(&self, query: &DeadLetterQuery) -> Result<Vec<DeadLetter>> {
        let limit = if query.limit == 0 {
            LIMIT_DEFAULT
        } else {
            query.limit.min(LIMIT_MAX)
        };
        let filters = [
            ("consumer = $A", &query.group),
            ("key = $A", &query.key),
            ("event_type = $A", &query.event_type),
            ("id = $A", &query.id),
            (AFTER, &query.after),
        ];
        let given: Vec<_> = filters
            .iter()
            .filter_map(|(sql, value)| value.as_ref().map(|v| (*sql, v)))
            .collect();
        let wheres: Vec<String> = given
            .iter()
            .enumerate()
            .map(|(n, (sql, _))| sql.replace("$A", &format!("${}", n + 1)))
            .collect();
        let wheres = if wheres.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", wheres.join(" AND "))
        };
        let sql = format!("{COLUMNS}{wheres} ORDER BY seq LIMIT {limit}");
        let mut select = sqlx::query(AssertSqlSafe(sql));
        for (_, value) in given {
            select = select.bind(text::write(value).into_owned());
        }
        let mut reader = self.store.read().await?;
        let rows = select.fetch_all(reader.conn()).await.map_err(sql_error)?;
        rows.iter().map(letter).collect()
    }

    async fn replace(&self, letter: &DeadLetter) -> Result<()> {
        let mut envelope = Vec::new();
        letter.envelope.encode(&mut envelope);
        let mut tx = self.store.begin().await?;
        let done = sqlx::query(UPDATE)
            .bind(text::write(&letter.envelope.event_type).into_owned())
            .bind(envelope)
            .bind(letter.original.as_deref())
            .bind(
                letter
                    .error
                    .as_deref()
                    .map(|text| text::write(text).into_owned()),
            )
            .bind(letter.code.as_deref())
            .bind(i64::from(letter.attempts))
            .bind(i64::from(letter.replays))
            .bind(letter.failed_at.map(|at| at.as_microsecond()))
            .bind(text::write(&letter.id).into_owned())
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        found(done.rows_affected(), &letter.id)?;
        tx.commit().await
    }

    async fn delete(&self, id: &str) -> Result<()> {
        let mut tx = self.store.begin().await?;
        let done = sqlx::query("DELETE FROM trunkline_dead_letter WHERE id = $1")
            .bind(id)
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        found(done.rows_affected(), id)?;
        tx.commit().await
    }
}

impl ParkingLot for SqlParkingLot {
    fn park<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.park_all(letters))
    }

    fn parked_keys<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<Vec<ByteString>>> {
        Box::pin(self.keys(group))
    }

    fn list<'a>(&'a self, query: &'a DeadLetterQuery) -> BoxFuture<'a, Result<Vec<DeadLetter>>> {
        Box::pin(self.find(query))
    }

    fn update<'a>(&'a self, letter: &'a DeadLetter) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.replace(letter))
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.delete(id))
    }
}

fn found(rows: u64, id: &str) -> Result<()> {
    if rows > 0 {
        return Ok(());
    }
    Err(Error::not_found("dead_letter_missing", "no dead letter has this id").with("id", id))
}

fn letter(row: &AnyRow) -> Result<DeadLetter> {
    let envelope: Vec<u8> = row.try_get(3).map_err(sql_error)?;
    let envelope = Envelope::decode(envelope.into())?;
    let read = || -> Result<DeadLetter, sqlx::Error> {
        let name = |at: usize| row.try_get(at).map(text::read);
        let count = |at: usize| {
            row.try_get::<i64, _>(at)
                .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
        };
        Ok(DeadLetter {
            id: name(0)?,
            group: name(1)?,
            key: name(2)?,
            envelope,
            original: row.try_get::<Option<Vec<u8>>, _>(4)?.map(Bytes::from),
            error: row
                .try_get::<Option<String>, _>(5)?
                .map(|error| text::read(error).to_string()),
            code: row.try_get(6)?,
            attempts: count(7)?,
            replays: count(8)?,
            parked_at: timestamp(row, 9)?,
            failed_at: optional_timestamp(row, 10)?,
        })
    };
    read().map_err(sql_error)
}
