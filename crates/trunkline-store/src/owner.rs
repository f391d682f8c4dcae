//! Who this process is in the store, and which others are dead.
//!
//! A running idempotent request and a claimed job belong to an owner: one opening of the store. Each
//! has a lease too, so a dead owner's are free in the end everywhere. On SQLite they are free at the
//! next start: every owner holds a lock on a file beside the database, which the system releases
//! when the process dies, so whoever gets that lock alone knows that all others are gone.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use trunkline_core::{Env, Error, Result};

use crate::error::sql_error;
use crate::store::Backend;
use crate::{Store, saga};

/// One opening of a store.
#[derive(Debug)]
pub(crate) struct Presence {
    id: String,
    lock: Option<File>,
    alone: bool,
}

impl Presence {
    pub(crate) async fn begin(backend: &Backend, env: &Env) -> Result<Self> {
        let id = env.id().to_string();
        let Backend::Sqlite(sqlite) = backend else {
            return Ok(Self {
                id,
                lock: None,
                alone: false,
            });
        };
        let lock = lock_file(&sqlite.path, "owner")?;
        let alone = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        let lock = if alone { lock } else { share(lock).await? };
        Ok(Self {
            id,
            lock: Some(lock),
            alone,
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Releases what dead owners held, then lets others in.
    pub(crate) async fn release_the_dead(&self, store: &Store) -> Result<()> {
        if self.alone {
            let mut tx = store.begin_relaxed().await?;
            for sql in [
                "DELETE FROM trunkline_idempotency WHERE status IS NULL",
                "UPDATE trunkline_job SET owner = NULL, claimed_until = NULL \
                 WHERE owner IS NOT NULL",
            ] {
                sqlx::query(sql)
                    .execute(tx.conn())
                    .await
                    .map_err(sql_error)?;
            }
            let now = store.now_micros();
            saga::free_all(tx.conn(), now).await?;
            tx.commit().await?;
        }
        if let Some(lock) = &self.lock {
            share(lock.try_clone().map_err(lock_failed)?).await?;
        }
        Ok(())
    }
}

/// Waits for a shared lock: whoever has it alone is just starting, and lets go in a moment.
async fn share(lock: File) -> Result<File> {
    let shared = tokio::task::spawn_blocking(move || {
        flock(&lock, FlockOperation::LockShared).map(|()| lock)
    });
    shared
        .await
        .map_err(|error| Error::internal("a lock was not waited for").with_source(error))?
        .map_err(|error| lock_failed(error.into()))
}

/// Opens (and where needed makes) the lock file `purpose` of a database.
pub(crate) fn lock_file(database: &Path, purpose: &str) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut path = database.as_os_str().to_owned();
    path.push(format!("-{purpose}"));
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(PathBuf::from(path))
        .map_err(lock_failed)
}

fn lock_failed(error: std::io::Error) -> Error {
    Error::unavailable(
        "store_not_writable",
        "a lock file of the store can't be made or locked",
    )
    .with_source(error)
}
