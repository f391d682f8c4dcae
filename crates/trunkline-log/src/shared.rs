//! What publishers, subscriptions and the writer share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytestring::ByteString;
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::{Notify, oneshot};
use trunkline_bus::TopicSpec;
use trunkline_core::{Env, Envelope, Error, Result};

use crate::catalog::Slot;
use crate::config::LogConfig;
use crate::error;
use crate::group::Group;
use crate::partition::Partition;
use crate::read::Files;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: LogConfig,
    pub(crate) env: Env,
    pub(crate) files: Files,
    pub(crate) directory: RwLock<Arc<Directory>>,
    pub(crate) groups: Mutex<HashMap<ByteString, Arc<Group>>>,
    pub(crate) readers: Mutex<Vec<Weak<Group>>>,
    pub(crate) pending: Mutex<Pending>,
    /// The writer waits here for work.
    work: Condvar,
    /// The writer waits, or is about to.
    idle: AtomicBool,
    /// Publishers wait here for room.
    room: Notify,
    /// Cursors whose positions are to be written.
    dirty: Mutex<Vec<(Arc<Group>, usize)>>,
    /// A sync failed.
    poisoned: AtomicBool,
    /// What went wrong at the end.
    pub(crate) failure: Mutex<Option<Error>>,
    /// Woken when the writer has ended.
    end: Notify,
    /// Buffers to use again.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// The topics by name and number, and all partitions by slot.
#[derive(Debug, Default, Clone)]
pub(crate) struct Directory {
    pub(crate) names: HashMap<ByteString, usize>,
    pub(crate) topics: Vec<Arc<Topic>>,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) index: usize,
    pub(crate) spec: TopicSpec,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

/// What waits for the writer.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) bytes: usize,
    pub(crate) events: usize,
    pub(crate) controls: Vec<(Control, Done)>,
    /// The writer shall end when it has done what waits.
    pub(crate) closing: bool,
    /// The writer has ended.
    pub(crate) closed: bool,
}

pub(crate) type Done = oneshot::Sender<Result<()>>;

/// Encoded events of one publisher.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) events: Vec<(Slot, u32, Envelope)>,
    pub(crate) done: Done,
}

/// What else the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Control {
    Declare(Vec<TopicSpec>),
    /// Make a durable group known.
    Group(ByteString),
    /// Forget a durable group.
    Forget(ByteString),
    /// Write all positions now.
    Flush,
}

impl Shared {
    pub(crate) fn new(config: LogConfig, env: Env, files: Files) -> Self {
        Self {
            config,
            env,
            files,
            directory: RwLock::default(),
            groups: Mutex::default(),
            readers: Mutex::default(),
            pending: Mutex::default(),
            work: Condvar::new(),
            idle: AtomicBool::new(false),
            room: Notify::new(),
            dirty: Mutex::default(),
            poisoned: AtomicBool::new(false),
            failure: Mutex::default(),
            end: Notify::new(),
            buffers: Mutex::default(),
        }
    }

    pub(crate) fn topic(&self, name: &ByteString) -> Result<Arc<Topic>> {
        let directory = self.directory.read();
        let topic = directory
            .names
            .get(name)
            .and_then(|at| directory.topics.get(*at));
        topic.cloned().ok_or_else(|| {
            Error::not_found("topic_undeclared", "the topic is not declared").with("topic", name)
        })
    }

    /// Hands events to the writer, waiting for room.
    pub(crate) async fn enqueue(&self, chunk: Chunk) -> Result<()> {
        let mut room = std::pin::pin!(self.room.notified());
        loop {
            room.as_mut().enable();
            {
                let mut pending = self.pending.lock();
                if pending.closing {
                    return Err(error::closed());
                }
                let bytes = pending.bytes + chunk.bytes.len();
                if pending.bytes == 0 || bytes <= self.config.pending_bytes_max {
                    pending.bytes = bytes;
                    pending.events += chunk.events.len();
                    pending.chunks.push(chunk);
                    self.wake(&pending);
                    return Ok(());
                }
            }
            room.as_mut().await;
            room.set(self.room.notified());
        }
    }

    /// Asks the writer for something and waits until it is done.
    pub(crate) async fn ask(&self, control: Control) -> Result<()> {
        let (done, answer) = oneshot::channel();
        {
            let mut pending = self.pending.lock();
            if pending.closing {
                return Err(error::closed());
            }
            pending.controls.push((control, done));
            self.wake(&pending);
        }
        answer.await.map_err(|_| error::closed())?
    }

    /// A cursor's position is to be written, with the next batch or soon.
    pub(crate) fn soil(&self, group: Arc<Group>, cursor: usize) {
        self.dirty.lock().push((group, cursor));
        if self.idle.load(Ordering::SeqCst) {
            // The lock is free only while the writer waits: it can't miss this.
            let pending = self.pending.lock();
            self.wake(&pending);
        }
    }

    /// The same from the writer itself, which plans when.
    pub(crate) fn soil_quietly(&self, group: Arc<Group>, cursor: usize) {
        self.dirty.lock().push((group, cursor));
    }

    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// The writer has ended: nobody may wait for it.
    pub(crate) fn ended(&self) {
        let mut pending = self.pending.lock();
        (pending.closing, pending.closed) = (true, true);
        pending.chunks.clear();
        pending.controls.clear();
        drop(pending);
        for group in self.all_groups() {
            group.close();
        }
        self.room.notify_waiters();
        self.end.notify_waiters();
    }

    /// Waits until the writer has ended.
    pub(crate) async fn wait_end(&self) {
        let mut end = std::pin::pin!(self.end.notified());
        loop {
            end.as_mut().enable();
            if self.pending.lock().closed {
                return;
            }
            end.as_mut().await;
            end.set(self.end.notified());
        }
    }

    pub(crate) fn take_dirty(&self) -> Vec<(Arc<Group>, usize)> {
        std::mem::take(&mut *self.dirty.lock())
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.lock().is_empty()
    }

    /// Asks the writer to end. False if it was asked before.
    pub(crate) fn begin_close(&self) -> bool {
        let mut pending = self.pending.lock();
        let first = !std::mem::replace(&mut pending.closing, true);
        self.wake(&pending);
        drop(pending);
        self.room.notify_waiters();
        first
    }

    /// The writer waits for work, at most until a time.
    pub(crate) fn wait(
        &self,
        pending: &mut parking_lot::MutexGuard<'_, Pending>,
        until: Option<tokio::time::Instant>,
        mut is_due: impl FnMut() -> bool,
    ) {
        self.idle.store(true, Ordering::SeqCst);
        if !is_due() {
            match until {
                Some(until) => {
                    self.work.wait_until(pending, until.into_std());
                }
                None => self.work.wait(pending),
            }
        }
        self.idle.store(false, Ordering::SeqCst);
    }

    fn wake(&self, _pending: &Pending) {
        if self.idle.load(Ordering::SeqCst) {
            self.work.notify_one();
        }
    }

    /// There is room again.
    pub(crate) fn made_room(&self) {
        self.room.notify_waiters();
    }

    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.buffers.lock().pop().unwrap_or_default()
    }

    pub(crate) fn give_buffer(&self, mut buffer: Vec<u8>) {
        const KEPT: usize = 16;
        const KEPT_BYTES_MAX: usize = 1 << 20;
        if buffer.capacity() <= KEPT_BYTES_MAX {
            buffer.clear();
            let mut buffers = self.buffers.lock();
            if buffers.len() < KEPT {
                buffers.push(buffer);
            }
        }
    }

    /// All groups that anybody may be in.
    pub(crate) fn all_groups(&self) -> Vec<Arc<Group>> {
        let mut all: Vec<Arc<Group>> = self.groups.lock().values().cloned().collect();
        all.extend(self.readers.lock().iter().filter_map(Weak::upgrade));
        all
    }
}
