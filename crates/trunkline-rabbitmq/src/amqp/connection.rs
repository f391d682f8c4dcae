//! A connection: its channels, and what is to be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use trunkline_core::{Error, Result};

use super::codec::{self, put_short};
use super::handshake::{self, Tuned};
use super::{Channel, io, method};
use crate::config::RabbitConfig;
use crate::error;

/// So much may wait to be sent; publishers wait for room beyond it.
pub(crate) const OUT_BYTES_MAX: usize = 1 << 20;

/// What a channel is told, by the task that reads the socket: it must not wait.
pub(crate) trait Events: Send + Sync {
    /// A message was delivered.
    fn delivered(&self, delivered: Delivered) {
        let _ = delivered;
    }

    /// The server has taken (or refused) messages up to this one, or this one alone.
    fn confirmed(&self, tag: u64, multiple: bool, taken: bool) {
        let _ = (tag, multiple, taken);
    }

    /// Nothing more comes: the server closed the channel, ended its consumer, or is gone.
    fn ended(&self, error: Error);
}

/// A message that was delivered.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) routing_key: Bytes,
    /// As they came, for [`read_headers`](super::read_headers).
    pub(crate) properties: Bytes,
    pub(crate) body: Bytes,
}

/// An open connection. Dropping it cuts it; [`Connection::close`] takes leave.
pub(crate) struct Connection {
    pub(crate) wire: Arc<Wire>,
    /// The reader and the writer; they end with the connection.
    tasks: Mutex<JoinSet<()>>,
}

/// What the reader, the writer and the channels share.
pub(crate) struct Wire {
    pub(super) out: Mutex<BytesMut>,
    /// There is something to write.
    pub(super) work: Notify,
    /// Something was written.
    pub(super) room: Notify,
    pub(super) channels: Mutex<Channels>,
    /// Why it ended.
    pub(super) ended: watch::Sender<Option<Arc<Error>>>,
    /// Why the server reads nothing from publishers at the moment.
    pub(super) blocked: Mutex<Option<String>>,
    pub(super) frame_max: usize,
    pub(super) heartbeat: Duration,
    /// How many bytes were written.
    pub(super) written: AtomicU64,
    /// How long an answer may take, or the next of several.
    pub(crate) limit: Duration,
}

pub(super) struct Channels {
    pub(super) open: BTreeMap<u16, Slot>,
    /// Ids that can't be taken: of open channels, and of those whose owner does not know that they are closed.
    pub(super) used: BTreeSet<u16>,
    pub(super) max: u16,
}

/// A channel's end in the reader.
pub(super) struct Slot {
    /// None when it is being closed.
    pub(super) events: Option<Arc<dyn Events>>,
    /// Nobody has it any more: its id is free when it is closed.
    pub(super) orphaned: bool,
    /// Who waits for answers; they come in the order of the questions.
    pub(super) replies: VecDeque<oneshot::Sender<Result<Bytes>>>,
    /// How many answers have come.
    pub(super) answered: u64,
}

impl Connection {
    /// Connects and takes up the virtual host, within the configured limit.
    pub(crate) async fn open(config: &RabbitConfig) -> Result<Self> {
        let opening = handshake::open(config);
        let opened = timeout(config.timeout, opening).await;
        let opened = opened.map_err(|_| error::late("connecting"));
        let opened = opened.and_then(|opened| opened);
        let (stream, tuned, rest) = opened.map_err(|error| error.with("server", config.place()))?;
        let wire = Arc::new(Wire::new(&tuned, config.timeout));
        let (read, write) = stream.into_split();
        let mut tasks = JoinSet::new();
        tasks.spawn(io::read(wire.clone(), read, rest));
        tasks.spawn(io::write(wire.clone(), write));
        Ok(Self {
            wire,
            tasks: Mutex::new(tasks),
        })
    }

    /// Opens a channel that tells `events`.
    pub(crate) async fn channel(&self, events: Arc<dyn Events>) -> Result<Channel> {
        Channel::open(&self.wire, events).await
    }

    pub(crate) fn is_open(&self) -> bool {
        self.wire.ended.borrow().is_none()
    }

    /// Why the server takes nothing from publishers at the moment, if so.
    pub(crate) fn blocked(&self) -> Option<String> {
        self.wire.blocked.lock().clone()
    }

    /// Takes leave: what was sent before has been worked off by the server when it returns. Within the limit; then it
    /// is cut.
    pub(crate) async fn close(&self) {
        if self.is_open() {
            self.wire.send(|out| {
                codec::method(out, 0, method::CONNECTION_CLOSE, |out| {
                    out.extend_from_slice(&200_u16.to_be_bytes());
                    put_short(out, "bye");
                    out.extend_from_slice(&[0; 4]);
                });
            });
            let mut ended = self.wire.ended.subscribe();
            let done = ended.wait_for(Option::is_some);
            if timeout(self.wire.limit, done).await.is_err() {
                tracing::debug!("the server did not say goodbye in time");
            }
        }
        self.wire.end(error::closed());
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.wire.end(error::closed());
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(tuned: &Tuned, limit: Duration) -> Self {
        Self {
            out: Mutex::new(BytesMut::with_capacity(1 << 16)),
            work: Notify::new(),
            room: Notify::new(),
            channels: Mutex::new(Channels {
                open: BTreeMap::new(),
                used: BTreeSet::new(),
                max: tuned.channel_max,
            }),
            ended: watch::Sender::new(None),
            blocked: Mutex::new(None),
            frame_max: tuned.frame_max,
            heartbeat: tuned.heartbeat,
            written: AtomicU64::new(0),
            limit,
        }
    }

    /// Writes something whole into what is to be sent.
    pub(crate) fn send(&self, fill: impl FnOnce(&mut BytesMut)) {
        fill(&mut self.out.lock());
        self.work.notify_one();
    }

    /// Waits until there is room for more to be sent, as long as the socket takes something within each limit.
    pub(crate) async fn room(&self) -> Result<()> {
        let mut written = self.written.load(Ordering::Relaxed);
        loop {
            if let Ok(enough) = timeout(self.limit, self.enough()).await {
                return enough;
            }
            let now = self.written.load(Ordering::Relaxed);
            if std::mem::replace(&mut written, now) == now {
                return Err(error::late("sending"));
            }
        }
    }

    async fn enough(&self) -> Result<()> {
        loop {
            // Asked for before the look, so that what is written meanwhile is not missed.
            let room = self.room.notified();
            self.check()?;
            if self.out.lock().len() < OUT_BYTES_MAX {
                return Ok(());
            }
            room.await;
        }
    }

    /// Why it ended, if it did.
    pub(crate) fn check(&self) -> Result<()> {
        match &*self.ended.borrow() {
            Some(error) => Err(error::again(error)),
            None => Ok(()),
        }
    }

    /// Ends everything on it.
    pub(crate) fn end(&self, error: Error) {
        let why = Arc::new(error);
        let first = self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(why.clone());
            }
            first
        });
        self.work.notify_one();
        self.room.notify_waiters();
        if !first {
            return;
        }
        let slots = std::mem::take(&mut self.channels.lock().open);
        for slot in slots.into_values() {
            slot.end(&why);
        }
    }
}

impl Slot {
    /// Who waits for the answer that has come.
    pub(super) fn next_reply(&mut self) -> Option<oneshot::Sender<Result<Bytes>>> {
        self.answered += 1;
        self.replies.pop_front()
    }

    pub(super) fn end(self, why: &Error) {
        for reply in self.replies {
            // Who no longer waits need not know.
            drop(reply.send(Err(error::again(why))));
        }
        if let Some(events) = self.events {
            events.ended(error::again(why));
        }
    }
}
