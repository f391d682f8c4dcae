//! The environment: the one place that reads the clock, draws random numbers and makes ids.

mod seeded;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rand::Rng;
use uuid::Uuid;

pub use self::seeded::Clock;
use self::seeded::Seeded;

/// Clock, randomness and ids. Cheap to clone; every part of the toolkit takes its own copy.
///
/// [`Env::system`] is the machine's; [`Env::seeded`] repeats itself, for tests and simulation.
#[derive(Clone)]
pub struct Env(Arc<dyn Source>);

trait Source: Send + Sync {
    fn now(&self) -> Timestamp;
    fn random(&self, into: &mut [u8]);
    /// Milliseconds and the twelve bits that follow them, as the last id had them.
    fn last_id(&self) -> &AtomicU64;
}

struct System;

/// Shared by all copies of the system's environment, so that ids rise within the whole process.
static SYSTEM_LAST_ID: AtomicU64 = AtomicU64::new(0);

impl Source for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn random(&self, into: &mut [u8]) {
        // A generator per thread that can't be predicted, seeded and reseeded by the system.
        rand::rng().fill_bytes(into);
    }

    fn last_id(&self) -> &AtomicU64 {
        &SYSTEM_LAST_ID
    }
}

impl Env {
    /// The machine's own clock and randomness.
    ///
    /// # Guarantees
    /// Random bytes are fit for secrets. No system call per draw.
    pub fn system() -> Self {
        Self(Arc::new(System))
    }

    /// An environment that repeats itself: the same seed gives the same bytes and ids, and the clock
    /// stands at the start of 2026. For tests; [`Env::manual`] gives the clock's handle as well.
    pub fn seeded(seed: u64) -> Self {
        Self::manual(seed).0
    }

    /// Like [`Env::seeded`], with a handle that sets and advances the clock.
    pub fn manual(seed: u64) -> (Self, Clock) {
        let clock = Clock::new(Timestamp::constant(1_767_225_600, 0));
        let reader = clock.clone();
        (Self::seeded_with_clock(seed, move || reader.now()), clock)
    }

    /// Like [`Env::seeded`], with a clock of the caller's, such as one that follows a paused runtime.
    pub fn seeded_with_clock(
        seed: u64,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Seeded::new(seed, Box::new(clock))))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// The time after `wait`, or the end of time.
    pub fn after(&self, wait: Duration) -> Timestamp {
        self.now().checked_add(wait).unwrap_or(Timestamp::MAX)
    }

    /// Fills `into` with random bytes.
    pub fn random_bytes(&self, into: &mut [u8]) {
        self.0.random(into);
    }

    /// 64 random bits.
    pub fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// 128 random bits.
    pub fn random_u128(&self) -> u128 {
        let mut bytes = [0; 16];
        self.0.random(&mut bytes);
        u128::from_le_bytes(bytes)
    }

    /// A random number from 0.0 up to but not 1.0, for jitter.
    pub fn random_f64(&self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let bits = (self.random_u64() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    /// A new id: UUID v7.
    ///
    /// # Guarantees
    /// Each id is greater than those that this process made before it, on whatever thread and even
    /// when the clock stands still or steps back.
    ///
    /// # Source
    /// RFC 9562, 5.7 and 6.2 method 3: the twelve bits after the milliseconds are their fraction, and
    /// are counted up when the clock has not moved.
    pub fn id(&self) -> Uuid {
        self.id_at(self.now())
    }

    /// As [`Env::id`], for who has asked what time it is.
    pub fn id_at(&self, now: Timestamp) -> Uuid {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let nanos = u64::try_from(now.subsec_nanosecond()).unwrap_or(0) % 1_000_000;
        let tick = (millis << 12) | (nanos * 4096 / 1_000_000);
        let last = self.0.last_id();
        let previous = last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(tick.max(last + 1))
            })
            .unwrap_or(tick);
        let tick = tick.max(previous + 1);
        let mut random = [0; 10];
        self.0.random(&mut random);
        let [low, high, ..] = (tick & 0x0fff).to_le_bytes();
        random[0] = high;
        random[1] = low;
        uuid::Builder::from_unix_timestamp_millis(tick >> 12, &random).into_uuid()
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

#[cfg(test)]
mod tests;
