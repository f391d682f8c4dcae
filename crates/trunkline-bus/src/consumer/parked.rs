//! Keys that are parked, and the letters on their way to the lot.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;
use trunkline_core::{Env, Error, report};

use super::item::{Item, Key};
use super::oldest::Oldest;
use super::source::RECONNECT;
use crate::{DeadLetter, Receipt};

/// At most so many letters go to the lot at once.
const BATCH_MAX: usize = 256;

/// The parked keys of a group. Letters go to the lot one batch at a time, in the order in which they
/// were parked, so that a key's letters keep theirs; a batch that fails is tried again until it is kept.
pub(super) struct Parked {
    group: Key,
    keys: HashMap<Key, ParkedKey>,
    queue: VecDeque<(DeadLetter, Held)>,
    busy: bool,
    failures: u32,
    pub(super) oldest: Arc<Oldest>,
    pub(super) retry_at: Option<Instant>,
}

/// Letters on their way to the lot, and in the same order what is settled when it has them.
pub(super) struct Batch {
    pub(super) letters: Vec<DeadLetter>,
    pub(super) held: Vec<Held>,
}

/// The delivery of a letter's event: it is acknowledged when the lot has the letter.
pub(super) struct Held {
    pub(super) receipt: Receipt,
    /// The lane that holds it.
    pub(super) class: usize,
}

#[derive(Default)]
struct ParkedKey {
    /// Counts the letters parked since the consumer started.
    version: u64,
    /// Letters that the lot does not have yet.
    pending: usize,
    freeing: Vec<Freeing>,
}

/// A request to free a key that had no letters in the lot when it had parked `version` letters.
pub(super) struct Freeing {
    pub(super) version: u64,
    pub(super) freed: oneshot::Sender<bool>,
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
            oldest,
            failures: 0,
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
        parked.version += 1;
        parked.pending += 1;
        let now = env.now();
        let letter = DeadLetter {
            id: env.id().to_string().into(),
            group: self.group.clone(),
            key,
            envelope: item.envelope,
            original: None,
            error: error.map(|error| report(error).to_string()),
            code: error.map(|error| error.code().to_owned()),
            attempts: item.meta.attempts,
            replays: 0,
            parked_at: now,
            failed_at: error.map(|_| now),
        };
        let receipt = item.meta.receipt;
        self.queue.push_back((letter, Held { receipt, class }));
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

    /// The lot has these keys' letters: settles who waited for that.
    pub(super) fn kept<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        self.busy = false;
        self.failures = 0;
        for key in keys {
            let Some(parked) = self.keys.get_mut(key) else {
                continue;
            };
            parked.pending = parked.pending.saturating_sub(1);
            if parked.pending == 0 && !parked.freeing.is_empty() {
                let waiting = std::mem::take(&mut parked.freeing);
                for freeing in waiting {
                    self.free(key, freeing);
                }
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
            parked.freeing.clear();
        }
    }

    /// How many letters a key has parked; none if it is not parked.
    pub(super) fn version(&self, key: &Key) -> Option<u64> {
        self.keys.get(key).map(|parked| parked.version)
    }

    /// Frees a key if nothing was parked since its letters were seen to be gone; answers when that is certain.
    pub(super) fn free(&mut self, key: &Key, freeing: Freeing) {
        let Some(parked) = self.keys.get_mut(key) else {
            answer(freeing.freed, true);
            return;
        };
        if parked.pending > 0 {
            parked.freeing.push(freeing);
            return;
        }
        let free = parked.version == freeing.version;
        if free {
            self.keys.remove(key);
        }
        answer(freeing.freed, free);
    }
}

/// Answers a request; whoever asked may have gone.
pub(super) fn answer<T>(to: oneshot::Sender<T>, with: T) {
    drop(to.send(with));
}
