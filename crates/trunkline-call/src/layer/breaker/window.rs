//! Calls and failures of the last while, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// In so many steps the window slides.
const BUCKETS: u64 = PLACES as u64;
const PLACES: usize = 10;

/// A bucket in one word: which step it is of (24 bits), calls and failures (20 bits each).
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const STEP_MASK: u64 = (1 << 24) - 1;

/// Calls and failures of a sliding window of time.
#[derive(Debug)]
pub(super) struct Window {
    step_millis: AtomicU64,
    buckets: [AtomicU64; PLACES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bucket {
    step: u64,
    calls: u64,
    failures: u64,
}

impl Bucket {
    fn read(word: u64) -> Self {
        Self {
            step: word >> (2 * COUNT_BITS),
            calls: (word >> COUNT_BITS) & COUNT_MAX,
            failures: word & COUNT_MAX,
        }
    }

    fn word(self) -> u64 {
        (self.step << (2 * COUNT_BITS)) | (self.calls << COUNT_BITS) | self.failures
    }
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        Self {
            step_millis: AtomicU64::new(step_millis(length)),
            buckets: Default::default(),
        }
    }

    /// Begins anew, with another length.
    pub(super) fn reset(&self, length: Duration) {
        self.step_millis
            .store(step_millis(length), Ordering::Relaxed);
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
    }

    /// A call ended `at` after the beginning.
    pub(super) fn record(&self, at: Duration, failed: bool) {
        let step = self.step(at);
        let Some(place) = self.buckets.get(place(step)) else {
            return;
        };
        let count = |word: u64| {
            let mut bucket = Bucket::read(word);
            if bucket.step != step {
                bucket = Bucket {
                    step,
                    ..Bucket::default()
                };
            }
            if bucket.calls == COUNT_MAX {
                // The share stays what it is.
                bucket.calls /= 2;
                bucket.failures /= 2;
            }
            bucket.calls += 1;
            bucket.failures += u64::from(failed);
            Some(bucket.word())
        };
        place
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count)
            .ok();
    }

    /// Calls and failures within the window that ends `at` after the beginning.
    pub(super) fn totals(&self, at: Duration) -> (u64, u64) {
        let now = self.step(at);
        let buckets = self.buckets.iter();
        let read = buckets.map(|bucket| Bucket::read(bucket.load(Ordering::Relaxed)));
        read.filter(|bucket| (now.wrapping_sub(bucket.step) & STEP_MASK) < BUCKETS)
            .fold((0, 0), |(calls, failures), bucket| {
                (calls + bucket.calls, failures + bucket.failures)
            })
    }

    fn step(&self, at: Duration) -> u64 {
        let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        // From 1: a bucket that was never written is of step 0, long ago.
        (millis / self.step_millis.load(Ordering::Relaxed).max(1) + BUCKETS) & STEP_MASK
    }
}

fn place(step: u64) -> usize {
    usize::try_from(step % BUCKETS).unwrap_or(0)
}

fn step_millis(length: Duration) -> u64 {
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    (millis / BUCKETS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let window = Window::new(SECOND * 10);
        assert_eq!(window.totals(Duration::ZERO), (0, 0));
        for second in 0..30 {
            // Ten calls a second; those of the first fifteen fail.
            for _ in 0..10 {
                window.record(SECOND * second, second < 15);
            }
        }
        assert_eq!(window.totals(SECOND * 29), (100, 0));
        assert_eq!(window.totals(SECOND * 32), (70, 0));
        assert_eq!(window.totals(SECOND * 60), (0, 0));
        window.record(SECOND * 60, true);
        assert_eq!(window.totals(SECOND * 60), (1, 1));
        window.reset(SECOND * 10);
        assert_eq!(window.totals(SECOND * 60), (0, 0));
    }

    #[test]
    fn more_calls_than_a_bucket_holds_keep_their_share() {
        let window = Window::new(SECOND * 10);
        for call in 0..3 * COUNT_MAX {
            window.record(SECOND, call % 4 == 0);
        }
        let (calls, failures) = window.totals(SECOND);
        assert!(calls <= COUNT_MAX);
        let percent = 100 * failures / calls;
        assert!((24..=25).contains(&percent), "{percent}");
    }
}
