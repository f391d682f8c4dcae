//! How a subscription is consumed.

use std::time::Duration;

use bytestring::ByteString;
use trunkline_core::{Env, Error, Priority, Result};

use crate::Start;

/// How one group of one service consumes its topics. Made by [`ConsumerConfig::new`]; every field has
/// a default that suits a handler with a transaction of its own.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConsumerConfig {
    /// The durable group.
    pub group: ByteString,
    /// The service whose work it is; a label of metrics, spans and log lines. The group's name by default.
    pub service: ByteString,
    /// The topics, each with the lanes to read.
    pub topics: Vec<(ByteString, Vec<Priority>)>,
    /// Where to start: where the group was, by default.
    pub start: Start,
    /// How many deliveries may be held, unsettled, ready or being handled. 256 by default. The lanes
    /// share it: a quarter each for high and low, the rest for medium.
    pub in_flight_max: usize,
    /// How many more may be held behind events that wait to be tried again or to be parked, so that
    /// these hold back nobody else. 8,192 by default.
    pub held_max: usize,
    /// How many events one call of the handler gets at most. 1 by default.
    pub batch_max: usize,
    /// How many calls of the handler may run at once, each on keys of its own. 16 by default; at least
    /// one slot is reserved for each higher lane.
    pub handlers_max: usize,
    /// When to try again.
    pub retry: RetryPolicy,
    /// How long one call of the handler may take. 30 s by default.
    pub handler_timeout: Duration,
    /// Which errors are not the event's fault, such as a store that is away: the event is tried until they are gone,
    /// however often that is, and is not parked for them. None by default.
    pub blameless: fn(&Error) -> bool,
    /// How often a dead letter may be replayed in vain before only an edit or force lets it run again.
    /// 5 by default.
    pub replays_max: u32,
}

impl ConsumerConfig {
    /// The defaults, for `group` and no topic yet.
    pub fn new(group: impl Into<ByteString>) -> Self {
        let group = group.into();
        Self {
            service: group.clone(),
            group,
            topics: Vec::new(),
            start: Start::Committed,
            in_flight_max: 256,
            held_max: 8_192,
            batch_max: 1,
            handlers_max: 16,
            retry: RetryPolicy::default(),
            handler_timeout: Duration::from_secs(30),
            blameless: |_| false,
            replays_max: 5,
        }
    }

    /// Adds a topic with the lanes that the group's event types need.
    #[must_use]
    pub fn topic(mut self, name: impl Into<ByteString>, lanes: &[Priority]) -> Self {
        self.topics.push((name.into(), lanes.to_vec()));
        self
    }

    /// Refuses what cannot work, naming the field.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |message: &'static str| {
            Error::invalid("consumer_config_invalid", message).with("group", &self.group)
        };
        if self.group.is_empty() {
            return Err(bad("expected a group with a name"));
        }
        if self.topics.iter().all(|(_, lanes)| lanes.is_empty()) {
            return Err(bad("expected at least one topic with at least one lane"));
        }
        let bounds = [
            self.in_flight_max,
            self.held_max,
            self.batch_max,
            self.handlers_max,
        ];
        if bounds.contains(&0) {
            return Err(bad(
                "expected in_flight_max, held_max, batch_max and handlers_max to be at least 1",
            ));
        }
        if self.retry.attempts_max == 0 {
            return Err(bad("expected retry.attempts_max to be at least 1"));
        }
        Ok(())
    }
}

/// When a failed event is tried again: exponential pauses with full jitter.
///
/// # Source
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often an event is handled before it is parked, the first time included. 3 by default.
    pub attempts_max: u32,
    /// The longest pause after the first failure. 1 s by default.
    pub initial: Duration,
    /// The longest pause at all. 10 s by default.
    pub max: Duration,
    /// Whether the pause is drawn between nothing and its bound, so that failures spread. True by default.
    pub jitter: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(10),
            jitter: true,
        }
    }
}

/// Who asks for a longer pause than this is asked again after it.
const AFTER_MAX: Duration = Duration::from_secs(60);

impl RetryPolicy {
    /// The pause after the `attempt`th failure, whose error may ask for a longer one; within a minute.
    pub(crate) fn pause_after(&self, attempt: u32, error: &Error, env: &Env) -> Duration {
        let asked = error.retry_after().unwrap_or_default().min(AFTER_MAX);
        self.pause(attempt, env).max(asked)
    }

    /// The pause after the `attempt`th failure, counted from 1.
    pub fn pause(&self, attempt: u32, env: &Env) -> Duration {
        let doubled = 2u32.saturating_pow(attempt.saturating_sub(1).min(31));
        let bound = self.initial.saturating_mul(doubled).min(self.max);
        if !self.jitter {
            return bound;
        }
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(env.random_u64() % nanos.saturating_add(1).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let policy = RetryPolicy {
            jitter: false,
            ..RetryPolicy::default()
        };
        let env = Env::system();
        let pauses: Vec<u64> = (1..=6).map(|n| policy.pause(n, &env).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        assert_eq!(policy.pause(u32::MAX, &env).as_secs(), 10);
    }

    #[test]
    fn an_error_may_ask_for_a_longer_pause_but_not_for_any() {
        let policy = RetryPolicy::default();
        let env = Env::system();
        let asks = |secs| {
            let error = Error::unavailable("x", "x").with_retry_after(Duration::from_secs(secs));
            policy.pause_after(1, &error, &env)
        };
        assert_eq!(asks(30), Duration::from_secs(30));
        assert_eq!(asks(86_400), Duration::from_secs(60));
        assert!(asks(0) <= Duration::from_secs(1));
    }

    #[test]
    fn jitter_stays_within_the_bound_and_varies() {
        let policy = RetryPolicy::default();
        let env = Env::system();
        let pauses: Vec<Duration> = (0..64).map(|_| policy.pause(2, &env)).collect();
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(2)));
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_configuration_that_cannot_work_is_refused() {
        assert!(ConsumerConfig::new("g").check().is_err(), "no topic");
        let good = ConsumerConfig::new("g").topic("t", &[Priority::Medium]);
        assert!(good.check().is_ok());
        let mut none = good;
        none.in_flight_max = 0;
        assert!(none.check().is_err());
    }
}
