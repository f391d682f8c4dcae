//! The trail: an index of every event of the platform.

use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use trunkline_core::{Envelope, Result};

use crate::error::{corrupt, sql_error};
use crate::jobs::timestamp;
use crate::store::Backend;
use crate::{Store, Tx, migrate, tables, text};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// Events dropped in one transaction.
const PRUNE_STEP: i64 = 500;

const APPEND: &str = "INSERT INTO trunkline_trail (event_id, source, event_type, correlation_id, \
    happened_at, recorded_at, envelope, business_keys) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
    ON CONFLICT (event_id, source) DO NOTHING RETURNING position";

const APPEND_KEY: &str = "INSERT INTO trunkline_trail_key (business_key, position) \
    VALUES ($1, $2) ON CONFLICT (business_key, position) DO NOTHING";

const COLUMNS: &str = "SELECT position, recorded_at, envelope, business_keys FROM trunkline_trail";

/// The index of events, in the platform's own store.
#[derive(Debug, Clone)]
pub struct Trail {
    store: Store,
}

/// One event of the trail.
#[derive(Debug, Clone, PartialEq)]
pub struct TrailEntry {
    /// Its place in the trail: the cursor for [`EventQuery::after`]. Ignored by [`Trail::append`].
    pub position: u64,
    /// When it was recorded. Ignored by [`Trail::append`].
    pub recorded_at: Timestamp,
    /// The event.
    pub envelope: Envelope,
    /// The business keys that flows find in it, such as an order's id.
    pub business_keys: Vec<ByteString>,
}

/// Which events: those that match all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// With this id.
    pub id: Option<ByteString>,
    /// Of this flow.
    pub correlation_id: Option<ByteString>,
    /// Of this type.
    pub event_type: Option<ByteString>,
    /// With this business key.
    pub business_key: Option<ByteString>,
    /// That happened at or after this time.
    pub since: Option<Timestamp>,
    /// Only those after this position, or before it with `newest_first`.
    pub after: Option<u64>,
    /// The newest first.
    pub newest_first: bool,
    /// At most this many; 0 means 100. At most 1,000.
    pub limit: usize,
}

/// A value in a query.
enum Bound<'a> {
    Text(&'a str),
    Number(i64),
}

impl Trail {
    /// Opens the trail in `store`, making its tables.
    ///
    /// # Errors
    /// As [`Store::migrate`].
    pub async fn open(store: Store) -> Result<Self> {
        migrate::apply(&store, &tables::trail_migrations(store.engine())).await?;
        Ok(Self { store })
    }

    /// Records a batch, in order; an event that is there already (same source and id) is left as it
    /// is.
    ///
    /// # Guarantees
    /// Durable when it returns. Positions are in the order in which entries appear, so a reader that
    /// goes on from the last one it saw misses none.
    ///
    /// # Errors
    /// As any transaction.
    pub async fn append(&self, entries: &[TrailEntry]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        if let Backend::Postgres(postgres) = self.store.backend() {
            // One appends at a time, or a position could appear after a higher one.
            sqlx::query("SELECT pg_advisory_xact_lock($1)")
                .bind(crate::outbox::lock_number(&["trail", &postgres.schema]))
                .execute(tx.conn())
                .await
                .map_err(sql_error)?;
        }
        for entry in entries {
            self.append_one(&mut tx, entry).await?;
        }
        tx.commit().await
    }

    async fn append_one(&self, tx: &mut Tx, entry: &TrailEntry) -> Result<()> {
        let event = &entry.envelope;
        let mut bytes = Vec::with_capacity(256 + event.data.len());
        event.encode(&mut bytes);
        let keys: Vec<&str> = entry
            .business_keys
            .iter()
            .map(|key| key.as_ref() as &str)
            .collect();
        let keys = serde_json::to_string(&keys).map_err(|_| corrupt("business keys are texts"))?;
        let row = sqlx::query(APPEND)
            .bind(text::write(&event.id).into_owned())
            .bind(text::write(&event.source).into_owned())
            .bind(text::write(&event.event_type).into_owned())
            .bind(text::write(&event.correlation_id).into_owned())
            .bind(event.time.as_microsecond())
            .bind(self.store.now_micros())
            .bind(bytes)
            .bind(keys)
            .fetch_optional(tx.conn())
            .await
            .map_err(sql_error)?;
        let Some(row) = row else { return Ok(()) };
        let position: i64 = row.try_get(0).map_err(sql_error)?;
        for key in &entry.business_keys {
            sqlx::query(APPEND_KEY)
                .bind(text::write(key).into_owned())
                .bind(position)
                .execute(tx.conn())
                .await
                .map_err(sql_error)?;
        }
        Ok(())
    }

    /// Events that match, in the order of recording.
    ///
    /// # Errors
    /// As [`Store::read`]; `Corrupt` for an entry that can't be read.
    pub async fn query(&self, query: &EventQuery) -> Result<Vec<TrailEntry>> {
        let (sql, bounds) = query.sql();
        let mut select = sqlx::query(AssertSqlSafe(sql));
        for bound in bounds {
            select = match bound {
                Bound::Text(value) => select.bind(text::write(value).into_owned()),
                Bound::Number(number) => select.bind(number),
            };
        }
        let mut reader = self.store.read().await?;
        let rows = select.fetch_all(reader.conn()).await.map_err(sql_error)?;
        rows.iter().map(entry).collect()
    }

    /// Drops what was recorded more than `age_max` ago and what is beyond the newest `count_max`
    /// events, in steps of 500, so that nobody waits for long. Says how many.
    ///
    /// # Errors
    /// As any transaction; what was dropped by then stays dropped.
    pub async fn prune(&self, age_max: Duration, count_max: u64) -> Result<u64> {
        let age = i64::try_from(age_max.as_micros()).unwrap_or(i64::MAX);
        let oldest = self.store.now_micros().saturating_sub(age);
        let beyond = self.beyond(count_max).await?;
        let mut dropped = 0;
        loop {
            let mut tx = self.store.begin_relaxed().await?;
            let step = prune_step(tx.conn(), oldest, beyond).await?;
            tx.commit().await?;
            dropped += step;
            if step < PRUNE_STEP.unsigned_abs() {
                return Ok(dropped);
            }
        }
    }

    /// The newest position beyond the newest `count` events; zero when there are no more.
    async fn beyond(&self, count: u64) -> Result<i64> {
        let mut reader = self.store.read().await?;
        let row = sqlx::query(
            "SELECT position FROM trunkline_trail ORDER BY position DESC LIMIT 1 OFFSET $1",
        )
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .fetch_optional(reader.conn())
        .await
        .map_err(sql_error)?;
        row.map_or(Ok(0), |row| row.try_get(0).map_err(sql_error))
    }
}

async fn prune_step(conn: &mut AnyConnection, oldest: i64, beyond: i64) -> Result<u64> {
    // The order of recording is nearly that of time, so the oldest are the first.
    let last = sqlx::query(
        "SELECT position FROM (SELECT position, recorded_at FROM trunkline_trail \
         ORDER BY position LIMIT $1) AS first WHERE position <= $2 OR recorded_at < $3 \
         ORDER BY position DESC LIMIT 1",
    )
    .bind(PRUNE_STEP)
    .bind(beyond)
    .bind(oldest)
    .fetch_optional(&mut *conn)
    .await
    .map_err(sql_error)?;
    let Some(last) = last else { return Ok(0) };
    let last: i64 = last.try_get(0).map_err(sql_error)?;
    sqlx::query("DELETE FROM trunkline_trail_key WHERE position <= $1")
        .bind(last)
        .execute(&mut *conn)
        .await
        .map_err(sql_error)?;
    let done = sqlx::query("DELETE FROM trunkline_trail WHERE position <= $1")
        .bind(last)
        .execute(conn)
        .await
        .map_err(sql_error)?;
    Ok(done.rows_affected())
}

impl EventQuery {
    fn sql(&self) -> (String, Vec<Bound<'_>>) {
        let texts = [
            ("event_id = ", &self.id),
            ("correlation_id = ", &self.correlation_id),
            ("event_type = ", &self.event_type),
        ];
        let mut wheres = Vec::new();
        let mut bounds = Vec::new();
        for (column, value) in texts {
            if let Some(value) = value {
                bounds.push(Bound::Text(value));
                wheres.push(format!("{column}${}", bounds.len()));
            }
        }
        if let Some(key) = &self.business_key {
            bounds.push(Bound::Text(key));
            wheres.push(format!(
                "position IN (SELECT position FROM trunkline_trail_key WHERE business_key = ${})",
                bounds.len()
            ));
        }
        if let Some(since) = self.since {
            bounds.push(Bound::Number(since.as_microsecond()));
            wheres.push(format!("happened_at >= ${}", bounds.len()));
        }
        if let Some(after) = self.after {
            bounds.push(Bound::Number(i64::try_from(after).unwrap_or(i64::MAX)));
            let beyond = if self.newest_first { "<" } else { ">" };
            wheres.push(format!("position {beyond} ${}", bounds.len()));
        }
        let wheres = if wheres.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", wheres.join(" AND "))
        };
        let order = if self.newest_first { " DESC" } else { "" };
        let limit = if self.limit == 0 {
            LIMIT_DEFAULT
        } else {
            self.limit.min(LIMIT_MAX)
        };
        (
            format!("{COLUMNS}{wheres} ORDER BY position{order} LIMIT {limit}"),
            bounds,
        )
    }
}

fn entry(row: &AnyRow) -> Result<TrailEntry> {
    let position: i64 = row.try_get(0).map_err(sql_error)?;
    let envelope: Vec<u8> = row.try_get(2).map_err(sql_error)?;
    let keys: String = row.try_get(3).map_err(sql_error)?;
    let keys: Vec<String> = serde_json::from_str(&keys).map_err(|error| {
        corrupt("the business keys of an event can't be read").with_source(error)
    })?;
    Ok(TrailEntry {
        position: u64::try_from(position).unwrap_or(0),
        recorded_at: timestamp(row, 1).map_err(sql_error)?,
        envelope: Envelope::decode(envelope.into())?,
        business_keys: keys.into_iter().map(ByteString::from).collect(),
    })
}
