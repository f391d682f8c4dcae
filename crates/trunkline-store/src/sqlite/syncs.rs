//! Syncs that commits share.
//!
//! SQLite's own commits write the WAL and do not sync it (`synchronous = NORMAL`). A thread syncs it here, turn by turn: whatever
//! was committed before a turn began is on disk when it ends, so all who committed during one turn share the next, and the writer
//! goes on meanwhile. The WAL is one file that is only ever read up to its first gap, so what is on disk is always a prefix of the
//! commits. SQLite itself syncs what keeps the file whole: the WAL before a checkpoint reads it, the database before the WAL
//! begins anew, and the WAL's new header before its first frame.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use trunkline_core::{Error, Result, Retry};

/// Stands before each sync of a store in a file: a test holds it, or lets it fail.
pub trait SyncProbe: Send + Sync + fmt::Debug {
    /// Is called on the thread that syncs, and may wait. An error is taken for one of the disk.
    ///
    /// # Errors
    /// What the disk is to have said.
    fn before(&self) -> io::Result<()>;
}

/// The thread that syncs the WAL of one store, and what it is asked for.
#[derive(Debug)]
pub(crate) struct Syncs {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Turns are numbered from 1.
    begun: u64,
    ended: u64,
    wanted: u64,
    /// Who waits for the end of which turn: each is a task that commits or reads, and waits for nothing else.
    waiting: Vec<(u64, oneshot::Sender<Result<()>>)>,
    /// A commit may be on its way: others may see it already.
    committing: bool,
    /// The turn that has the last commit on disk.
    last_commit: u64,
    failed: Option<String>,
    closed: bool,
}

impl Syncs {
    /// For the WAL beside this database, which is there for as long as a connection is open.
    pub(crate) fn start(database: &Path, probe: Option<Arc<dyn SyncProbe>>) -> io::Result<Self> {
        let mut wal = database.as_os_str().to_owned();
        wal.push("-wal");
        // Locks of SQLite are on the database and its index in shared memory: neither may ever be opened here, for closing
        // a file takes all locks of the process from it.
        let wal = File::open(wal)?;
        let shared = Arc::new(Shared::default());
        let works = Arc::clone(&shared);
        let thread = Builder::new()
            .name("trunkline-sync".into())
            .spawn(move || works.run(&wal, probe.as_deref()))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { shared, thread })
    }

    /// A commit begins: from now on others may see what it commits.
    pub(crate) fn commit_begins(&self) {
        self.shared.state.lock().committing = true;
    }

    /// Whatever was committed is committed now; it is on disk with the next turn.
    pub(crate) fn commit_ended(&self) {
        let mut state = self.shared.state.lock();
        if std::mem::take(&mut state.committing) {
            state.last_commit = state.begun + 1;
        }
    }

    /// Becomes ready when everything that is committed by now, by whatever process, is on disk.
    pub(crate) fn turn(&self) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let mut state = self.shared.state.lock();
        let turn = state.begun + 1;
        let on_disk = self.shared.wait_for(&mut state, turn);
        // It is committed all the same, and may be on disk.
        async move {
            on_disk
                .await
                .map_err(|error| error.with_retry(Retry::Unknown))
        }
    }

    /// Waits until everything that this process has committed, and anybody here may have read by now, is on disk. Mostly it is.
    pub(crate) async fn settled(&self) -> Result<()> {
        let settled = {
            let mut state = self.shared.state.lock();
            let turn = match state.committing {
                true => state.begun + 1,
                false => state.last_commit,
            };
            self.shared.wait_for(&mut state, turn)
        };
        settled.await
    }

    /// Whether commits can still be confirmed.
    ///
    /// # Errors
    /// `Unavailable` since a sync has failed.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.shared.state.lock().failed {
            Some(failed) => Err(refused(failed)),
            None => Ok(()),
        }
    }

    /// SQLite itself was told by the disk that something is not written.
    pub(crate) fn fail(&self, why: &str) {
        self.shared.state.lock().fail(why);
    }

    /// Ends the thread after the turns that were asked for.
    pub(crate) async fn close(&self) {
        self.shared.close();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            drop(joined);
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        let state = self.shared.state.lock();
        let waiting = state.waiting.iter().filter(|(_, one)| !one.is_closed());
        waiting.count()
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn run(&self, wal: &File, probe: Option<&dyn SyncProbe>) {
        while let Some(turn) = self.next() {
            let synced = probe
                .map_or(Ok(()), SyncProbe::before)
                .and_then(|()| wal.sync_data());
            let mut state = self.state.lock();
            match synced {
                // One that failed meanwhile has told everybody.
                Ok(()) if state.failed.is_none() => state.end(turn),
                Ok(()) => return,
                Err(error) => return state.fail(&error.to_string()),
            }
        }
    }

    /// The next turn, when somebody wants it.
    fn next(&self) -> Option<u64> {
        let mut state = self.state.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if state.wanted > state.begun {
                state.begun += 1;
                return Some(state.begun);
            }
            if state.closed {
                return None;
            }
            self.asked.wait(&mut state);
        }
    }

    fn wait_for(
        &self,
        state: &mut State,
        turn: u64,
    ) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let waits = match &state.failed {
            Some(failed) => Err(refused(failed)),
            None if turn <= state.ended => Ok(None),
            None if state.closed => Err(closed()),
            None => {
                let (sender, ended) = oneshot::channel();
                state.waiting.push((turn, sender));
                state.wanted = state.wanted.max(turn);
                self.asked.notify_one();
                Ok(Some(ended))
            }
        };
        async move {
            match waits? {
                None => Ok(()),
                Some(ended) => ended.await.unwrap_or_else(|_| Err(closed())),
            }
        }
    }

    fn close(&self) {
        self.state.lock().closed = true;
        self.asked.notify_one();
    }
}

impl State {
    fn end(&mut self, turn: u64) {
        self.ended = turn;
        for (_, waiting) in self.waiting.extract_if(.., |(wanted, _)| *wanted <= turn) {
            waiting.send(Ok(())).ok();
        }
    }

    /// The system tells of a page that could not be written once, and then takes it for written: a sync that succeeds after
    /// one that failed proves nothing. So nothing is confirmed any more.
    fn fail(&mut self, why: &str) {
        if self.failed.is_some() {
            return;
        }
        tracing::error!(
            error = why,
            "the store's disk failed to sync; nothing is taken until the process starts anew"
        );
        self.failed = Some(why.to_owned());
        for (_, waiting) in self.waiting.drain(..) {
            // Whether it is on disk nobody knows.
            waiting
                .send(Err(refused(why).with_retry(Retry::Unknown)))
                .ok();
        }
    }
}

pub(crate) fn refused(why: &str) -> Error {
    Error::unavailable(
        "store_sync_failed",
        "the disk did not confirm what was written; the store takes nothing more until its process starts anew",
    )
    .with("disk", why)
}

fn closed() -> Error {
    Error::unavailable("store_closed", "the store is closed").with_retry(Retry::Unknown)
}
