//! A person's hand on an instance, and forgetting old ones.

use std::sync::LazyLock;

use sqlx::{AnyConnection, AssertSqlSafe};
use trunkline_core::{Result, Timestamp};
use trunkline_saga::{Mend, Write, Written};
use uuid::Uuid;

use super::bulk::{Bulk, bytes, ids};
use super::{round, tell};
use crate::error::sql_error;

/// How many instances one write forgets at most, whatever it asks for.
const PRUNE_MAX: u32 = 10_000;

const PRUNE: &str = "DELETE FROM trunkline_saga WHERE id IN (SELECT id FROM trunkline_saga \
    WHERE state IN ('completed', 'failed', 'compensated') AND changed_at < $1 \
    ORDER BY changed_at LIMIT $2) RETURNING id";

const MORE: &str = "SELECT 1 FROM trunkline_saga \
    WHERE state IN ('completed', 'failed', 'compensated') AND changed_at < $1 LIMIT 1";

static FORGET_ENTRIES: LazyLock<Bulk> = LazyLock::new(|| {
    let before = "DELETE FROM trunkline_saga_entry WHERE saga_id IN ";
    Bulk::new(before, 1, "")
});

static FORGET_MESSAGES: LazyLock<Bulk> = LazyLock::new(|| {
    let before = "DELETE FROM trunkline_saga_message WHERE saga_id IN ";
    Bulk::new(before, 1, "")
});

/// Mends or prunes; nothing when an entry's place was taken.
pub(super) async fn apply(
    conn: &mut AnyConnection,
    write: &Write,
    now: i64,
) -> Result<Option<Written>> {
    match write {
        Write::Mend(one) => mend(conn, one, now).await,
        Write::Prune(before, max) => prune(conn, *before, *max).await.map(Some),
        _ => Ok(Some(Written::Lost)),
    }
}

async fn mend(conn: &mut AnyConnection, mend: &Mend, now: i64) -> Result<Option<Written>> {
    let Some((id, _)) = tell::find(conn, &mend.which).await? else {
        return Ok(Some(Written::NotFound));
    };
    if mend.from.is_empty() {
        return Ok(Some(Written::Lost));
    }
    let names: Vec<String> = mend.from.iter().map(|state| format!("'{state}'")).collect();
    let sql = format!(
        "UPDATE trunkline_saga SET state = $2, version = COALESCE($4, version), error = NULL, \
         output = NULL, wake_at = $3, changed_at = $3 WHERE id = $1 AND owner IS NULL AND state IN ({})",
        names.join(", ")
    );
    let mended = sqlx::query(AssertSqlSafe(sql))
        .bind(bytes(id))
        .bind(mend.to.name())
        .bind(now)
        .bind(mend.version.map(i64::from))
        .execute(&mut *conn)
        .await
        .map_err(sql_error)?;
    if mended.rows_affected() == 0 {
        return Ok(Some(Written::Lost));
    }
    if let Some(from) = mend.cut_from {
        sqlx::query("DELETE FROM trunkline_saga_entry WHERE saga_id = $1 AND seq >= $2")
            .bind(bytes(id))
            .bind(i64::try_from(from).unwrap_or(i64::MAX))
            .execute(&mut *conn)
            .await
            .map_err(sql_error)?;
    }
    let entries: Vec<_> = mend.entries.iter().map(|entry| (id, entry)).collect();
    let added = round::add_entries(conn, &entries).await?;
    Ok(added.then_some(Written::Done))
}

async fn prune(conn: &mut AnyConnection, before: Timestamp, max: u32) -> Result<Written> {
    let gone = sqlx::query(PRUNE)
        .bind(before.as_microsecond())
        .bind(i64::from(max.min(PRUNE_MAX)))
        .fetch_all(&mut *conn)
        .await
        .map_err(sql_error)?;
    let gone = ids(&gone)?;
    for bulk in [&*FORGET_ENTRIES, &*FORGET_MESSAGES] {
        bulk.run(conn, &gone, |query, id: Option<&Uuid>| {
            Ok(query.bind(id.map(|id| bytes(*id))))
        })
        .await?;
    }
    let more = sqlx::query(MORE)
        .bind(before.as_microsecond())
        .fetch_optional(conn);
    Ok(match more.await.map_err(sql_error)? {
        Some(_) => Written::Full,
        None => Written::Done,
    })
}
