//! The one order of all events of a kind.
//!
//! # Guarantees
//! A number that is taken at the insert may be committed after a higher one, and a reader that goes by it would pass over
//! the event for ever. So an event has no position until its commit is seen: then whoever wants to read on gives
//! positions to all that have none, under a lock, without gaps. What is committed later gets a later one, however
//! long its transaction took. Within a stream positions rise with versions: an event's row is made after the
//! commit of the one before it is visible, so its id is higher, and it is never seen without it.

use sqlx::{AnyConnection, Row};
use trunkline_core::Result;

use crate::Store;
use crate::error::sql_error;

/// Events that get their positions in one transaction.
pub(super) const PLACED_MAX: u64 = 1_000;

const ANY_FRESH: &str =
    "SELECT id FROM trunkline_event WHERE kind = $1 AND position IS NULL LIMIT 1";

const DECLARE: &str = "INSERT INTO trunkline_event_kind (kind, position) VALUES ($1, 0) \
    ON CONFLICT (kind) DO NOTHING";

const LOCK: &str =
    "UPDATE trunkline_event_kind SET position = position WHERE kind = $1 RETURNING position";

const PLACE: &str = "UPDATE trunkline_event SET position = fresh.place + $1 FROM \
    (SELECT id, row_number() OVER (ORDER BY id) AS place FROM \
      (SELECT id FROM trunkline_event WHERE kind = $2 AND position IS NULL ORDER BY id LIMIT $3) \
      AS oldest) AS fresh \
    WHERE trunkline_event.id = fresh.id";

const COUNT: &str = "UPDATE trunkline_event_kind SET position = $1 WHERE kind = $2";

/// Gives positions to what is committed and has none, the oldest first, at most 1,000. Says how many.
pub(super) async fn place(store: &Store, kind: &str) -> Result<u64> {
    // Mostly there is nothing to do, and no writer has to be asked for that.
    let mut reader = store.read().await?;
    let fresh = sqlx::query(ANY_FRESH)
        .bind(kind)
        .fetch_optional(reader.conn());
    if fresh.await.map_err(sql_error)?.is_none() {
        return Ok(0);
    }
    drop(reader);
    // Should it be lost with the machine, so is all that was made of it, which comes later.
    let mut tx = store.begin_relaxed().await?;
    let before = lock(tx.conn(), kind).await?;
    let placed = sqlx::query(PLACE)
        .bind(before)
        .bind(kind)
        .bind(super::number(PLACED_MAX))
        .execute(tx.conn())
        .await
        .map_err(sql_error)?
        .rows_affected();
    sqlx::query(COUNT)
        .bind(before.saturating_add(super::number(placed)))
        .bind(kind)
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    tx.commit().await?;
    Ok(placed)
}

/// The last position that was given; nobody else gives any until the transaction ends.
async fn lock(conn: &mut AnyConnection, kind: &str) -> Result<i64> {
    sqlx::query(DECLARE)
        .bind(kind)
        .execute(&mut *conn)
        .await
        .map_err(sql_error)?;
    let row = sqlx::query(LOCK)
        .bind(kind)
        .fetch_one(conn)
        .await
        .map_err(sql_error)?;
    row.try_get(0).map_err(sql_error)
}
