//! Who is where, over all nodes: each tells the others who is connected to it, and takes those for gone that are silent.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use trunkline_core::{Result, report};

use crate::backbone::{Backbone, Offset};
use crate::namespace::Space;
use crate::others::{Member, News, Others, What};
use crate::realtime::Inner;

/// How often a node says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// A node that was silent for so long has died, and its members with it.
const SILENT_MAX: Duration = Duration::from_secs(15);
/// A node that was asked for all is not asked again so soon.
const ASKED_AGAIN: Duration = Duration::from_secs(1);
/// So many members are told of at once.
const CHUNK: usize = 200;
/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(200);

/// Who is in a room, or in a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Presence {
    /// The users, and with how many connections each.
    pub users: BTreeMap<ByteString, usize>,
    /// How many connections are of nobody who is known.
    pub unknown: usize,
}

impl Presence {
    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.users.values().sum::<usize>() + self.unknown
    }

    pub(crate) fn of(sockets: BTreeMap<ByteString, Option<ByteString>>) -> Self {
        let mut presence = Self::default();
        for user in sockets.into_values() {
            match user {
                Some(user) => *presence.users.entry(user).or_default() += 1,
                None => presence.unknown += 1,
            }
        }
        presence
    }
}

/// What a node knows of the others, and has still to tell them.
pub(crate) struct Watch {
    node: u64,
    pub(crate) others: Mutex<Others>,
    /// Who has come, gone or changed rooms since the others were told.
    changed: Mutex<HashSet<(ByteString, ByteString)>>,
    more: Notify,
    /// Somebody has to be told all.
    all: Mutex<bool>,
    asks: Mutex<Vec<Option<u64>>>,
}

/// A namespace's way to those who are told of changes.
#[derive(Default)]
pub(crate) struct Told(OnceLock<Arc<Watch>>);

impl Told {
    pub(crate) fn set(&self, watch: Arc<Watch>) {
        drop(self.0.set(watch));
    }

    pub(crate) fn watch(&self) -> Option<&Arc<Watch>> {
        self.0.get()
    }

    /// Somebody has come, gone or changed rooms.
    pub(crate) fn changed(&self, namespace: &ByteString, id: &ByteString) {
        if let Some(watch) = self.0.get() {
            watch.changed.lock().insert((namespace.clone(), id.clone()));
            watch.more.notify_one();
        }
    }
}

/// Begins to tell the others and to hear of them.
///
/// # Errors
/// What the log says; nothing is begun then.
pub(crate) async fn join(inner: &Arc<Inner>, log: Arc<dyn Backbone>) -> Result<()> {
    let at = log.latest(1).await?.last().map(|(offset, _)| *offset);
    let watch = Arc::new(Watch {
        node: inner.env.random_u64(),
        others: Mutex::default(),
        changed: Mutex::default(),
        more: Notify::new(),
        // Who was connected before is told of too.
        all: Mutex::new(true),
        asks: Mutex::new(vec![None]),
    });
    for space in inner.spaces() {
        space.rooms.told.set(watch.clone());
    }
    let teller = Teller {
        watch: watch.clone(),
        inner: Arc::downgrade(inner),
        log: log.clone(),
        number: 0,
        stop: inner.stop.clone(),
    };
    inner.tasks.spawn(teller.run());
    let stop = inner.stop.clone();
    let at = at.unwrap_or_default();
    inner.tasks.spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = watch.follow(&*log, at) => {}
        }
    });
    Ok(())
}

impl Watch {
    /// Hears what the others say.
    async fn follow(&self, log: &dyn Backbone, mut at: Offset) {
        let mut asked_at: Option<Instant> = None;
        loop {
            let entries = match log.read(at).await {
                Ok(entries) => entries,
                Err(error) => {
                    tracing::warn!(error = %report(&error), "who is at other nodes can't be read; it is tried again");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            for (offset, entry) in entries {
                at = at.max(offset);
                match serde_json::from_slice::<News>(&entry) {
                    Ok(news) if news.node != self.node => self.hear(news, &mut asked_at),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, %offset, "an entry of the nodes' log is not of this server");
                    }
                }
            }
        }
    }

    fn hear(&self, news: News, asked_at: &mut Option<Instant>) {
        let node = news.node;
        if let What::Ask(of) = news.what
            && of.is_none_or(|of| of == self.node)
        {
            *self.all.lock() = true;
            self.more.notify_one();
        }
        let now = Instant::now();
        let misses = self.others.lock().learn(news, now);
        if misses && asked_at.is_none_or(|at| now >= at + ASKED_AGAIN) {
            *asked_at = Some(now);
            self.asks.lock().push(Some(node));
            self.more.notify_one();
        }
    }
}

/// Tells the others.
struct Teller {
    watch: Arc<Watch>,
    inner: Weak<Inner>,
    log: Arc<dyn Backbone>,
    number: u64,
    stop: CancellationToken,
}

impl Teller {
    async fn run(mut self) {
        let mut beat = Instant::now();
        loop {
            let said = self.news();
            if !said.is_empty() {
                beat = Instant::now() + BEAT_EVERY;
                self.say(said).await;
            }
            let watch = self.watch.clone();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = watch.more.notified() => {}
                () = sleep_until(beat) => {
                    beat = Instant::now() + BEAT_EVERY;
                    self.say(vec![self.beat()]).await;
                    self.sweep();
                }
            }
        }
        // Whoever does not hear it takes this node for dead soon.
        drop(
            self.log
                .append(&self.written(&[self.news_of(What::Bye)]))
                .await,
        );
    }

    /// What the others don't know yet.
    fn news(&mut self) -> Vec<News> {
        let Some(inner) = self.inner.upgrade() else {
            return Vec::new();
        };
        let asks = std::mem::take(&mut *self.watch.asks.lock());
        let mut news: Vec<_> = asks
            .into_iter()
            .map(|of| self.news_of(What::Ask(of)))
            .collect();
        let changed = std::mem::take(&mut *self.watch.changed.lock());
        if std::mem::take(&mut *self.watch.all.lock()) {
            self.number += 1;
            news.push(self.news_of(What::Anew));
            let all: Vec<_> = inner.spaces().flat_map(|space| space.members()).collect();
            for chunk in all.chunks(CHUNK) {
                self.number += 1;
                news.push(self.news_of(What::Here(chunk.to_vec())));
            }
            return news;
        }
        let (mut here, mut gone) = (Vec::new(), Vec::new());
        for (namespace, id) in changed {
            let space = inner.space(&namespace);
            match space.and_then(|space| space.member(&id)) {
                Some(member) => here.push(member),
                None => gone.push((namespace, id)),
            }
        }
        for chunk in here.chunks(CHUNK) {
            self.number += 1;
            news.push(self.news_of(What::Here(chunk.to_vec())));
        }
        for chunk in gone.chunks(CHUNK) {
            self.number += 1;
            news.push(self.news_of(What::Gone(chunk.to_vec())));
        }
        news
    }

    fn beat(&self) -> News {
        self.news_of(What::Beat)
    }

    fn news_of(&self, what: What) -> News {
        News {
            node: self.watch.node,
            number: self.number,
            what,
        }
    }

    fn written(&self, news: &[News]) -> Vec<Bytes> {
        let written = news.iter().map(serde_json::to_vec);
        written
            .filter_map(|entry| entry.ok().map(Bytes::from))
            .collect()
    }

    /// Writes it down, until that is done or the node stops: what was missed would have to be told anew.
    async fn say(&self, news: Vec<News>) {
        let entries = self.written(&news);
        while let Err(error) = self.log.append(&entries).await {
            tracing::warn!(error = %report(&error), "the other nodes can't be told who is here; it is tried again");
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Forgets nodes that have died. Who was there may come back here, and is remembered by one of those that are left.
    fn sweep(&self) {
        let Some(since) = Instant::now().checked_sub(SILENT_MAX) else {
            return;
        };
        let lost = self.watch.others.lock().sweep(since, self.watch.node);
        if lost.is_empty() {
            return;
        }
        tracing::warn!(
            members = lost.len(),
            "a node has died, and those who were there have gone"
        );
        if let Some(inner) = self.inner.upgrade() {
            let remembered = inner.clone();
            inner.tasks.spawn(async move {
                for member in lost {
                    if let Some(space) = remembered.space(&member.namespace) {
                        remember(&space, member).await;
                    }
                }
            });
        }
    }
}

async fn remember(space: &Arc<Space>, member: Member) {
    let away = space.away(&member);
    if let Some((away, pid)) = away.zip(member.pid)
        && let Some(remembered) = space.remember(pid, away)
    {
        remembered.await;
    }
}
