//! Keys that are parked, and the letters on their way to the lot.
//!
//! What is known here of parked keys is what this member believes; the truth is in the lot, which all
//! members of the group share. Both ways to be wrong are safe:
//!
//! - A key is believed to be parked and is free, because another member has replayed its letters. Its
//!   events go to the lot as letters that only wait, and the lot, which decides it in the transaction
//!   that would keep them, refuses them. They come back in order, and are handled. So nothing is ever
//!   left in the lot with no letter before it, and a replay needs nobody's consent to free a key.
//! - A key is believed to be free and is parked, because another member parked it. That must not be so
//!   while one of its events is handled. Whoever parks an event has it from the transport, which keeps
//!   its partition with that member until it is acknowledged; it is acknowledged only when the letter is
//!   kept. So when the partition's later events come to this member, the letter is in the lot, and
//!   whoever looks there after they came sees it: see [`super::arrivals`].
//!
//! An answer of the lot may be older than what was parked here since it was asked. `version` tells:
//! every event parked, and every letter kept, gives its key a new one, and an answer frees no key whose
//! version is newer than the question, nor one with letters on their way.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;
use trunkline_core::{Env, Error, report};

use super::item::{Item, Key, Meta};
use super::oldest::Oldest;
use super::source::RECONNECT;
use crate::DeadLetter;

/// At most so many letters go to the lot at once.
const BATCH_MAX: usize = 256;

/// The parked keys of a group, as far as this member knows. Letters go to the lot one batch at a time,
/// in the order in which they were parked, so that a key's letters keep theirs; a batch that fails is
/// tried again until it is kept.
pub(super) struct Parked {
    group: Key,
    keys: HashMap<Key, ParkedKey>,
    /// Of one key, those with an error come first: they are what the others wait behind.
    queue: VecDeque<Waiting>,
    busy: bool,
    failures: u32,
    versions: u64,
    pub(super) oldest: Arc<Oldest>,
    pub(super) retry_at: Option<Instant>,
}

type Waiting = (DeadLetter, Held);

/// Letters on their way to the lot, and in the same order what is settled when it has them.
pub(super) struct Batch {
    pub(super) letters: Vec<DeadLetter>,
    pub(super) held: Vec<Held>,
}

/// The delivery of a letter's event: it is acknowledged when the lot has the letter.
pub(super) struct Held {
    pub(super) meta: Meta,
    /// The lane that holds it.
    pub(super) class: usize,
}

/// What becomes of a batch that the lot has answered.
#[derive(Default)]
pub(super) struct Kept {
    /// To acknowledge.
    pub(super) settled: Vec<Held>,
    /// To handle, each in its lane: their keys are free.
    pub(super) free: Vec<(Item, usize)>,
}

#[derive(Default)]
struct ParkedKey {
    version: u64,
    /// Letters that the lot does not have yet.
    pending: usize,
}

impl Parked {
    pub(super) fn new(group: Key, keys: Vec<Key>, oldest: Arc<Oldest>) -> Self {
        let keys = keys
            .into_iter()
            .map(|key| (key, ParkedKey::default()))
            .collect();
        Self {
            group,
            keys,
            queue: VecDeque::new(),
            busy: false,
            failures: 0,
            versions: 0,
            oldest,
            retry_at: None,
        }
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        !self.keys.is_empty() && self.keys.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many events wait to become letters.
    pub(super) fn pending(&self) -> usize {
        self.keys.values().map(|parked| parked.pending).sum()
    }

    /// Whether a batch is on its way to the lot.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Parks an event, with its error unless it only waits behind another: its key is parked from now on.
    pub(super) fn push(&mut self, item: Item, class: usize, error: Option<&Error>, env: &Env) {
        let key = item.key();
        let parked = self.keys.entry(key.clone()).or_default();
        self.versions += 1;
        parked.version = self.versions;
        parked.pending += 1;
        let is_first = parked.pending == 1;
        let now = env.now();
        let letter = DeadLetter {
            id: env.id().to_string().into(),
            group: self.group.clone(),
            key,
            envelope: item.envelope,
            original: None,
            error: error.map(|error| report(error).to_string()),
            code: error.map(|error| error.code().to_owned()),
            retry: error.map(Error::retry),
            attempts: item.meta.attempts,
            replays: 0,
            recoveries: 0,
            parked_at: now,
            failed_at: error.map(|_| now),
            decided_at: None,
            retry_at: None,
        };
        let held = Held {
            meta: item.meta,
            class,
        };
        let at = match error {
            // What waits behind came from other lanes, with which there is no order to keep.
            Some(_) if !is_first => self.after_errors_of(&letter.key),
            _ => None,
        };
        let at = at.unwrap_or(self.queue.len());
        self.queue.insert(at, (letter, held));
    }

    /// The place right behind the queued letters of a key that have an error; none if none is queued.
    fn after_errors_of(&self, key: &Key) -> Option<usize> {
        let mut of_key = self.queue.iter().enumerate();
        let first = of_key.find(|(_, (letter, _))| letter.key == *key)?.0;
        let failed = |(letter, _): &&Waiting| letter.key == *key && letter.error.is_some();
        let last = self.queue.iter().rposition(|one| failed(&one));
        Some(last.map_or(first, |last| last + 1))
    }

    /// The next batch for the lot, if none is on its way.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if self.busy || self.queue.is_empty() || self.retry_at.is_some() {
            return None;
        }
        self.busy = true;
        let count = self.queue.len().min(BATCH_MAX);
        let (letters, held) = self.queue.drain(..count).unzip();
        Some(Batch { letters, held })
    }

    /// The lot has the batch, but for what would have waited behind letters of the keys `free`, which
    /// have none.
    pub(super) fn kept(&mut self, batch: Batch, free: Vec<Key>) -> Kept {
        self.busy = false;
        self.failures = 0;
        let free: HashSet<Key> = free.into_iter().collect();
        let mut kept = Kept::default();
        let mut refused: Vec<Waiting> = Vec::new();
        let mut failed: HashSet<Key> = HashSet::new();
        for (letter, held) in batch.letters.into_iter().zip(batch.held) {
            if letter.error.is_none() && free.contains(&letter.key) {
                refused.push((letter, held));
                continue;
            }
            self.oldest.parked(letter.parked_at);
            if letter.error.is_some() && free.contains(&letter.key) {
                failed.insert(letter.key.clone());
            }
            self.versions += 1;
            if let Some(parked) = self.keys.get_mut(&letter.key) {
                parked.version = self.versions;
                parked.pending = parked.pending.saturating_sub(1);
            }
            kept.settled.push(held);
        }
        // Where one of the key came behind them and is kept by now, they wait behind that one.
        let (behind, refused): (Vec<_>, Vec<_>) = refused
            .into_iter()
            .partition(|(letter, _)| failed.contains(&letter.key));
        for one in behind.into_iter().rev() {
            self.queue.push_front(one);
        }
        self.give_back(refused, &mut kept);
        kept
    }

    /// Gives back events that wait behind nothing, with those of their keys that came since. Where one
    /// of the key has failed meanwhile, they wait behind that one instead.
    fn give_back(&mut self, refused: Vec<Waiting>, kept: &mut Kept) {
        let mut by_key: Vec<(Key, Vec<Waiting>)> = Vec::new();
        for one in refused {
            match by_key.iter_mut().find(|(key, _)| *key == one.0.key) {
                Some((_, of_key)) => of_key.push(one),
                None => by_key.push((one.0.key.clone(), vec![one])),
            }
        }
        for (key, of_key) in by_key {
            let failed = |(letter, _): &Waiting| letter.key == key && letter.error.is_some();
            if let Some(last) = self.queue.iter().rposition(failed) {
                for (n, one) in of_key.into_iter().enumerate() {
                    self.queue.insert(last + 1 + n, one);
                }
                continue;
            }
            self.keys.remove(&key);
            let (behind, others): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.queue)
                .into_iter()
                .partition(|(letter, _)| letter.key == key);
            self.queue = others;
            for (letter, Held { meta, class }) in of_key.into_iter().chain(behind) {
                let envelope = letter.envelope;
                kept.free.push((Item { envelope, meta }, class));
            }
        }
    }

    /// The lot failed: the letters stay first in line, and their events unacknowledged.
    pub(super) fn put_back(&mut self, batch: Batch, env: &Env) {
        self.busy = false;
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + RECONNECT.pause(self.failures, env));
        let letters = batch.letters.into_iter().zip(batch.held);
        for letter in letters.rev() {
            self.queue.push_front(letter);
        }
    }

    /// Gives up what the lot does not have: its events stay with the transport.
    pub(super) fn abandon(&mut self) {
        self.queue.clear();
        self.busy = false;
        self.retry_at = None;
        for parked in self.keys.values_mut() {
            parked.pending = 0;
        }
    }

    /// The version of what is known now, for [`Parked::learn`].
    pub(super) fn version(&self) -> u64 {
        self.versions
    }

    /// A member has parked this key. Says whether that is new.
    pub(super) fn hear(&mut self, key: &Key) -> bool {
        let is_new = !self.contains(key);
        self.versions += 1;
        self.keys.entry(key.clone()).or_default().version = self.versions;
        is_new
    }

    /// The lot was asked which keys are parked (of `asked`, or of all) when `version` was the newest, and
    /// found these. Says which of them are news.
    pub(super) fn learn(&mut self, asked: Option<&[Key]>, found: &[Key], version: u64) -> Vec<Key> {
        let known: HashSet<&Key> = found.iter().collect();
        let is_free = |key: &Key, parked: &ParkedKey| {
            parked.pending == 0 && parked.version <= version && !known.contains(key)
        };
        match asked {
            None => self.keys.retain(|key, parked| !is_free(key, parked)),
            Some(asked) => {
                for key in asked {
                    if self
                        .keys
                        .get(key)
                        .is_some_and(|parked| is_free(key, parked))
                    {
                        self.keys.remove(key);
                    }
                }
            }
        }
        let news = found.iter().filter(|key| !self.keys.contains_key(*key));
        let news: Vec<Key> = news.cloned().collect();
        for key in &news {
            self.keys.insert(key.clone(), ParkedKey::default());
        }
        news
    }
}

/// Answers a request; whoever asked may have gone.
pub(super) fn answer<T>(to: oneshot::Sender<T>, with: T) {
    drop(to.send(with));
}
