//! The inbox: which events a consumer has handled, for as long as the window says.

use sqlx::AnyConnection;
use trunkline_core::Result;

use crate::error::sql_error;
use crate::{Engine, Store, text};

/// Every so many first times, old rows are removed; a power of two.
const PRUNE_EVERY: u64 = 64;

const INSERT: &str = "INSERT INTO trunkline_inbox (consumer, event_id, seen_at) \
    VALUES ($1, $2, $3) ON CONFLICT (consumer, event_id) DO NOTHING";

const SEEN: &str = "SELECT seen_at FROM trunkline_inbox WHERE consumer = $1 AND event_id = $2";

// At most four times as many as came since the last time, so that it always catches up.
const PRUNE_SQLITE: &str = "DELETE FROM trunkline_inbox WHERE (consumer, event_id) IN \
    (SELECT consumer, event_id FROM trunkline_inbox WHERE seen_at < $1 ORDER BY seen_at LIMIT 256)";

// Rows that another transaction is removing are left to it, so that none waits for the other.
const PRUNE_POSTGRES: &str = "DELETE FROM trunkline_inbox WHERE (consumer, event_id) IN \
    (SELECT consumer, event_id FROM trunkline_inbox WHERE seen_at < $1 ORDER BY seen_at LIMIT 256 \
     FOR UPDATE SKIP LOCKED)";

pub(crate) async fn first_time(
    store: &Store,
    conn: &mut AnyConnection,
    consumer: &str,
    event_id: &str,
) -> Result<bool> {
    let now = store.now_micros();
    let inserted = sqlx::query(INSERT)
        .bind(consumer)
        .bind(text::write(event_id).into_owned())
        .bind(now)
        .execute(&mut *conn)
        .await
        .map_err(sql_error)?
        .rows_affected();
    if inserted > 0 && store.inbox_turn().is_multiple_of(PRUNE_EVERY) {
        let window = i64::try_from(store.config().inbox_window.as_micros()).unwrap_or(i64::MAX);
        let sql = match store.engine() {
            Engine::Sqlite => PRUNE_SQLITE,
            Engine::Postgres => PRUNE_POSTGRES,
        };
        sqlx::query(sql)
            .bind(now.saturating_sub(window))
            .execute(conn)
            .await
            .map_err(sql_error)?;
    }
    Ok(inserted > 0)
}

pub(crate) async fn seen(store: &Store, consumer: &str, event_id: &str) -> Result<bool> {
    let mut reader = store.read().await?;
    let row = sqlx::query(SEEN)
        .bind(consumer)
        .bind(text::write(event_id).into_owned())
        .fetch_optional(reader.conn())
        .await
        .map_err(sql_error)?;
    // Who has seen an event acknowledges it.
    store.settled().await?;
    Ok(row.is_some())
}
