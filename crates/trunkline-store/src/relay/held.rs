//! Events that can't be sent as they are, and those behind them.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;
use trunkline_core::{ByteString, Result};

use super::{RelayStatus, StuckEvent};
use crate::Store;
use crate::error::sql_error;
use crate::outbox::{self, OutboxRow};
use crate::text;

const COUNTS: &str = "SELECT (SELECT COUNT(*) FROM trunkline_outbox), \
    (SELECT COUNT(*) FROM trunkline_scheduled), \
    (SELECT COUNT(*) FROM trunkline_held WHERE error IS NOT NULL), \
    (SELECT COUNT(*) FROM trunkline_held WHERE error IS NULL), \
    (SELECT made_at FROM trunkline_outbox ORDER BY id LIMIT 1)";

const STUCK: &str = "SELECT id, event_id, key, made_at, envelope, error, stuck_at, \
    (SELECT COUNT(*) FROM trunkline_held AS behind WHERE behind.key = trunkline_held.key \
     AND behind.id > trunkline_held.id) \
    FROM trunkline_held WHERE error IS NOT NULL ORDER BY id LIMIT $1";

const FREE: &str = "SELECT id, event_id, key, made_at, envelope FROM trunkline_held \
    WHERE NOT EXISTS (SELECT 1 FROM trunkline_held AS ahead WHERE ahead.key = trunkline_held.key \
    AND ahead.id <= trunkline_held.id AND ahead.error IS NOT NULL) ORDER BY id LIMIT $1";

const HOLD: &str = "INSERT INTO trunkline_held \
    (event_id, key, made_at, envelope, error, stuck_at) VALUES ($1, $2, $3, $4, $5, $6)";

/// How many there are of each sort.
pub(super) async fn counts(store: &Store) -> Result<RelayStatus> {
    let mut reader = store.read().await?;
    let row = sqlx::query(COUNTS)
        .fetch_one(reader.conn())
        .await
        .map_err(sql_error)?;
    let count = |at: usize| -> Result<u64> {
        let count: i64 = row.try_get(at).map_err(sql_error)?;
        Ok(u64::try_from(count).unwrap_or(0))
    };
    let oldest: Option<i64> = row.try_get(4).map_err(sql_error)?;
    let lag = oldest.map_or(0, |oldest| store.now_micros().saturating_sub(oldest));
    Ok(RelayStatus {
        pending: count(0)?,
        scheduled: count(1)?,
        stuck: count(2)?,
        held: count(3)?,
        lag: Duration::from_micros(u64::try_from(lag).unwrap_or(0)),
        ..RelayStatus::default()
    })
}

/// The stuck ones, oldest first.
pub(super) async fn stuck(store: &Store, limit: usize) -> Result<Vec<StuckEvent>> {
    let mut reader = store.read().await?;
    let rows = sqlx::query(STUCK)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(reader.conn())
        .await
        .map_err(sql_error)?;
    rows.iter()
        .map(stuck_event)
        .collect::<Result<_, _>>()
        .map_err(sql_error)
}

fn stuck_event(row: &AnyRow) -> Result<StuckEvent, sqlx::Error> {
    let event = OutboxRow::read(row)?;
    Ok(StuckEvent {
        envelope: event.decode().ok(),
        event_id: event.event_id,
        key: event.key,
        error: row.try_get(5)?,
        stuck_at: Timestamp::from_microsecond(row.try_get(6)?).unwrap_or(Timestamp::MIN),
        held: u64::try_from(row.try_get::<i64, _>(7)?).unwrap_or(0),
    })
}

/// The keys that have held events.
pub(super) async fn keys(conn: &mut sqlx::AnyConnection) -> Result<HashSet<ByteString>> {
    let rows = sqlx::query("SELECT DISTINCT key FROM trunkline_held")
        .fetch_all(conn)
        .await
        .map_err(sql_error)?;
    rows.iter()
        .map(|row| row.try_get(0).map(text::read))
        .collect::<Result<_, _>>()
        .map_err(sql_error)
}

/// Held events with no stuck one before them in their key, in order.
pub(super) async fn free(conn: &mut sqlx::AnyConnection, limit: i64) -> Result<Vec<OutboxRow>> {
    let rows = sqlx::query(FREE)
        .bind(limit)
        .fetch_all(conn)
        .await
        .map_err(sql_error)?;
    rows.iter()
        .map(OutboxRow::read)
        .collect::<Result<_, _>>()
        .map_err(sql_error)
}

/// Tells the metrics how many are stuck.
pub(super) async fn measure(store: &Store, conn: &mut sqlx::AnyConnection) -> Result<()> {
    let row = sqlx::query("SELECT COUNT(*) FROM trunkline_held WHERE error IS NOT NULL")
        .fetch_one(conn)
        .await
        .map_err(sql_error)?;
    let stuck: i64 = row.try_get(0).map_err(sql_error)?;
    let stuck = u32::try_from(stuck).unwrap_or(u32::MAX);
    metrics::gauge!("trunkline_outbox_stuck", "service" => store.service().to_string())
        .set(f64::from(stuck));
    Ok(())
}

/// Sets an event aside, with its reason.
pub(super) async fn set_aside(store: &Store, row: &OutboxRow, held: bool, why: &str) -> Result<()> {
    let mut tx = store.begin_relay().await?;
    if held {
        sqlx::query("UPDATE trunkline_held SET error = $1, stuck_at = $2 WHERE id = $3")
            .bind(why)
            .bind(store.now_micros())
            .bind(row.id)
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
    } else {
        divert(store, &mut tx, row, Some(why)).await?;
    }
    tx.commit().await
}

/// Puts events behind the stuck one of their key, in order.
pub(super) async fn hold(store: &Store, rows: &[OutboxRow]) -> Result<()> {
    let mut tx = store.begin_relay().await?;
    for row in rows {
        divert(store, &mut tx, row, None).await?;
    }
    tx.commit().await
}

async fn divert(
    store: &Store,
    tx: &mut crate::Tx,
    row: &OutboxRow,
    why: Option<&str>,
) -> Result<()> {
    // Whoever removes the row holds it: with two relays at once, one of them.
    let ids = row.id.to_string();
    if outbox::remove(store.engine(), tx.conn(), false, &ids).await? == 0 {
        return Ok(());
    }
    sqlx::query(HOLD)
        .bind(text::write(&row.event_id).into_owned())
        .bind(text::write(&row.key).into_owned())
        .bind(row.made_at)
        .bind(row.envelope.as_slice())
        .bind(why)
        .bind(why.map(|_| store.now_micros()))
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(())
}
