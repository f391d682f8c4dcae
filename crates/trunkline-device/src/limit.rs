//! How much each device may send: a bucket of tokens for each.

use std::collections::HashMap;
use std::time::Duration;

use bytestring::ByteString;
use tokio::time::Instant;

/// A device is told of (to the log and the hook) once in this time; the rest is only counted.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The buckets of all devices. Those that are full say nothing, and make room when there are too many.
#[derive(Debug)]
pub(crate) struct Limiter {
    buckets: HashMap<ByteString, Bucket>,
    devices_max: usize,
    per_second: f64,
    burst_max: f64,
    /// When full buckets were last looked for in vain.
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
    told_at: Option<Instant>,
}

/// What became of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Free,
    /// It sends too much.
    TooFast,
    /// There are too many devices to keep count of one more.
    TooMany,
}

impl Limiter {
    pub(crate) fn new(devices_max: usize, per_second: u32, burst_max: u32) -> Self {
        Self {
            buckets: HashMap::new(),
            devices_max,
            per_second: per_second.into(),
            burst_max: burst_max.into(),
            swept_at: None,
        }
    }

    /// Whether a device may send one more now.
    pub(crate) fn ask(&mut self, device: &ByteString, now: Instant) -> Asked {
        let Some(bucket) = self.bucket(device, now) else {
            return Asked::TooMany;
        };
        if bucket.tokens < 1.0 {
            return Asked::TooFast;
        }
        bucket.tokens -= 1.0;
        Asked::Free
    }

    /// Whether a refusal of this device is told now, or only counted.
    pub(crate) fn tells(&mut self, device: &ByteString, now: Instant) -> bool {
        let Some(bucket) = self.bucket(device, now) else {
            return false;
        };
        let due = bucket.told_at.is_none_or(|at| now - at >= TELL_EVERY);
        if due {
            bucket.told_at = Some(now);
        }
        due
    }

    fn bucket(&mut self, device: &ByteString, now: Instant) -> Option<&mut Bucket> {
        if !self.buckets.contains_key(device) && !self.has_room(now) {
            return None;
        }
        let (per_second, burst_max) = (self.per_second, self.burst_max);
        let bucket = self.buckets.entry(device.clone()).or_insert(Bucket {
            tokens: burst_max,
            at: now,
            told_at: None,
        });
        bucket.tokens =
            (bucket.tokens + (now - bucket.at).as_secs_f64() * per_second).min(burst_max);
        bucket.at = now;
        Some(bucket)
    }

    fn has_room(&mut self, now: Instant) -> bool {
        if self.buckets.len() < self.devices_max {
            return true;
        }
        // A look at all of them costs too much to have one for each stranger.
        let looked = self
            .swept_at
            .is_some_and(|at| now - at < Duration::from_secs(1));
        if looked {
            return false;
        }
        self.swept_at = Some(now);
        let (per_second, burst_max) = (self.per_second, self.burst_max);
        self.buckets.retain(|_, bucket| {
            let is_full = bucket.tokens + (now - bucket.at).as_secs_f64() * per_second >= burst_max;
            let told = bucket.told_at.is_some_and(|at| now - at < TELL_EVERY);
            !is_full || told
        });
        self.buckets.len() < self.devices_max
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const A: ByteString = ByteString::from_static("a");
    const B: ByteString = ByteString::from_static("b");
    const C: ByteString = ByteString::from_static("c");

    #[tokio::test(start_paused = true)]
    async fn a_flood_empties_the_bucket_of_its_own_device_alone() {
        let mut limiter = Limiter::new(10, 5, 20);
        let now = Instant::now();
        let free = (0..100).filter(|_| limiter.ask(&A, now) == Asked::Free);
        assert_eq!(free.count(), 20);
        assert_eq!(limiter.ask(&A, now), Asked::TooFast);
        assert_eq!(limiter.ask(&B, now), Asked::Free);
        advance(Duration::from_secs(1)).await;
        let now = Instant::now();
        let free = (0..100).filter(|_| limiter.ask(&A, now) == Asked::Free);
        assert_eq!(free.count(), 5, "what a second brings");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_once_a_minute() {
        let mut limiter = Limiter::new(10, 5, 20);
        assert!(limiter.tells(&A, Instant::now()));
        advance(Duration::from_secs(59)).await;
        assert!(!limiter.tells(&A, Instant::now()));
        advance(Duration::from_secs(1)).await;
        assert!(limiter.tells(&A, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_beyond_the_bound_are_refused_until_others_are_quiet() {
        let mut limiter = Limiter::new(2, 1, 1);
        assert_eq!(limiter.ask(&A, Instant::now()), Asked::Free);
        assert_eq!(limiter.ask(&B, Instant::now()), Asked::Free);
        assert_eq!(limiter.ask(&C, Instant::now()), Asked::TooMany);
        advance(Duration::from_secs(2)).await;
        assert_eq!(limiter.ask(&C, Instant::now()), Asked::Free);
    }
}
