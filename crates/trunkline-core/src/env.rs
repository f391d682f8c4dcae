//! The environment: the one place that reads the clock, draws random numbers and makes ids.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// Clock, randomness and ids. Cheap to clone; every part of the toolkit takes its own copy.
///
/// [`Env::system`] is the machine's; [`Env::seeded`] repeats itself, for tests and simulation.
#[derive(Clone)]
pub struct Env(Arc<dyn Source>);

trait Source: Send + Sync {
    fn now(&self) -> Timestamp;
    fn random(&self, into: &mut [u8]);
}

struct System;

impl Source for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn random(&self, into: &mut [u8]) {
        getrandom::fill(into).expect("the operating system gives random bytes");
    }
}

impl Env {
    /// The machine's own clock and randomness.
    pub fn system() -> Self {
        Self(Arc::new(System))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// The time after `wait`, or the end of time.
    pub fn after(&self, wait: Duration) -> Timestamp {
        self.now().checked_add(wait).unwrap_or(Timestamp::MAX)
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

    /// A new id: UUID v7, so that ids sort by the time they were made.
    pub fn id(&self) -> Uuid {
        let millis = u64::try_from(self.now().as_millisecond()).unwrap_or(0);
        let mut random = [0; 10];
        self.0.random(&mut random);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}
