//! The tables of a projection, of which there may be two: those that are read, and those that are built anew.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use trunkline_core::Result;

use super::projection::{Declared, named, table_of};
use crate::error::sql_error;
use crate::{Engine, Tx};

const LIST: &str = "SELECT generation, version, position, live, tables, error \
    FROM trunkline_projection WHERE name = $1 ORDER BY live DESC";

const LOCK: &str = "UPDATE trunkline_projection SET position = position \
    WHERE name = $1 AND generation = $2 AND version = $3 RETURNING position";

const BEGIN: &str = "INSERT INTO trunkline_projection \
    (name, generation, version, position, live, tables, changed_at) \
    VALUES ($1, $2, $3, 0, 0, $4, $5) ON CONFLICT DO NOTHING";

const MOVE: &str = "UPDATE trunkline_projection SET position = $1, error = NULL, changed_at = $2 \
    WHERE name = $3 AND generation = $4";

const FAIL: &str = "UPDATE trunkline_projection SET error = $1, changed_at = $2 \
    WHERE name = $3 AND generation = $4";

const REMOVE: &str = "DELETE FROM trunkline_projection WHERE name = $1 AND generation = $2";

const MAKE_LIVE: &str =
    "UPDATE trunkline_projection SET live = 1 WHERE name = $1 AND generation = $2";

/// One set of tables of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) generation: i64,
    pub(super) version: i64,
    pub(super) position: i64,
    pub(super) live: bool,
    /// By comma, as they are read.
    tables: String,
    pub(super) error: Option<String>,
}

impl Generation {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            generation: row.try_get(0)?,
            version: row.try_get(1)?,
            position: row.try_get(2)?,
            live: row.try_get::<i64, _>(3)? > 0,
            tables: row.try_get(4)?,
            error: row.try_get(5)?,
        })
    }

    fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.split(',').filter(|table| !table.is_empty())
    }
}

/// All of a projection, those that are read first.
pub(super) async fn list(conn: &mut AnyConnection, name: &str) -> Result<Vec<Generation>> {
    let rows = sqlx::query(LIST)
        .bind(name)
        .fetch_all(conn)
        .await
        .map_err(sql_error)?;
    rows.iter()
        .map(Generation::read)
        .collect::<Result<_, _>>()
        .map_err(sql_error)
}

/// The position of one, which stays until the transaction ends; none when it is gone.
pub(super) async fn lock(
    conn: &mut AnyConnection,
    name: &str,
    generation: &Generation,
) -> Result<Option<i64>> {
    let row = sqlx::query(LOCK)
        .bind(name)
        .bind(generation.generation)
        .bind(generation.version)
        .fetch_optional(conn)
        .await
        .map_err(sql_error)?;
    row.map(|row| row.try_get(0)).transpose().map_err(sql_error)
}

/// Makes empty tables beside those that are read. Whoever else began first has made them.
pub(super) async fn begin(tx: &mut Tx, declared: &Declared) -> Result<()> {
    let all = list(tx.conn(), declared.name).await?;
    let last = all.iter().map(|one| one.generation).max().unwrap_or(0);
    let generation = last.saturating_add(1);
    let begun = sqlx::query(BEGIN)
        .bind(declared.name)
        .bind(generation)
        .bind(declared.version)
        .bind(declared.tables.join(","))
        .bind(tx.store().now_micros())
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    if begun.rows_affected() == 0 {
        return Ok(());
    }
    let create = named(declared.create, declared.tables, generation);
    run(tx.conn(), create).await
}

/// Drops one that is not read.
pub(super) async fn abandon(tx: &mut Tx, name: &str, generation: &Generation) -> Result<()> {
    if lock(tx.conn(), name, generation).await?.is_none() {
        return Ok(());
    }
    remove(tx, name, generation).await?;
    drop_tables(tx, generation).await
}

/// Says how far one is now.
pub(super) async fn advance(tx: &mut Tx, (name, generation): (&str, i64), to: i64) -> Result<()> {
    let now = tx.store().now_micros();
    sqlx::query(MOVE)
        .bind(to)
        .bind(now)
        .bind(name)
        .bind(generation)
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(())
}

/// Says why one goes no further.
pub(super) async fn fail(tx: &mut Tx, (name, generation): (&str, i64), why: &str) -> Result<()> {
    let now = tx.store().now_micros();
    sqlx::query(FAIL)
        .bind(why)
        .bind(now)
        .bind(name)
        .bind(generation)
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(())
}

/// Turns the readers to new tables, once those are as far as the old, and drops the old. Says whether it did.
pub(super) async fn swap(tx: &mut Tx, name: &str, new: &Generation) -> Result<bool> {
    if tx.store().engine() == Engine::Postgres {
        // A reader with a long transaction would keep all others waiting behind this; and should one that reads
        // several views be in its way, this gives up before the server looks for a deadlock and ends that.
        run(tx.conn(), "SET LOCAL lock_timeout = '500ms'".to_owned()).await?;
    }
    // Only who holds the row sees what others have made of it meanwhile.
    let Some(new_at) = lock(tx.conn(), name, new).await? else {
        return Ok(false);
    };
    let all = list(tx.conn(), name).await?;
    let old = all.iter().find(|one| one.live);
    if let Some(old) = old {
        let is_itself = old.generation == new.generation;
        let old_at = lock(tx.conn(), name, old).await?;
        if is_itself || old_at.is_none_or(|old_at| new_at < old_at) {
            return Ok(false);
        }
    }
    for table in old.into_iter().flat_map(Generation::tables) {
        run(tx.conn(), format!("DROP VIEW IF EXISTS {table}")).await?;
    }
    for table in new.tables() {
        let place = table_of(table, new.generation);
        let view = format!("CREATE VIEW {table} AS SELECT * FROM {place}");
        run(tx.conn(), view).await?;
    }
    if let Some(old) = old {
        remove(tx, name, old).await?;
        drop_tables(tx, old).await?;
    }
    sqlx::query(MAKE_LIVE)
        .bind(name)
        .bind(new.generation)
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(true)
}

async fn remove(tx: &mut Tx, name: &str, generation: &Generation) -> Result<()> {
    sqlx::query(REMOVE)
        .bind(name)
        .bind(generation.generation)
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(())
}

async fn drop_tables(tx: &mut Tx, generation: &Generation) -> Result<()> {
    for table in generation.tables() {
        let table = table_of(table, generation.generation);
        run(tx.conn(), format!("DROP TABLE IF EXISTS {table}")).await?;
    }
    Ok(())
}

/// Names of tables were checked when the projection was declared.
async fn run(conn: &mut AnyConnection, sql: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(conn)
        .await
        .map(drop)
        .map_err(sql_error)
}
