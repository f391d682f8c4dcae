//! Who lives, whom the dead have left, and what is due.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use trunkline_core::{ByteString, Result};
use trunkline_saga::{Claim, Claimed};
use uuid::Uuid;

use super::bulk::{Bulk, bytes, ids};
use super::rows;
use crate::error::sql_error;
use crate::{Engine, Store, Tx};

/// How many instances one claim takes at most, whatever it asks for.
const TAKEN_MAX: usize = 1_000;

/// How many sagas one statement looks for.
const SAGAS_MAX: usize = 32;

/// A lease that has this share of its length left is not renewed.
const LEASE_LEFT: (u32, u32) = (2, 3);

/// Owners of instances that are not known to live, each found by one step in the index.
const DEAD: &str = "WITH RECURSIVE owners (owner) AS (\
    SELECT MIN(owner) FROM trunkline_saga WHERE owner IS NOT NULL UNION ALL \
    SELECT (SELECT MIN(s.owner) FROM trunkline_saga AS s WHERE s.owner > owners.owner) \
    FROM owners WHERE owners.owner IS NOT NULL) \
    SELECT owner FROM owners WHERE owner IS NOT NULL AND NOT EXISTS (\
    SELECT 1 FROM trunkline_saga_owner AS o WHERE o.owner = owners.owner AND o.until > $1)";

const LEASE: &str = "SELECT until FROM trunkline_saga_owner WHERE owner = $1";

const RENEW: &str = "INSERT INTO trunkline_saga_owner (owner, until) VALUES ($1, $2) \
    ON CONFLICT (owner) DO UPDATE SET until = excluded.until";

const FREE: &str = "UPDATE trunkline_saga SET owner = NULL, changed_at = $2, wake_at = CASE \
    WHEN state IN ('running', 'waiting', 'compensating') THEN $2 ELSE wake_at END \
    WHERE owner = $1 AND NOT EXISTS (\
    SELECT 1 FROM trunkline_saga_owner AS o WHERE o.owner = $1 AND o.until > $2)";

const FORGET: &str = "DELETE FROM trunkline_saga_owner WHERE until <= $1";

const TOLD: &str = "SELECT 1 FROM trunkline_saga WHERE owner = $1 AND wake_at <= $2 LIMIT 1";

const TAKE_TOLD: &str = "UPDATE trunkline_saga SET wake_at = NULL \
    WHERE owner = $1 AND wake_at <= $2 RETURNING id";

static TAKE: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "UPDATE trunkline_saga AS s SET owner = v.column2, wake_at = NULL FROM ",
        2,
        "AS v WHERE s.id = v.column1 AND s.owner IS NULL RETURNING id",
    )
});

/// What has to be true of an instance that waits for somebody; the index of those is of use.
const FREE_AND_ALIVE: &str = "owner IS NULL AND wake_at IS NOT NULL \
    AND state IN ('running', 'waiting', 'compensating')";

pub(super) async fn claim(store: &Store, claim: &Claim) -> Result<Claimed> {
    let now = store.now_micros();
    let look = look(store, claim, now).await?;
    if !look.to_do {
        return Ok(Claimed {
            next: look.next,
            ..Claimed::default()
        });
    }
    // Whatever of this a crash of the machine undoes is done again.
    let mut tx = store.begin_relaxed().await?;
    let owner = rows::written(&claim.owner);
    sqlx::query(RENEW)
        .bind(owner.as_str())
        .bind(now.saturating_add(micros(claim.lease)))
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    free_the_dead(&mut tx, now).await?;
    let told = sqlx::query(TAKE_TOLD)
        .bind(owner.as_str())
        .bind(now)
        .fetch_all(tx.conn())
        .await
        .map_err(sql_error)?;
    let told = ids(&told)?;
    let ids = take(&mut tx, claim, now).await?;
    let next = next(tx.conn(), &claim.sagas, now).await?;
    tx.commit().await?;
    Ok(Claimed { ids, told, next })
}

/// On SQLite, when the store is opened alone: no owner lives.
pub(crate) async fn free_all(conn: &mut AnyConnection, now: i64) -> Result<()> {
    sqlx::query("DELETE FROM trunkline_saga_owner")
        .execute(&mut *conn)
        .await
        .map_err(sql_error)?;
    sqlx::query(
        "UPDATE trunkline_saga SET owner = NULL, changed_at = $1, wake_at = CASE \
         WHEN state IN ('running', 'waiting', 'compensating') THEN $1 ELSE wake_at END \
         WHERE owner IS NOT NULL",
    )
    .bind(now)
    .execute(conn)
    .await
    .map_err(sql_error)?;
    Ok(())
}

/// What there is to see without a transaction.
struct Look {
    to_do: bool,
    next: Option<Timestamp>,
}

async fn look(store: &Store, claim: &Claim, now: i64) -> Result<Look> {
    let mut reader = store.read().await?;
    let conn = reader.conn();
    let owner = rows::written(&claim.owner);
    let seen = |to_do, next| Look { to_do, next };
    let lease = sqlx::query(LEASE)
        .bind(owner.as_str())
        .fetch_optional(&mut *conn);
    let until: i64 = match lease.await.map_err(sql_error)? {
        None => return Ok(seen(true, None)),
        Some(row) => rows::get(&row, 0)?,
    };
    let (part, whole) = LEASE_LEFT;
    let young = micros(claim.lease * part / whole);
    if until.saturating_sub(now) < young {
        return Ok(seen(true, None));
    }
    let dead = sqlx::query(DEAD).bind(now).fetch_optional(&mut *conn);
    if dead.await.map_err(sql_error)?.is_some() {
        return Ok(seen(true, None));
    }
    let told = sqlx::query(TOLD)
        .bind(owner)
        .bind(now)
        .fetch_optional(&mut *conn);
    if told.await.map_err(sql_error)?.is_some() {
        return Ok(seen(true, None));
    }
    if claim.max > 0 && !due(conn, (claim, 1), now, "").await?.is_empty() {
        return Ok(seen(true, None));
    }
    Ok(seen(false, next(conn, &claim.sagas, now).await?))
}

async fn free_the_dead(tx: &mut Tx, now: i64) -> Result<()> {
    let dead = sqlx::query(DEAD).bind(now).fetch_all(tx.conn());
    for row in dead.await.map_err(sql_error)? {
        let owner: String = rows::get(&row, 0)?;
        let free = sqlx::query(FREE).bind(owner).bind(now).execute(tx.conn());
        free.await.map_err(sql_error)?;
    }
    sqlx::query(FORGET)
        .bind(now)
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(())
}

/// Takes what is due, the earliest first.
async fn take(tx: &mut Tx, claim: &Claim, now: i64) -> Result<Vec<Uuid>> {
    let max = claim.max.min(TAKEN_MAX);
    if max == 0 {
        return Ok(Vec::new());
    }
    let lock = match tx.store().engine() {
        Engine::Sqlite => "",
        Engine::Postgres => "FOR UPDATE SKIP LOCKED",
    };
    let mut due = due(tx.conn(), (claim, max), now, lock).await?;
    due.sort_unstable();
    due.truncate(max);
    let owner = rows::written(&claim.owner);
    let taken = TAKE.fetch(tx.conn(), &due, |query, row| {
        let id = row.map(|(_, id)| bytes(*id));
        Ok(query.bind(id).bind(owner.clone()))
    });
    let taken: HashSet<Uuid> = ids(&taken.await?)?.into_iter().collect();
    let order = due.into_iter().map(|(_, id)| id);
    Ok(order.filter(|id| taken.contains(id)).collect())
}

/// What is due of each saga, up to `max` of each.
async fn due(
    conn: &mut AnyConnection,
    (claim, max): (&Claim, usize),
    now: i64,
    lock: &str,
) -> Result<Vec<(i64, Uuid)>> {
    let before = "SELECT wake_at, id FROM (SELECT wake_at, id FROM trunkline_saga";
    let condition = format!("wake_at <= $1 AND {FREE_AND_ALIVE}");
    let after = format!("ORDER BY wake_at LIMIT {max} {lock}) AS s");
    let found = each(conn, &claim.sagas, now, [before, &condition, &after]).await?;
    let due = found
        .iter()
        .map(|row| Ok((rows::get(row, 0)?, rows::id(row, 1)?)));
    due.collect()
}

/// When the next of these sagas is due after now.
async fn next(
    conn: &mut AnyConnection,
    sagas: &[ByteString],
    now: i64,
) -> Result<Option<Timestamp>> {
    let before = "SELECT next FROM (SELECT MIN(wake_at) AS next FROM trunkline_saga";
    let condition = format!("wake_at > $1 AND {FREE_AND_ALIVE}");
    let mut next: Option<i64> = None;
    for row in each(conn, sagas, now, [before, &condition, ") AS s"]).await? {
        next = [next, rows::get(&row, 0)?].into_iter().flatten().min();
    }
    Ok(next.map(|next| Timestamp::from_microsecond(next).unwrap_or(Timestamp::MAX)))
}

/// The rows of one question asked of each saga by itself, so that each is answered by its part of the index.
async fn each(
    conn: &mut AnyConnection,
    sagas: &[ByteString],
    now: i64,
    [before, condition, after]: [&str; 3],
) -> Result<Vec<AnyRow>> {
    let mut found = Vec::new();
    for sagas in sagas.chunks(SAGAS_MAX) {
        let parts = (0..sagas.len()).map(|n| {
            format!(
                "{before} WHERE saga = ${} AND {condition} {after}{n}",
                n + 2
            )
        });
        let sql = parts.collect::<Vec<_>>().join(" UNION ALL ");
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(now);
        for saga in sagas {
            query = query.bind(rows::written(saga));
        }
        found.extend(query.fetch_all(&mut *conn).await.map_err(sql_error)?);
    }
    Ok(found)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
