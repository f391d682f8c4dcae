//! SQLite: one file, one writer, a few readers, and a thread that syncs what was committed.

mod syncs;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex as SyncMutex;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};
use tokio::task::JoinSet;
use trunkline_core::{Error, Result};

use crate::config::StoreConfig;
use crate::error::{busy, sql_error};

pub use syncs::SyncProbe;
pub(crate) use syncs::Syncs;

/// Readers at once; a further one waits.
const READERS_MAX: u32 = 3;

/// How often and with which pause a start asks for the WAL while another process switches to it.
const WAL_ATTEMPTS: u32 = 200;
const WAL_PAUSE: Duration = Duration::from_millis(25);

/// Two may be on their way to the janitor at most: the one that it works on and the next.
const JANITOR_QUEUE: usize = 2;

/// Stores whose disk failed to sync. The last connection to close would copy the WAL into the database as it is in memory, which
/// may not be what is on disk, so it stays open until the process ends. Who opens the file then reads the WAL by its checksums.
static FAILED: SyncMutex<Vec<(PathBuf, Arc<Mutex<Writer>>)>> = SyncMutex::new(Vec::new());

/// A store in a file.
#[derive(Debug)]
pub(crate) struct Sqlite {
    pub(crate) path: PathBuf,
    options: AnyConnectOptions,
    writer: Arc<Mutex<Writer>>,
    pub(crate) readers: AnyPool,
    janitor: mpsc::Sender<OwnedMutexGuard<Writer>>,
    pub(crate) syncs: Arc<Syncs>,
    acquire_timeout: Duration,
    janitor_task: SyncMutex<JoinSet<()>>,
}

/// The one connection that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) conn: AnyConnection,
    syncs: Arc<Syncs>,
    /// A transaction may still be open.
    dirty: bool,
}

/// The writer while somebody has it. Dropped before [`Held::done`], it goes to the janitor, which
/// rolls back and gives it free.
#[derive(Debug)]
pub(crate) struct Held {
    guard: Option<OwnedMutexGuard<Writer>>,
    janitor: mpsc::Sender<OwnedMutexGuard<Writer>>,
}

impl Sqlite {
    pub(crate) async fn open(path: &Path, config: &StoreConfig) -> Result<Self> {
        let path = make_file(path).map_err(|error| {
            let full = error.kind() == io::ErrorKind::StorageFull;
            let (code, message) = if full {
                ("store_disk_full", "the disk of the store is full")
            } else {
                (
                    "store_not_writable",
                    "the file of the store can't be made or written",
                )
            };
            Error::unavailable(code, message)
                .with("path", path.display())
                .with_source(error)
        })?;
        if FAILED.lock().iter().any(|(failed, _)| *failed == path) {
            return Err(syncs::refused("a sync has failed").with("path", path.display()));
        }
        let options = connect_options(&path)?;
        let in_file = |error: Error| error.with("path", path.display());
        let mut conn = options
            .connect()
            .await
            .map_err(sql_error)
            .map_err(in_file)?;
        set_up_writer(&mut conn).await.map_err(in_file)?;
        let readers = AnyPoolOptions::new()
            .max_connections(READERS_MAX)
            .min_connections(0)
            .acquire_timeout(config.acquire_timeout)
            .idle_timeout(Duration::from_secs(60))
            .max_lifetime(None)
            // A file does not go away as a server does.
            .test_before_acquire(false)
            .after_connect(|conn, _| {
                Box::pin(async move {
                    sqlx::raw_sql("PRAGMA query_only = ON")
                        .execute(conn)
                        .await
                        .map(drop)
                })
            })
            .connect_lazy_with(options.clone());
        let syncs = start_syncs(&path, &mut conn, config)
            .await
            .map_err(in_file)?;
        let writer = Arc::new(Mutex::new(Writer {
            conn,
            syncs: Arc::clone(&syncs),
            dirty: false,
        }));
        let (janitor, mut left) = mpsc::channel::<OwnedMutexGuard<Writer>>(JANITOR_QUEUE);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some(mut writer) = left.recv().await {
                writer.clean().await;
            }
        });
        let janitor_task = SyncMutex::new(task);
        let acquire_timeout = config.acquire_timeout;
        Ok(Self {
            path,
            options,
            writer,
            readers,
            janitor,
            syncs,
            acquire_timeout,
            janitor_task,
        })
    }

    /// Waits for the writer; those who wait get it in the order in which they asked.
    pub(crate) async fn writer(&self) -> Result<Held> {
        if self.readers.is_closed() {
            return Err(Error::unavailable("store_closed", "the store is closed"));
        }
        self.syncs.check()?;
        let wait =
            tokio::time::timeout(self.acquire_timeout, Arc::clone(&self.writer).lock_owned());
        let mut guard = wait.await.map_err(|_| busy())?;
        self.syncs.check()?;
        if guard.dirty {
            guard.clean().await;
        }
        guard.dirty = true;
        Ok(Held {
            guard: Some(guard),
            janitor: self.janitor.clone(),
        })
    }

    /// A connection of its own, to read with.
    pub(crate) async fn session(&self) -> Result<AnyConnection> {
        let mut conn = self.options.connect().await.map_err(sql_error)?;
        sqlx::raw_sql("PRAGMA query_only = ON")
            .execute(&mut conn)
            .await
            .map_err(sql_error)?;
        Ok(conn)
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        let mut writer = self.writer.lock().await;
        self.janitor_task.lock().abort_all();
        if self.syncs.check().is_err() {
            return self.syncs.close().await;
        }
        if writer.dirty {
            writer.clean().await;
        }
        // Leaves an empty WAL behind where it can; a reader elsewhere is no failure.
        let checkpoint = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut writer.conn);
        if let Err(error) = checkpoint.await {
            tracing::debug!(%error, path = %self.path.display(), "no checkpoint at the end");
        }
        self.syncs.close().await;
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        if self.syncs.check().is_err() {
            let writer = Arc::clone(&self.writer);
            FAILED.lock().push((self.path.clone(), writer));
        }
    }
}

impl Writer {
    /// Ends whatever was left open.
    async fn clean(&mut self) {
        // Without an open transaction this is an error, and the right outcome.
        let rolled_back = sqlx::raw_sql("ROLLBACK").execute(&mut self.conn).await;
        if let Err(sqlx::Error::WorkerCrashed | sqlx::Error::Io(_)) = rolled_back {
            tracing::error!(?rolled_back, "the store's writer could not be cleaned");
            return;
        }
        self.dirty = false;
        self.syncs.commit_ended();
    }
}

impl Held {
    pub(crate) fn conn(&mut self) -> &mut AnyConnection {
        &mut self
            .guard
            .as_mut()
            .expect("only done() takes it, and consumes self")
            .conn
    }

    /// Gives the writer back clean: its transaction is over.
    pub(crate) fn done(mut self) {
        if let Some(mut guard) = self.guard.take() {
            guard.dirty = false;
            guard.syncs.commit_ended();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take()
            && let Err(left) = self.janitor.try_send(guard)
        {
            // It stays marked as dirty, so the next who gets it cleans it.
            drop(left.into_inner());
        }
    }
}

/// Makes the file, for its owner's eyes only, in a folder that is too where it is new.
fn make_file(path: &Path) -> io::Result<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let path = folder.canonicalize()?.join(name);
    // SQLite gives its WAL the mode of its database file.
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)?;
    Ok(path)
}

fn connect_options(path: &Path) -> Result<AnyConnectOptions> {
    let text = path.to_str().ok_or_else(|| {
        Error::invalid("store_url_invalid", "expected the store's path to be UTF-8")
            .with("path", path.display())
    })?;
    let mut url = String::from("sqlite://");
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/_.-~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url.parse().map_err(sql_error)
}

/// The first to open a file switches it to a WAL, for which SQLite wants it alone, and refuses at once
/// instead of waiting; whoever opens it at the same moment tries again.
async fn switch_to_wal(conn: &mut AnyConnection) -> Result<String> {
    use sqlx::Row;
    let mut attempts = 1;
    loop {
        let mode = sqlx::query("PRAGMA journal_mode = WAL")
            .fetch_one(&mut *conn)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(sql_error);
        match mode {
            Err(error) if error.code() == "store_busy" && attempts < WAL_ATTEMPTS => {
                attempts += 1;
                tokio::time::sleep(WAL_PAUSE).await;
            }
            mode => return mode,
        }
    }
}

async fn set_up_writer(conn: &mut AnyConnection) -> Result<()> {
    let mode = switch_to_wal(conn).await?;
    if mode != "wal" {
        return Err(Error::new(
            trunkline_core::ErrorKind::Unsupported,
            "store_no_wal",
            "the file system of the store can't do SQLite's WAL; is it a network drive?",
        ));
    }
    // What this leaves to sync, `Syncs` does.
    let settings = "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; \
                    PRAGMA journal_size_limit = 67108864";
    sqlx::raw_sql(settings)
        .execute(conn)
        .await
        .map_err(sql_error)?;
    Ok(())
}

/// What an earlier process has committed may not be on disk yet, and may have been told by the disk that it never will: it is
/// copied into the database, and that synced.
async fn start_syncs(
    path: &Path,
    conn: &mut AnyConnection,
    config: &StoreConfig,
) -> Result<Arc<Syncs>> {
    sqlx::raw_sql("PRAGMA wal_checkpoint(PASSIVE)")
        .execute(conn)
        .await
        .map_err(sql_error)?;
    let started = sync_folder(path).and_then(|()| Syncs::start(path, config.sync_probe.clone()));
    let syncs = started.map_err(|error| {
        Error::unavailable(
            "store_not_writable",
            "the WAL of the store can't be opened or its folder not synced",
        )
        .with_source(error)
    })?;
    // Where another process reads, the copy may have ended before its end.
    syncs.turn().await?;
    Ok(Arc::new(syncs))
}

/// New files are found again after a power failure only when their folder is synced.
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::File::open(folder)?.sync_all()
}
