//! Dead letters in SQL.

mod news;
mod recovery;
mod reserve;

use std::collections::HashSet;

use bytes::Bytes;
use bytestring::ByteString;
use futures::future::BoxFuture;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use trunkline_bus::{Change, Changes, DeadLetter, DeadLetterQuery, ParkingLot, Reservation};
use trunkline_core::{Envelope, Error, Result, Retry};

use crate::error::sql_error;
use crate::jobs::{optional_timestamp, timestamp};
use crate::store::Backend;
use crate::{Alert, Engine, Store, Tx, text};

pub(crate) use self::news::News;
pub use self::recovery::Recoveries;
pub(crate) use self::recovery::decide;
pub(crate) use self::reserve::reserve;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

// The same (group, event) keeps one letter: the one that is there.
const PARK: &str = "INSERT INTO trunkline_dead_letter \
    (id, consumer, key, event_id, event_type, envelope, original, error, code, attempts, replays, \
    parked_at, failed_at, retry) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
    ON CONFLICT (consumer, event_id) DO NOTHING";

const UPDATE: &str = "UPDATE trunkline_dead_letter SET event_type = $1, envelope = $2, \
    original = $3, error = $4, code = $5, attempts = $6, replays = $7, failed_at = $8, \
    retry = $9, decided_at = $10, retry_at = $11 WHERE id = $12 RETURNING consumer, key";

const REMOVE: &str = "DELETE FROM trunkline_dead_letter WHERE id = $1 RETURNING consumer, key";

const KEYS: &str =
    "SELECT DISTINCT key FROM trunkline_dead_letter WHERE consumer = $1 ORDER BY key";

/// Which of the keys in a JSON array have letters.
const KEYS_AMONG_SQLITE: &str = "SELECT asked.value FROM json_each($2) AS asked WHERE EXISTS \
    (SELECT 1 FROM trunkline_dead_letter WHERE consumer = $1 AND key = asked.value)";
const KEYS_AMONG_POSTGRES: &str = "SELECT asked.key FROM \
    json_array_elements_text(CAST($2 AS JSON)) AS asked (key) WHERE EXISTS \
    (SELECT 1 FROM trunkline_dead_letter AS kept WHERE kept.consumer = $1 AND kept.key = asked.key)";

// What only waits behind a letter must not be kept when that letter goes at the same moment. SQLite has
// one writer. On PostgreSQL whoever removes a letter waits until this transaction has ended; and this
// one, finding a letter that is being removed, waits for that and looks for the next.
const HAS_LETTER_SQLITE: &str =
    "SELECT 1 FROM trunkline_dead_letter WHERE consumer = $1 AND key = $2 LIMIT 1";

/// Whether the first letter of a key has an error.
const FIRST: &str = "SELECT CAST(CASE WHEN error IS NULL THEN 0 ELSE 1 END AS BIGINT) \
    FROM trunkline_dead_letter WHERE consumer = $1 AND key = $2 ORDER BY seq LIMIT 1";
const HAS_LETTER_POSTGRES: &str = "SELECT 1 FROM trunkline_dead_letter \
    WHERE consumer = $1 AND key = $2 LIMIT 1 FOR KEY SHARE";

const COLUMNS: &str = "SELECT id, consumer, key, envelope, original, error, code, attempts, \
    replays, parked_at, failed_at, retry, recoveries, decided_at, retry_at FROM trunkline_dead_letter";

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

    async fn park_all(&self, letters: &[DeadLetter]) -> Result<Vec<ByteString>> {
        let mut tx = self.store.begin().await?;
        self.take_turns(&mut tx, letters).await?;
        let mut free: Vec<ByteString> = Vec::new();
        let mut parked: Vec<Change> = Vec::new();
        // Known to have a letter that stays until the end of this transaction.
        let mut held: HashSet<&ByteString> = HashSet::new();
        for letter in letters {
            if letter.error.is_none() && !held.contains(&letter.key) {
                if free.contains(&letter.key) {
                    continue;
                }
                if !self.has_letter(&mut tx, letter).await? {
                    free.push(letter.key.clone());
                    continue;
                }
            }
            // One that was there before may be gone any moment.
            if insert(&mut tx, letter).await? {
                if letter.error.is_some() {
                    tx.alert(|_| Alert::dead_letter(letter)).await?;
                }
                if !free.contains(&letter.key) {
                    held.insert(&letter.key);
                }
            }
            let change = Change::Parked {
                group: letter.group.clone(),
                key: letter.key.clone(),
            };
            if letter.error.is_some() && !parked.contains(&change) {
                parked.push(change);
            }
        }
        self.commit_and_tell(tx, parked).await?;
        Ok(free)
    }

    async fn has_letter(&self, tx: &mut Tx, of: &DeadLetter) -> Result<bool> {
        let sql = match self.store.engine() {
            Engine::Sqlite => HAS_LETTER_SQLITE,
            Engine::Postgres => HAS_LETTER_POSTGRES,
        };
        let row = sqlx::query(sql)
            .bind(text::write(&of.group).into_owned())
            .bind(text::write(&of.key).into_owned())
            .fetch_optional(tx.conn())
            .await
            .map_err(sql_error)?;
        Ok(row.is_some())
    }

    /// Commits, and tells the members of the groups in this process and in others.
    async fn commit_and_tell(&self, mut tx: Tx, changes: Vec<Change>) -> Result<()> {
        if let Backend::Postgres(postgres) = self.store.backend() {
            for change in &changes {
                news::notify(&mut tx, postgres, self.store.owner(), change).await?;
            }
        }
        tx.commit().await?;
        for change in changes {
            self.store.news().teller().tell(change);
        }
        Ok(())
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

    async fn keys(&self, group: &str, among: Option<&[ByteString]>) -> Result<Vec<ByteString>> {
        let mut reader = self.store.read().await?;
        let group = text::write(group).into_owned();
        let select = match among {
            None => sqlx::query(KEYS).bind(group),
            Some(keys) => {
                let sql = match self.store.engine() {
                    Engine::Sqlite => KEYS_AMONG_SQLITE,
                    Engine::Postgres => KEYS_AMONG_POSTGRES,
                };
                let keys: Vec<_> = keys.iter().map(|key| text::write(key)).collect();
                sqlx::query(sql)
                    .bind(group)
                    .bind(serde_json::json!(keys).to_string())
            }
        };
        let rows = select.fetch_all(reader.conn()).await.map_err(sql_error)?;
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
        let row = sqlx::query(UPDATE)
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
            .bind(letter.retry.map(Retry::name))
            .bind(letter.decided_at.map(|at| at.as_microsecond()))
            .bind(letter.retry_at.map(|at| at.as_microsecond()))
            .bind(text::write(&letter.id).into_owned())
            .fetch_optional(tx.conn())
            .await
            .map_err(sql_error)?;
        let row = row.ok_or_else(|| missing(&letter.id))?;
        let (group, key) = place(&row)?;
        let change = Change::Parked { group, key };
        let has_failed = letter.error.is_some();
        self.commit_and_tell(tx, has_failed.then_some(change).into_iter().collect())
            .await
    }

    async fn delete(&self, id: &str, is_handled: bool) -> Result<()> {
        let mut tx = self.store.begin().await?;
        if is_handled && self.store.config().alerts {
            tell_recovered(&mut tx, id).await?;
        }
        let row = sqlx::query(REMOVE)
            .bind(text::write(id).into_owned())
            .fetch_optional(tx.conn())
            .await
            .map_err(sql_error)?;
        let (group, key) = place(&row.ok_or_else(|| missing(id))?)?;
        let next = sqlx::query(FIRST)
            .bind(text::write(&group).into_owned())
            .bind(text::write(&key).into_owned())
            .fetch_optional(tx.conn())
            .await
            .map_err(sql_error)?;
        let has_failed = |row: AnyRow| row.try_get::<i64, _>(0).map_err(sql_error);
        let change = match next.map(has_failed).transpose()? {
            None => Some(Change::Freed { group, key }),
            // It is what the key waits for from now on.
            Some(1) => Some(Change::Parked { group, key }),
            Some(_) => None,
        };
        self.commit_and_tell(tx, change.into_iter().collect()).await
    }
}

/// Tells of a letter that was to be replayed by itself, and is about to go.
async fn tell_recovered(tx: &mut Tx, id: &str) -> Result<()> {
    let sql = format!("{COLUMNS} WHERE id = $1 AND retry_at IS NOT NULL");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(text::write(id).into_owned())
        .fetch_optional(tx.conn())
        .await
        .map_err(sql_error)?;
    match row {
        Some(row) => {
            let letter = letter(&row)?;
            tx.alert(|_| Alert::recovered(&letter)).await
        }
        None => Ok(()),
    }
}

/// Says whether it is new.
async fn insert(tx: &mut Tx, letter: &DeadLetter) -> Result<bool> {
    let mut envelope = Vec::with_capacity(256 + letter.envelope.data.len());
    letter.envelope.encode(&mut envelope);
    let done = sqlx::query(PARK)
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
        .bind(letter.retry.map(Retry::name))
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(done.rows_affected() > 0)
}

impl ParkingLot for SqlParkingLot {
    fn park<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<Vec<ByteString>>> {
        Box::pin(self.park_all(letters))
    }

    fn parked_keys<'a>(
        &'a self,
        group: &'a str,
        among: Option<&'a [ByteString]>,
    ) -> BoxFuture<'a, Result<Vec<ByteString>>> {
        Box::pin(self.keys(group, among))
    }

    fn list<'a>(&'a self, query: &'a DeadLetterQuery) -> BoxFuture<'a, Result<Vec<DeadLetter>>> {
        Box::pin(self.find(query))
    }

    fn update<'a>(&'a self, letter: &'a DeadLetter) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.replace(letter))
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.delete(id, false))
    }

    fn handled<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.delete(id, true))
    }

    fn changes(&self) -> Changes {
        self.store.news().listen(&self.store)
    }

    fn reserve<'a>(
        &'a self,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Reservation>>>> {
        Box::pin(async move { reserve(&self.store, ("letters", group)).await })
    }
}

/// The group and the key of a letter.
fn place(row: &AnyRow) -> Result<(ByteString, ByteString)> {
    let name = |at: usize| row.try_get(at).map(text::read).map_err(sql_error);
    Ok((name(0)?, name(1)?))
}

fn missing(id: &str) -> Error {
    Error::not_found("dead_letter_missing", "no dead letter has this id").with("id", id)
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
            retry: row
                .try_get::<Option<String>, _>(11)?
                .and_then(|name| Retry::named(&name)),
            recoveries: count(12)?,
            decided_at: optional_timestamp(row, 13)?,
            retry_at: optional_timestamp(row, 14)?,
        })
    };
    read().map_err(sql_error)
}
