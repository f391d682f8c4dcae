//! What is kept, within a bound.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use trunkline_core::Timestamp;

/// What an entry takes beside its texts.
const ENTRY_BYTES: usize = 512;

/// What an answer is kept under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) [u8; 32]);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) kept_at: Timestamp,
    pub(super) good_for: Duration,
}

impl Entry {
    fn bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        ENTRY_BYTES + headers + self.body.len()
    }
}

/// Answers of at most so many bytes; then what was kept first goes.
#[derive(Debug)]
pub(super) struct Shelf {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Key, Arc<Entry>>,
    /// In the order in which they were kept. A key that was kept again stands here twice.
    order: VecDeque<(Key, Arc<Entry>)>,
    bytes: usize,
}

impl Shelf {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            kept: Mutex::default(),
        }
    }

    /// An answer that is good now, and its age.
    pub(super) fn find(&self, key: &Key, now: Timestamp) -> Option<(Arc<Entry>, Duration)> {
        let entry = self.kept.lock().entries.get(key).cloned()?;
        // A clock that went back makes it no older.
        let age = Duration::try_from(now.duration_since(entry.kept_at)).unwrap_or_default();
        (age < entry.good_for).then_some((entry, age))
    }

    pub(super) fn put(&self, key: Key, entry: Entry) {
        let entry = Arc::new(entry);
        let mut kept = self.kept.lock();
        kept.bytes += entry.bytes();
        kept.order.push_back((key, entry.clone()));
        kept.entries.insert(key, entry);
        while kept.bytes > self.bytes_max {
            let Some((key, first)) = kept.order.pop_front() else {
                return;
            };
            kept.bytes -= first.bytes();
            let is_it = kept
                .entries
                .get(&key)
                .is_some_and(|entry| Arc::ptr_eq(entry, &first));
            if is_it {
                kept.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: usize, at: i64) -> Entry {
        Entry {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from(vec![0; bytes]),
            kept_at: Timestamp::from_second(at).unwrap(),
            good_for: Duration::from_secs(10),
        }
    }

    #[test]
    fn what_was_kept_first_goes_and_what_is_old_is_not_given() {
        let shelf = Shelf::new(4 * (ENTRY_BYTES + 100));
        let at = |second| Timestamp::from_second(second).unwrap();
        let key = |number| Key([number; 32]);
        for number in 0..6 {
            shelf.put(key(number), entry(100, 0));
        }
        let known: Vec<_> = (0..6)
            .filter(|number| shelf.find(&key(*number), at(1)).is_some())
            .collect();
        assert_eq!(known, [2, 3, 4, 5]);
        let (_, age) = shelf.find(&key(5), at(9)).unwrap();
        assert_eq!(age, Duration::from_secs(9));
        assert!(shelf.find(&key(5), at(10)).is_none());
        assert!(
            shelf.find(&key(5), at(-5)).is_some(),
            "a clock that went back"
        );
        // Kept again, it is good again, and the older one's place does not take it along.
        shelf.put(key(2), entry(100, 20));
        for number in 6..9 {
            shelf.put(key(number), entry(100, 20));
        }
        assert!(shelf.find(&key(2), at(21)).is_some());
        assert_eq!(shelf.kept.lock().bytes, 4 * (ENTRY_BYTES + 100));
        shelf.put(key(9), entry(1_000_000, 20));
        assert!(
            shelf.find(&key(9), at(21)).is_none(),
            "larger than all that is kept"
        );
        assert_eq!(shelf.kept.lock().bytes, 0);
    }
}
