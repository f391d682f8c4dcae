//! Which of a store's relays sends.

use std::fs::File;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sqlx::postgres::PgListener;
use sqlx::{AnyConnection, Row};
use trunkline_core::Result;

use crate::Store;
use crate::error::sql_error;
use crate::outbox::lock_number;
use crate::owner::lock_file;
use crate::postgres::Postgres;
use crate::store::Backend;

/// The leader looks at the outbox this often even if nobody wakes it: a process that commits, and dies
/// before it tells the leader in another process, would otherwise leave its events until the next.
const SWEEP: Duration = Duration::from_secs(10);

/// The right to send, for as long as the system or the server holds the lock.
///
/// Should the server drop it unnoticed and another begin, then both send for a moment. Each sends a
/// prefix of what is there in order, so events come twice, and none before an earlier one of its key.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) conn: AnyConnection,
    pub(super) wake: Wake,
}

/// How the leader hears of commits in other processes.
pub(super) enum Wake {
    /// There are none.
    Never(#[expect(dead_code, reason = "held until dropped")] File),
    /// They notify.
    Listen(Box<PgListener>),
}

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Never(_) => "Never",
            Self::Listen(_) => "Listen",
        })
    }
}

impl Wake {
    /// Waits for another process's commit. Cancel safe.
    pub(super) async fn heard(&mut self) {
        match self {
            Self::Never(_) => std::future::pending().await,
            Self::Listen(listener) => {
                match tokio::time::timeout(SWEEP, listener.try_recv()).await {
                    Ok(Ok(_)) | Err(_) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "listening for commits of other processes failed");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        }
    }
}

impl Leader {
    /// Takes the lock if it is free.
    pub(super) async fn acquire(
        store: &Store,
        candidate: &mut Option<AnyConnection>,
    ) -> Result<Option<Self>> {
        match store.backend() {
            Backend::Sqlite(sqlite) => {
                let lock = lock_file(&sqlite.path, "relay")?;
                if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                    return Ok(None);
                }
                let conn = sqlite.session().await?;
                Ok(Some(Self {
                    conn,
                    wake: Wake::Never(lock),
                }))
            }
            Backend::Postgres(postgres) => {
                // Taken out, so that a session that failed is not asked again.
                let mut conn = match candidate.take() {
                    Some(conn) => conn,
                    None => postgres.session().await?,
                };
                let row = sqlx::query("SELECT pg_try_advisory_lock($1)")
                    .bind(lock_number(&["relay", &postgres.schema]))
                    .fetch_one(&mut conn)
                    .await
                    .map_err(sql_error)?;
                if !row.try_get::<bool, _>(0).map_err(sql_error)? {
                    *candidate = Some(conn);
                    return Ok(None);
                }
                let mut listener = PgListener::connect(postgres.url())
                    .await
                    .map_err(sql_error)?;
                listener
                    .listen(&channel(postgres))
                    .await
                    .map_err(sql_error)?;
                Ok(Some(Self {
                    conn,
                    wake: Wake::Listen(Box::new(listener)),
                }))
            }
        }
    }

    /// Tells the leader, in whatever process, that this process has committed events.
    pub(super) async fn tell(store: &Store) -> Result<()> {
        if let Backend::Postgres(postgres) = store.backend() {
            // Apart from the commit: NOTIFY in a transaction makes all commits queue for one lock.
            let mut reader = store.read().await?;
            sqlx::query("SELECT pg_notify($1, '')")
                .bind(channel(postgres))
                .execute(reader.conn())
                .await
                .map_err(sql_error)?;
        }
        Ok(())
    }
}

fn channel(postgres: &Postgres) -> String {
    format!(
        "trunkline_{:016x}",
        lock_number(&["wake", &postgres.schema])
    )
}
