//! PostgreSQL: a schema for each service.

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection};
use trunkline_core::{Error, Result};

use crate::config::StoreConfig;
use crate::error::sql_error;
use crate::tx::Mode;

/// Readers at once; a further one waits. They are apart from the writers, so that whoever holds a
/// transaction can still read.
const READERS_MAX: u32 = 2;

/// A connection that was idle for longer is tested before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(2);

/// How long the server may take over a connection before it is held to be away.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

/// Three questions, five seconds apart, after ten seconds of silence. Without meaning on a local socket.
const VANISHED_SOON: &str = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; \
    SET tcp_keepalives_count = 3";

/// A store in a schema.
#[derive(Debug)]
pub(crate) struct Postgres {
    options: AnyConnectOptions,
    pub(crate) schema: Arc<str>,
    writers: AnyPool,
    pub(crate) readers: AnyPool,
    /// The relay's one connection to write with.
    relay: AnyPool,
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
        let timeout = config.acquire_timeout;
        let write = session_sql(&schema);
        let read = format!("{write}; SET default_transaction_read_only = on");
        let writers = pool(&options, &write, pool_max, timeout);
        let relay = pool(&options, &write, 1, timeout);
        let readers = pool(&options, &read, READERS_MAX, timeout);
        Ok(Self {
            options,
            schema,
            writers,
            readers,
            relay,
        })
    }

    /// The connections to write with.
    pub(crate) fn pool(&self, mode: Mode) -> &AnyPool {
        match mode {
            Mode::Durable | Mode::Single | Mode::Relaxed => &self.writers,
            Mode::Relay => &self.relay,
        }
    }

    pub(crate) async fn close(&self) {
        self.writers.close().await;
        self.relay.close().await;
        self.readers.close().await;
    }

    pub(crate) fn url(&self) -> &str {
        self.options.database_url.as_str()
    }

    /// A connection outside the pools, for a lock that belongs to a session. Should this machine vanish,
    /// the server notices within half a minute and lets the lock go; should only the process die, at once.
    pub(crate) async fn session(&self) -> Result<AnyConnection> {
        let mut conn = self.options.connect().await.map_err(sql_error)?;
        let sql = format!("{}; {VANISHED_SOON}", session_sql(&self.schema));
        set_up(&mut conn, &sql).await.map_err(sql_error)?;
        Ok(conn)
    }

    /// Why no connection came. A pool asks a server that refuses it again and again until its time is up,
    /// and then says no more than that it is: whether the server is away or all connections are in use,
    /// another connection tells.
    pub(crate) async fn no_connection(&self, error: sqlx::Error) -> Error {
        if !matches!(error, sqlx::Error::PoolTimedOut) {
            return sql_error(error);
        }
        let probe = async {
            let conn = self.options.connect().await?;
            conn.close().await
        };
        match tokio::time::timeout(PROBE_WITHIN, probe).await {
            Ok(Ok(())) => sql_error(error),
            Ok(Err(away)) => sql_error(away),
            Err(_) => sql_error(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
        }
    }
}

fn pool(options: &AnyConnectOptions, session: &str, max: u32, timeout: Duration) -> AnyPool {
    let session: Arc<str> = session.into();
    AnyPoolOptions::new()
        .max_connections(max)
        .min_connections(0)
        .acquire_timeout(timeout)
        .test_before_acquire(false)
        .before_acquire(|conn, meta| {
            Box::pin(async move { Ok(meta.idle_for < TRUSTED_IDLE || conn.ping().await.is_ok()) })
        })
        .after_connect(move |conn, _| {
            let session = Arc::clone(&session);
            Box::pin(async move { set_up(conn, &session).await })
        })
        .connect_lazy_with(options.clone())
}

async fn make_schema(conn: &mut AnyConnection, schema: &str) -> Result<()> {
    // Asked first, because `IF NOT EXISTS` wants the right to make schemas even where one exists.
    let found = sqlx::query("SELECT 1 FROM pg_namespace WHERE nspname = $1")
        .bind(schema)
        .fetch_optional(&mut *conn)
        .await
        .map_err(sql_error)?;
    if found.is_some() {
        return Ok(());
    }
    let sql = format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"");
    match set_up(conn, &sql).await.map_err(sql_error) {
        // Of two services that start at once, the loser sees that it exists.
        Err(error) if error.code() != "row_exists" => Err(error),
        _ => Ok(()),
    }
}

/// What a session is told first. The name was checked when the URL was read: it has no quote in it.
fn session_sql(schema: &str) -> String {
    format!("SET search_path TO \"{schema}\"")
}

async fn set_up(conn: &mut AnyConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(conn)
        .await
        .map(drop)
}
