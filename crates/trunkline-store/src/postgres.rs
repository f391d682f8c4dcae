//! PostgreSQL: a schema for each service.

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection};
use trunkline_core::{Error, Result};

use crate::config::StoreConfig;
use crate::error::sql_error;

/// Readers at once; a further one waits. They are apart from the writers, so that whoever holds a
/// transaction can still read.
const READERS_MAX: u32 = 2;

/// A connection that was idle for longer is tested before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(2);

/// A store in a schema.
#[derive(Debug)]
pub(crate) struct Postgres {
    options: AnyConnectOptions,
    pub(crate) schema: Arc<str>,
    pub(crate) writers: AnyPool,
    pub(crate) readers: AnyPool,
}

impl Postgres {
    pub(crate) async fn open(
        options: AnyConnectOptions,
        schema: String,
        pool_max: u32,
        config: &StoreConfig,
    ) -> Result<Self> {
        let schema: Arc<str> = schema.into();
        let named = |error: Error| error.with("schema", &schema);
        let mut conn = options.connect().await.map_err(sql_error).map_err(named)?;
        make_schema(&mut conn, &schema).await.map_err(named)?;
        conn.close().await.map_err(sql_error)?;
        let writers = pool(&options, &schema, pool_max, config.acquire_timeout);
        let readers = pool(&options, &schema, READERS_MAX, config.acquire_timeout);
        Ok(Self {
            options,
            schema,
            writers,
            readers,
        })
    }

    pub(crate) fn url(&self) -> &str {
        self.options.database_url.as_str()
    }

    /// A connection outside the pools, for a lock that belongs to a session.
    pub(crate) async fn session(&self) -> Result<AnyConnection> {
        let mut conn = self.options.connect().await.map_err(sql_error)?;
        set_schema(&mut conn, &self.schema)
            .await
            .map_err(sql_error)?;
        Ok(conn)
    }
}

fn pool(options: &AnyConnectOptions, schema: &Arc<str>, max: u32, timeout: Duration) -> AnyPool {
    let schema = Arc::clone(schema);
    AnyPoolOptions::new()
        .max_connections(max)
        .min_connections(0)
        .acquire_timeout(timeout)
        .test_before_acquire(false)
        .before_acquire(|conn, meta| {
            Box::pin(async move { Ok(meta.idle_for < TRUSTED_IDLE || conn.ping().await.is_ok()) })
        })
        .after_connect(move |conn, _| {
            let schema = Arc::clone(&schema);
            Box::pin(async move { set_schema(conn, &schema).await })
        })
        .connect_lazy_with(options.clone())
}

async fn make_schema(conn: &mut AnyConnection, schema: &str) -> Result<()> {
    // Two services that start at once race in `IF NOT EXISTS`; the loser sees that it exists.
    let sql = format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"");
    match sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(conn)
        .await
        .map_err(sql_error)
    {
        Err(error) if error.code() != "row_exists" => Err(error),
        _ => Ok(()),
    }
}

async fn set_schema(conn: &mut AnyConnection, schema: &str) -> Result<(), sqlx::Error> {
    // The name was checked when the URL was read: it has no quote in it.
    let sql = format!("SET search_path TO \"{schema}\"");
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(conn)
        .await
        .map(drop)
}
