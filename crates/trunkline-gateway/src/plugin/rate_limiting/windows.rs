//! Counters of fixed windows, for a bounded number of keys.

use std::borrow::Cow;
use std::collections::HashMap;
use std::mem;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use trunkline_core::ByteString;

/// How many keys one generation holds; there are two.
const KEYS_MAX: usize = 65_536;

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Everybody,
    Service(ByteString),
    Consumer(ByteString),
    Credential(ByteString),
    Header(ByteString),
    Address(u64),
}

impl Key {
    /// What it is counted by, and whose it is.
    pub(super) fn parts(&self) -> (&'static str, Cow<'_, [u8]>) {
        match self {
            Self::Everybody => ("everybody", Cow::Borrowed(&[])),
            Self::Service(name) => ("service", Cow::Borrowed(name.as_bytes())),
            Self::Consumer(name) => ("consumer", Cow::Borrowed(name.as_bytes())),
            Self::Credential(id) => ("credential", Cow::Borrowed(id.as_bytes())),
            Self::Header(value) => ("header", Cow::Borrowed(value.as_bytes())),
            Self::Address(bits) => ("address", Cow::Owned(bits.to_be_bytes().to_vec())),
        }
    }
}

/// What is left of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) requests: u32,
    pub(super) reset_seconds: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) left: Vec<Left>,
    /// Seconds until the next request is welcome, if this one is not.
    pub(super) refused_seconds: Option<i64>,
}

/// One key's count in one window.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    window: i64,
    requests: u32,
}

/// Counters of fixed windows that begin with the clock's seconds, minutes and hours, as Kong's do.
///
/// # Guarantees
/// At most 131,072 keys are kept. When a generation is full, the keys that were not seen since the one before it
/// are forgotten and may begin anew; a key that goes on asking is never forgotten.
#[derive(Debug)]
pub(super) struct Windows {
    /// The length of each window in seconds and its bound.
    bounds: Vec<(i64, u32)>,
    generations: Mutex<Generations>,
    keys_max: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Vec<Count>, RandomState>,
    old: HashMap<Key, Vec<Count>, RandomState>,
}

impl Windows {
    pub(super) fn new(bounds: Vec<(i64, u32)>) -> Self {
        Self {
            bounds,
            generations: Mutex::default(),
            keys_max: KEYS_MAX,
        }
    }

    /// Counts one request in every window if all have room for it, and in none otherwise.
    pub(super) fn take(&self, key: Key, now: i64) -> Taken {
        let mut generations = self.generations.lock();
        let counts = generations.counts(key, self.keys_max, self.bounds.len());
        for (count, (seconds, _)) in counts.iter_mut().zip(&self.bounds) {
            let window = now.div_euclid(*seconds);
            if count.window != window {
                *count = Count {
                    window,
                    requests: 0,
                };
            }
        }
        let reset = |seconds: i64| seconds - now.rem_euclid(seconds);
        let both = || counts.iter().zip(&self.bounds);
        let refused_seconds = both()
            .filter(|(count, (_, bound))| count.requests >= *bound)
            .map(|(_, (seconds, _))| reset(*seconds))
            .max();
        if refused_seconds.is_none() {
            for count in counts.iter_mut() {
                count.requests += 1;
            }
        }
        let left = counts.iter().zip(&self.bounds);
        let left = left.map(|(count, (seconds, bound))| Left {
            requests: bound.saturating_sub(count.requests),
            reset_seconds: reset(*seconds),
        });
        Taken {
            left: left.collect(),
            refused_seconds,
        }
    }
}

impl Generations {
    fn counts(&mut self, key: Key, keys_max: usize, windows: usize) -> &mut Vec<Count> {
        if !self.young.contains_key(&key) {
            if self.young.len() >= keys_max {
                self.old = mem::take(&mut self.young);
            }
            let kept = self.old.remove(&key);
            let counts = kept.unwrap_or_else(|| vec![Count::default(); windows]);
            self.young.insert(key.clone(), counts);
        }
        self.young.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(number: usize) -> Key {
        Key::Consumer(number.to_string().into())
    }

    #[test]
    fn a_window_begins_with_the_clock() {
        let windows = Windows::new(vec![(60, 2)]);
        let at = |now| windows.take(consumer(1), now).refused_seconds;
        assert_eq!(at(119), None);
        assert_eq!(at(119), None);
        assert_eq!(at(119), Some(1));
        assert_eq!(at(120), None);
        assert_eq!(
            windows.take(consumer(2), 120).left[0].requests,
            1,
            "another key"
        );
    }

    #[test]
    fn what_one_window_refuses_no_window_counts() {
        let windows = Windows::new(vec![(1, 1), (3600, 3)]);
        for _ in 0..10 {
            windows.take(consumer(1), 7200);
        }
        let taken = windows.take(consumer(1), 7201);
        assert_eq!(taken.refused_seconds, None);
        assert_eq!(taken.left[1].requests, 1, "two were counted, not eleven");
        windows.take(consumer(1), 7202);
        assert_eq!(windows.take(consumer(1), 7203).refused_seconds, Some(3597));
    }

    #[test]
    fn memory_is_bounded_and_whoever_goes_on_is_remembered() {
        let mut windows = Windows::new(vec![(3600, 1)]);
        windows.keys_max = 100;
        windows.take(consumer(0), 0);
        for number in 1..10_000 {
            windows.take(consumer(number), 0);
            assert!(windows.take(consumer(0), 0).refused_seconds.is_some());
        }
        let generations = windows.generations.lock();
        assert!(generations.young.len() + generations.old.len() <= 200);
    }
}
