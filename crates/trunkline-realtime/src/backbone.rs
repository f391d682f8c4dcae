//! Several nodes as one: what is sent goes through one log that all of them read.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::sleep;
use trunkline_core::{Error, ErrorKind, Result, report};

use crate::namespace::Shape;
use crate::packet::unwritable;
use crate::realtime::Inner;
use crate::recovery::Away;
use crate::rooms::Target;

/// So much may wait to be written while the log is away; what comes then is refused.
const UNSENT_MAX: usize = 4_096;
/// So many entries are written at once.
const BATCH_MAX: usize = 256;
/// Ids of entries that may come a second time: whoever wrote them had no answer, and wrote them again.
const SEEN_MAX: usize = 16_384;
/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(200);

/// The place of an entry in the log: `1700000000000-0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(
    /// The greater part.
    pub u64,
    /// The smaller part.
    pub u64,
);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for Offset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(
                "offset_invalid",
                "expected an offset such as 1700000000000-0",
            )
        };
        let (great, small) = text.split_once('-').ok_or_else(bad)?;
        let number = |text: &str| text.parse().map_err(|_| bad());
        Ok(Self(number(great)?, number(small)?))
    }
}

/// What nodes share: a log, and a memory of who was cut off.
///
/// # Guarantees that it has to give
/// Everybody reads the same entries in the same order. What is remembered is recalled once, by one of those who ask.
pub trait Backbone: Send + Sync + 'static {
    /// Adds entries at the end, in this order.
    ///
    /// # Errors
    /// `Unavailable`, `Unknown` whether it was done: it is tried again.
    fn append<'a>(&'a self, entries: &'a [Bytes]) -> BoxFuture<'a, Result<()>>;

    /// The last entries, at most so many.
    fn latest(&self, max: usize) -> BoxFuture<'_, Result<Vec<(Offset, Bytes)>>>;

    /// Entries after a place, as soon as there are any; none after a while.
    fn read(&self, after: Offset) -> BoxFuture<'_, Result<Vec<(Offset, Bytes)>>>;

    /// Keeps a value for a while.
    fn remember<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        within: Duration,
    ) -> BoxFuture<'a, Result<()>>;

    /// Gives it and forgets it.
    fn recall<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>>>;
}

/// What was sent, as it stands in the log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    id: u64,
    namespace: ByteString,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rooms: Vec<ByteString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    except: Option<ByteString>,
    pub(crate) event: String,
    pub(crate) data: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bytes: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    volatile: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latest: Option<ByteString>,
}

impl Sent {
    pub(crate) fn target(&self) -> Target {
        Target {
            rooms: self.rooms.clone(),
            except: self.except.clone(),
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape {
            volatile: self.volatile,
            latest: self.latest.clone(),
        }
    }

    pub(crate) fn attachments(&self) -> Vec<Bytes> {
        let decoded = self
            .bytes
            .iter()
            .filter_map(|text| STANDARD.decode(text).ok());
        decoded.map(Bytes::from).collect()
    }
}

/// A node's way into the log.
pub(crate) struct Shared {
    backbone: Arc<dyn Backbone>,
    unsent: mpsc::Sender<Bytes>,
    new_id: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Shared {
    /// Puts something into the log, from which everybody gets it.
    ///
    /// # Errors
    /// `InvalidInput` when the data can't be written as JSON; `Overloaded` when the log is away and too much waits for it.
    pub(crate) fn send(
        &self,
        to: (&ByteString, &Target),
        event: (&str, &impl Serialize),
        what: (&[Bytes], Shape),
    ) -> Result<()> {
        let entry = entry((self.new_id)(), to, event, what)?;
        self.unsent.try_send(entry).map_err(|_| {
            let text = "the nodes' log is away, and too much waits for it";
            Error::new(ErrorKind::Overloaded, "backbone_behind", text)
        })
    }

    /// Puts something into the log that has an id of its own, and waits until it is there.
    ///
    /// # Errors
    /// `InvalidInput` when the data can't be written as JSON; what the log says.
    pub(crate) async fn send_once(
        &self,
        id: u64,
        to: (&ByteString, &Target),
        event: (&str, &(impl Serialize + Sync)),
        shape: Shape,
    ) -> Result<()> {
        let entry = entry(id, to, event, (&[], shape))?;
        self.backbone.append(&[entry]).await
    }

    pub(crate) async fn remember(&self, pid: &str, away: &Away, within: Duration) {
        let Ok(value) = serde_json::to_vec(away) else {
            return;
        };
        if let Err(error) = self.backbone.remember(pid, value.into(), within).await {
            tracing::warn!(error = %report(&error), "somebody who was cut off will not be known again");
        }
    }

    pub(crate) async fn recall(&self, pid: &str) -> Option<Away> {
        match self.backbone.recall(pid).await {
            Ok(value) => serde_json::from_slice(&value?).ok(),
            Err(error) => {
                tracing::warn!(error = %report(&error), "somebody who comes back is not known again");
                None
            }
        }
    }
}

/// What was sent, as it is written into the log.
fn entry(
    id: u64,
    (namespace, target): (&ByteString, &Target),
    (event, data): (&str, &impl Serialize),
    (bytes, shape): (&[Bytes], Shape),
) -> Result<Bytes> {
    let sent = Sent {
        id,
        namespace: namespace.clone(),
        rooms: target.rooms.clone(),
        except: target.except.clone(),
        event: event.to_owned(),
        data: serde_json::value::to_raw_value(data).map_err(unwritable)?,
        bytes: bytes.iter().map(|bytes| STANDARD.encode(bytes)).collect(),
        volatile: shape.volatile,
        latest: shape.latest,
    };
    serde_json::to_vec(&sent)
        .map(Bytes::from)
        .map_err(unwritable)
}

/// Takes part: what is sent here goes into the log, and what stands there to those who are connected here.
///
/// # Errors
/// What the log says; nothing is begun then.
pub(crate) async fn join(inner: &Arc<Inner>, backbone: Arc<dyn Backbone>) -> Result<()> {
    let kept = inner
        .spaces()
        .map(|space| space.packets_max())
        .max()
        .unwrap_or_default();
    let mut follower = Follower {
        inner: inner.clone(),
        seen: HashSet::new(),
        order: VecDeque::new(),
        at: Offset::default(),
    };
    // What was sent before this node began is known to it too, for those who come back here.
    for (offset, entry) in backbone.latest(kept.max(1)).await? {
        follower.take(offset, &entry, false);
    }
    let (unsent, written) = mpsc::channel(UNSENT_MAX);
    let env = inner.env.clone();
    let shared = Arc::new(Shared {
        backbone: backbone.clone(),
        unsent,
        new_id: Box::new(move || env.random_u64()),
    });
    for space in inner.spaces() {
        space.share(shared.clone());
    }
    let stop = inner.stop.clone();
    let log = backbone.clone();
    inner
        .tasks
        .spawn(async move { write(&*log, written, stop).await });
    inner
        .tasks
        .spawn(async move { follower.follow(&*backbone).await });
    Ok(())
}

/// Writes what was sent here, together, until the node stops and nothing waits.
async fn write(
    log: &dyn Backbone,
    mut unsent: mpsc::Receiver<Bytes>,
    stop: tokio_util::sync::CancellationToken,
) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = unsent.recv_many(&mut batch, BATCH_MAX) => if count == 0 { return },
            () = stop.cancelled() => return,
        }
        while let Err(error) = log.append(&batch).await {
            tracing::warn!(error = %report(&error), "the nodes' log can't be written; it is tried again");
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(PAUSE) => {}
            }
        }
        batch.clear();
    }
}

/// Reads the log.
struct Follower {
    inner: Arc<Inner>,
    seen: HashSet<u64>,
    /// In which they came.
    order: VecDeque<u64>,
    at: Offset,
}

impl Follower {
    async fn follow(mut self, log: &dyn Backbone) {
        let stop = self.inner.stop.clone();
        loop {
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                read = log.read(self.at) => read,
            };
            match read {
                Ok(entries) => {
                    for (offset, entry) in entries {
                        self.take(offset, &entry, true);
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %report(&error), "the nodes' log can't be read; it is tried again");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Gives an entry to those who are meant and are here, or only keeps it for those who come back.
    fn take(&mut self, offset: Offset, entry: &[u8], sends: bool) {
        self.at = self.at.max(offset);
        let sent: Sent = match serde_json::from_slice(entry) {
            Ok(sent) => sent,
            Err(error) => {
                tracing::warn!(%error, %offset, "an entry of the nodes' log is not of this server");
                return;
            }
        };
        if !self.seen.insert(sent.id) {
            return;
        }
        if self.order.len() == SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.order.push_back(sent.id);
        // Another node may have a namespace that this one has not.
        if let Some(space) = self.inner.space(&sent.namespace)
            && let Err(error) = space.deliver(offset, &sent, sends)
        {
            tracing::warn!(%error, %offset, "an entry of the nodes' log can't be sent");
        }
    }
}
