//! Who may do what one does at a time in all processes: replay, edit and discard a group's dead letters, or send alerts.

use std::fs::File;

use futures::future::BoxFuture;
use rustix::fs::{FlockOperation, flock};
use sqlx::{AnyConnection, Connection};
use trunkline_bus::Reservation;
use trunkline_core::Result;

use crate::Store;
use crate::error::sql_error;
use crate::outbox::lock_number;
use crate::owner::lock_file;
use crate::store::Backend;

/// A moment for the server to notice that the last holder has gone; it is asked without waiting longer.
const LOCK: &str = "SET lock_timeout = '500ms'";

/// A lock on a file beside the database. The system lets it go with the file.
#[derive(Debug)]
struct FileLock(#[expect(dead_code, reason = "held until dropped")] File);

/// An advisory lock of a session of its own. The server lets it go with the session.
#[derive(Debug)]
struct SessionLock(AnyConnection);

impl Reservation for FileLock {
    fn check(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Reservation for SessionLock {
    fn check(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.0.ping().await.map_err(sql_error) })
    }
}

/// The right to do this sort of thing with this one: `letters` of a group.
pub(crate) async fn reserve(
    store: &Store,
    (sort, name): (&str, &str),
) -> Result<Option<Box<dyn Reservation>>> {
    match store.backend() {
        Backend::Sqlite(sqlite) => {
            let purpose = format!("{sort}-{:016x}", lock_number(&[sort, name]));
            let lock = lock_file(&sqlite.path, &purpose)?;
            let is_ours = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            Ok(is_ours.then(|| Box::new(FileLock(lock)) as Box<dyn Reservation>))
        }
        Backend::Postgres(postgres) => {
            let mut conn = postgres.session().await?;
            sqlx::raw_sql(LOCK)
                .execute(&mut conn)
                .await
                .map_err(sql_error)?;
            let taken = sqlx::query("SELECT CAST(pg_advisory_lock($1) AS TEXT)")
                .bind(lock_number(&[sort, &postgres.schema, name]))
                .execute(&mut conn)
                .await
                .map_err(sql_error);
            match taken {
                Ok(_) => Ok(Some(Box::new(SessionLock(conn)))),
                Err(error) if error.code() == "store_busy" => Ok(None),
                Err(error) => Err(error),
            }
        }
    }
}
