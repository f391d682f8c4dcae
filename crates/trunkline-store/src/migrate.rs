//! Migrations: the tables of a service, step by step.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, Row};
use trunkline_core::{Error, Result};

use crate::error::sql_error;
use crate::store::Backend;
use crate::{Engine, Store};

/// One step of a service's schema. Once applied anywhere it must never change: add another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its name, unique in the service, such as `0001_orders`.
    pub name: &'static str,
    /// One or more statements that both SQLite and PostgreSQL understand: columns of type BIGINT,
    /// INTEGER, DOUBLE PRECISION and TEXT, times as BIGINT microseconds, money as BIGINT minor units.
    pub sql: &'static str,
}

const MADE: &str = "CREATE TABLE IF NOT EXISTS trunkline_migration \
    (name TEXT PRIMARY KEY, checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)";

/// Applies those that are not applied yet.
pub(crate) async fn apply(store: &Store, migrations: &[Migration]) -> Result<()> {
    refuse_twins(migrations)?;
    // Most starts find everything applied, and need no lock to see it.
    let mut reader = store.read().await?;
    if has_table(store, reader.conn()).await? {
        let applied = applied(reader.conn()).await?;
        if missing(migrations, &applied)?.is_none() {
            return Ok(());
        }
    }
    drop(reader);
    while apply_next(store, migrations).await? {}
    Ok(())
}

async fn apply_next(store: &Store, migrations: &[Migration]) -> Result<bool> {
    // SQLite's writer is the lock: it begins IMMEDIATE, so another process waits too.
    let mut tx = store.begin().await?;
    if let Backend::Postgres(postgres) = store.backend() {
        let lock = crate::outbox::lock_number(&["migrate", &postgres.schema]);
        sqlx::query("SELECT CAST(pg_advisory_xact_lock($1) AS TEXT)")
            .bind(lock)
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
    }
    sqlx::raw_sql(MADE)
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    let applied = applied(tx.conn()).await?;
    let Some(migration) = missing(migrations, &applied)? else {
        tx.commit().await?;
        return Ok(false);
    };
    let failed = |error| sql_error(error).with("migration", migration.name);
    sqlx::raw_sql(migration.sql)
        .execute(tx.conn())
        .await
        .map_err(failed)?;
    sqlx::query("INSERT INTO trunkline_migration (name, checksum, applied_at) VALUES ($1, $2, $3)")
        .bind(migration.name)
        .bind(checksum(migration.sql))
        .bind(store.now_micros())
        .execute(tx.conn())
        .await
        .map_err(failed)?;
    tx.commit().await?;
    tracing::info!(service = %store.service(), migration = migration.name, "migration applied");
    Ok(true)
}

/// The first that is not applied; an error if one was changed after it was applied.
fn missing<'a>(
    migrations: &'a [Migration],
    applied: &HashMap<String, String>,
) -> Result<Option<&'a Migration>> {
    let mut first = None;
    for migration in migrations {
        match applied.get(migration.name) {
            None => first = first.or(Some(migration)),
            Some(known) if *known == checksum(migration.sql) => {}
            Some(_) => {
                return Err(Error::conflict(
                    "migration_changed",
                    "a migration was changed after it was applied; restore it and add another",
                )
                .with("migration", migration.name));
            }
        }
    }
    Ok(first)
}

fn refuse_twins(migrations: &[Migration]) -> Result<()> {
    let mut names: Vec<_> = migrations.iter().map(|migration| migration.name).collect();
    names.sort_unstable();
    match names
        .windows(2)
        .find_map(|pair| pair.first().filter(|name| pair.last() == Some(name)))
    {
        None => Ok(()),
        Some(name) => Err(
            Error::invalid("migration_twice", "two migrations have the same name")
                .with("migration", name),
        ),
    }
}

async fn has_table(store: &Store, conn: &mut AnyConnection) -> Result<bool> {
    let sql = match store.engine() {
        Engine::Sqlite => {
            "SELECT CAST(COUNT(*) AS BIGINT) FROM sqlite_master WHERE name = 'trunkline_migration'"
        }
        Engine::Postgres => {
            "SELECT COUNT(*) FROM pg_tables \
             WHERE schemaname = current_schema() AND tablename = 'trunkline_migration'"
        }
    };
    let row = sqlx::query(sql).fetch_one(conn).await.map_err(sql_error)?;
    Ok(row.try_get::<i64, _>(0).map_err(sql_error)? > 0)
}

async fn applied(conn: &mut AnyConnection) -> Result<HashMap<String, String>> {
    let rows = sqlx::query("SELECT name, checksum FROM trunkline_migration")
        .fetch_all(conn)
        .await
        .map_err(sql_error)?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, sqlx::Error>>()
        .map_err(sql_error)
}

/// SHA-256 of the text; how its lines end does not matter.
fn checksum(sql: &str) -> String {
    hex(&Sha256::digest(sql.replace("\r\n", "\n")))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String does not fail");
            text
        })
}
