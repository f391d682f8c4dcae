//! Where answers are kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::control::Control;
use super::key::Key;

/// More answers than this are not kept, however small.
const ENTRIES_MAX: usize = 1_024;

/// An answer that is kept.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) etag: Option<HeaderValue>,
    pub(super) control: Control,
    /// When it was made, as far as its `Age` tells.
    pub(super) made: Instant,
    pub(super) is_public: bool,
}

impl Entry {
    pub(super) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.age() < self.control.fresh_for()
    }

    /// Whether it may stand in for a target that fails: the policy or the target itself allows its age.
    pub(super) fn stands_in(&self, age_max: Duration) -> bool {
        if self.control.no_cache || self.control.must_revalidate {
            return false;
        }
        let told = self.control.stale_if_error;
        let told = told.map(|stale| stale.saturating_add(self.control.fresh_for()));
        self.age() <= age_max.max(told.unwrap_or_default())
    }

    fn bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        // And what keeping it costs besides.
        self.body.len() + headers + self.path.len() + 256
    }
}

/// The answers of one target, up to a bound of bytes; what was not asked for the longest goes first.
#[derive(Debug)]
pub(super) struct Shelf {
    bytes_max: AtomicUsize,
    /// How many there are, to be looked at without the lock.
    count: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Key, (Arc<Entry>, u64)>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

impl Shelf {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max: AtomicUsize::new(bytes_max),
            count: AtomicUsize::new(0),
            kept: Mutex::default(),
        }
    }

    pub(super) fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
        let mut kept = self.kept.lock();
        kept.shrink(bytes_max);
        self.count.store(kept.entries.len(), Ordering::Release);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(super) fn find(&self, key: &Key) -> Option<Arc<Entry>> {
        let mut kept = self.kept.lock();
        kept.uses += 1;
        let now = kept.uses;
        let (entry, used) = kept.entries.get_mut(key)?;
        let entry = entry.clone();
        let before = std::mem::replace(used, now);
        if let Some(key) = kept.by_use.remove(&before) {
            kept.by_use.insert(now, key);
        }
        Some(entry)
    }

    pub(super) fn put(&self, key: Key, entry: Entry) {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let mut kept = self.kept.lock();
        kept.remove(&key);
        if entry.bytes() <= bytes_max {
            kept.uses += 1;
            let now = kept.uses;
            kept.bytes += entry.bytes();
            kept.by_use.insert(now, key.clone());
            kept.entries.insert(key, (Arc::new(entry), now));
            kept.shrink(bytes_max);
        }
        self.count.store(kept.entries.len(), Ordering::Release);
    }

    /// Forgets every answer of a path, whoever it was for.
    pub(super) fn forget(&self, path: &str) {
        let mut kept = self.kept.lock();
        let all = kept.entries.iter();
        let gone = all.filter(|(_, (entry, _))| entry.path == path);
        let gone: Vec<_> = gone.map(|(key, _)| key.clone()).collect();
        for key in gone {
            kept.remove(&key);
        }
        self.count.store(kept.entries.len(), Ordering::Release);
    }
}

impl Kept {
    fn remove(&mut self, key: &Key) {
        if let Some((entry, used)) = self.entries.remove(key) {
            self.bytes -= entry.bytes();
            self.by_use.remove(&used);
        }
    }

    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max || self.entries.len() > ENTRIES_MAX {
            let Some((_, key)) = self.by_use.pop_first() else {
                return;
            };
            self.remove(&key);
        }
    }
}
