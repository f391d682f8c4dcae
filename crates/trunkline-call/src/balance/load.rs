//! How slow an instance is: a peak EWMA of its latency.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// After so long, a measurement counts for about a third.
const DECAY: Duration = Duration::from_secs(5);
/// Everything faster is as good.
const FLOOR_NANOS: f64 = 10_000.0;
/// A failure counts as this many times the latency so far, so that one who fails fast draws no calls.
const FAILURE_TIMES: f64 = 4.0;
/// But not as more than this.
const FAILURE_NANOS_MAX: f64 = 1e9;

/// A moving average that jumps to a peak and forgets it slowly, also while nothing is measured. Two who write at the
/// same time may lose one of their measurements, which does no harm.
#[derive(Debug)]
pub struct Load {
    /// Nanoseconds, the bits of an `f64`.
    average: AtomicU64,
    /// When it was that.
    at_nanos: AtomicU64,
}

impl Load {
    /// With this average to begin with, at this time; both in nanoseconds, as everything here.
    pub fn new(average: f64, now: u64) -> Self {
        Self {
            average: AtomicU64::new(average.to_bits()),
            at_nanos: AtomicU64::new(now),
        }
    }

    /// The latency to reckon with, in nanoseconds.
    pub fn nanos(&self, now: u64) -> f64 {
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        if average <= FLOOR_NANOS {
            return FLOOR_NANOS;
        }
        (average * self.weight(now)).max(FLOOR_NANOS)
    }

    /// Takes a measurement in.
    pub fn answered(&self, now: u64, nanos: f64) {
        let weight = self.weight(now);
        let known = f64::from_bits(self.average.load(Ordering::Relaxed)) * weight;
        let average = if nanos > known {
            nanos
        } else {
            known + nanos * (1.0 - weight)
        };
        self.set(now, average);
    }

    /// Takes a failure in that took so long.
    pub fn failed(&self, now: u64, nanos: f64) {
        let penalty = (self.nanos(now) * FAILURE_TIMES).min(FAILURE_NANOS_MAX);
        self.answered(now, nanos.max(penalty));
    }

    fn set(&self, now: u64, average: f64) {
        self.average.store(average.to_bits(), Ordering::Relaxed);
        self.at_nanos.store(now, Ordering::Relaxed);
    }

    /// How much of what was known still counts.
    fn weight(&self, now: u64) -> f64 {
        let age = now.saturating_sub(self.at_nanos.load(Ordering::Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "a share of seconds")]
        let age = age as f64 / DECAY.as_nanos() as f64;
        (-age).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let load = Load::new(1e6, 0);
        load.answered(0, 100e6);
        assert!((load.nanos(0) - 100e6).abs() < 1.0);
        let later = load.nanos(5 * SECOND);
        assert!((36e6..38e6).contains(&later), "{later}");
        load.answered(5 * SECOND, 1e6);
        let measured = load.nanos(5 * SECOND);
        assert!((37e6..38e6).contains(&measured), "{measured}");
        assert!((load.nanos(600 * SECOND) - FLOOR_NANOS).abs() < 1.0);
        // A clock that seems to step back does no harm.
        assert!(load.nanos(0).is_finite());
    }

    #[test]
    fn failing_fast_is_not_being_fast() {
        let load = Load::new(10e6, 0);
        load.failed(0, 1_000.0);
        assert!((load.nanos(0) - 40e6).abs() < 1.0);
        for _ in 0..100 {
            load.failed(0, 1_000.0);
        }
        assert!((load.nanos(0) - FAILURE_NANOS_MAX).abs() < 1.0);
    }
}
