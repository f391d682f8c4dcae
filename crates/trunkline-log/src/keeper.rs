//! The log's second thread: prepares the next segment and does what need not be waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use trunkline_core::{Envelope, Error, Result};

use crate::disk::Disk;
use crate::index::{self, Summary};

/// Errands that may wait; beyond it they are done at once by who asks.
const ERRANDS_MAX: usize = 64;
const ZEROS_BYTES: usize = 1 << 20;
/// Fewer events are dropped at once: to hand them over would take as long.
const FORGET_MIN: usize = 64;
/// So many batches of events may wait for that, while something takes long; beyond it they are dropped at once.
const FORGETS_MAX: usize = 4;

#[derive(Debug)]
pub(crate) struct Keeper {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    ready: Arc<Mutex<Option<(PathBuf, u64)>>>,
    errands: Option<SyncSender<Errand>>,
    thread: Option<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    /// Batches of events that wait to be dropped.
    forgetting: Arc<AtomicUsize>,
    count: u64,
}

#[derive(Debug)]
enum Errand {
    /// Make a file of so many zeros.
    Prepare(PathBuf, u64),
    Store(Box<Summary>, u64),
    Remove(PathBuf),
    /// Give back the memory of events.
    Forget(Forgotten),
}

/// Events whose memory is given back, and the count that they leave then.
#[derive(Debug)]
struct Forgotten(Vec<Envelope>, Arc<AtomicUsize>);

impl Drop for Forgotten {
    fn drop(&mut self) {
        self.0.clear();
        self.1.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Worker {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    ready: Arc<Mutex<Option<(PathBuf, u64)>>>,
    stopping: Arc<AtomicBool>,
}

impl Keeper {
    pub(crate) fn start(dir: PathBuf, disk: Arc<dyn Disk>) -> Result<Self> {
        let ready = Arc::default();
        let (errands, queue) = sync_channel(ERRANDS_MAX);
        let stopping = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            dir: dir.clone(),
            disk: disk.clone(),
            ready: Arc::clone(&ready),
            stopping: stopping.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("trunkline-log-keeper".to_owned())
            .spawn(move || queue.into_iter().for_each(|errand| worker.run(errand)))
            .map_err(|e| Error::internal("no thread for the log").with_source(e))?;
        Ok(Self {
            dir,
            disk,
            ready,
            errands: Some(errands),
            thread: Some(thread),
            stopping,
            forgetting: Arc::default(),
            count: 0,
        })
    }

    /// Begins to prepare a file, if none is ready.
    pub(crate) fn prepare(&mut self, bytes: u64) {
        if self.ready.lock().is_none() {
            self.count += 1;
            let path = self.dir.join(format!("prepared-{}.new", self.count));
            self.send(Errand::Prepare(path, bytes));
        }
    }

    /// Prepares the very first file, which there is time for.
    pub(crate) fn prepare_now(&self, bytes: u64) {
        let path = self.dir.join("prepared-0.new");
        Worker {
            dir: self.dir.clone(),
            disk: self.disk.clone(),
            ready: self.ready.clone(),
            stopping: self.stopping.clone(),
        }
        .run(Errand::Prepare(path, bytes));
    }

    /// The file that was prepared, if there is one, and it is not much smaller than what is wanted.
    pub(crate) fn prepared(&self, bytes: u64) -> Option<(PathBuf, u64)> {
        let (path, ready) = self.ready.lock().take()?;
        if ready < bytes / 4 {
            self.discard(path);
            return None;
        }
        Some((path, ready))
    }

    /// Writes the index of a sealed segment.
    pub(crate) fn store(&self, summary: Summary, log_id: u64) {
        self.send(Errand::Store(Box::new(summary), log_id));
    }

    /// Gives back the memory of events, which takes the writer a quarter of its time at full speed.
    pub(crate) fn forget(&self, events: Vec<Envelope>) {
        if events.len() >= FORGET_MIN && self.forgetting.load(Ordering::Acquire) < FORGETS_MAX {
            self.forgetting.fetch_add(1, Ordering::AcqRel);
            self.send(Errand::Forget(Forgotten(events, self.forgetting.clone())));
        }
    }

    pub(crate) fn discard(&self, path: PathBuf) {
        self.send(Errand::Remove(path));
    }

    fn send(&self, errand: Errand) {
        let Some(errands) = &self.errands else { return };
        if let Err(TrySendError::Full(errand) | TrySendError::Disconnected(errand)) =
            errands.try_send(errand)
        {
            // Only what takes no time, or can't be left out.
            match errand {
                Errand::Prepare(..) => {}
                Errand::Store(summary, log_id) => index::store(&self.dir, &summary, log_id),
                Errand::Remove(path) => remove(&path),
                Errand::Forget(forgotten) => drop(forgotten),
            }
        }
    }
}

impl Keeper {
    /// Waits for the errands; what is being prepared is given up.
    pub(crate) fn stop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.errands = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the keeper of the log panicked");
        }
        if let Some((path, _)) = self.ready.lock().take() {
            remove(&path);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Worker {
    fn run(&self, errand: Errand) {
        match errand {
            Errand::Prepare(path, bytes) => match self.prepare(&path, bytes) {
                Ok(()) => {
                    if let Some((old, _)) = self.ready.lock().replace((path, bytes)) {
                        remove(&old);
                    }
                }
                Err(error) => {
                    // Without it the next segment grows as it is written, which is only slower.
                    tracing::debug!(%error, "a segment was not prepared");
                    remove(&path);
                }
            },
            Errand::Store(summary, log_id) => index::store(&self.dir, &summary, log_id),
            Errand::Remove(path) => remove(&path),
            Errand::Forget(forgotten) => drop(forgotten),
        }
    }

    /// Zeros, written and synced: a later sync of data in their place writes no metadata. Blocks that
    /// are merely allocated would not do, for their first writing is metadata too.
    fn prepare(&self, path: &Path, bytes: u64) -> std::io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES];
        let file = self.disk.create(path)?;
        let mut at = 0;
        while at < bytes {
            if self.stopping.load(Ordering::Acquire) {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            let count = usize::try_from(bytes - at)
                .unwrap_or(ZEROS_BYTES)
                .min(ZEROS_BYTES);
            file.write_all_at(zeros.get(..count).unwrap_or_default(), at)?;
            at += count as u64;
        }
        file.sync()
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "a file of the log can't be removed");
    }
}
