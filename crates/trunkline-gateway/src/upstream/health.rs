//! Whether a target is healthy: counts of how it answered, and what they come to.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Checks;

/// How a target answered: a request, or a question after its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Status(u16),
    /// It takes connections, and no more was asked.
    Well,
    /// No connection, or one that broke.
    Nothing,
    /// Not in time.
    Late,
}

/// What counts for what, and how often it takes. Of a count of 0 nothing comes.
#[derive(Debug)]
pub(crate) struct Rules {
    healthy: Statuses,
    unhealthy: Statuses,
    successes: u8,
    http_failures: u8,
    tcp_failures: u8,
    timeouts: u8,
}

/// A set of statuses, a bit each.
#[derive(Debug, Default)]
struct Statuses([u64; 16]);

impl Statuses {
    fn of(statuses: &[u16]) -> Self {
        let mut set = Self::default();
        for status in statuses {
            if let Some(word) = set.0.get_mut(usize::from(status / 64)) {
                *word |= 1 << (status % 64);
            }
        }
        set
    }

    fn has(&self, status: u16) -> bool {
        let word = self.0.get(usize::from(status / 64));
        word.is_some_and(|word| word & (1 << (status % 64)) != 0)
    }
}

impl Rules {
    pub(crate) fn of(checks: &Checks) -> Self {
        let count = |count: u32| u8::try_from(count).unwrap_or(u8::MAX);
        Self {
            healthy: Statuses::of(&checks.healthy_statuses),
            unhealthy: Statuses::of(&checks.unhealthy_statuses),
            successes: count(checks.successes),
            http_failures: count(checks.http_failures),
            tcp_failures: count(checks.tcp_failures),
            timeouts: count(checks.timeouts),
        }
    }

    /// Whether nothing ever comes of an answer.
    pub(crate) fn are_off(&self) -> bool {
        let counts = [
            self.successes,
            self.http_failures,
            self.tcp_failures,
            self.timeouts,
        ];
        counts == [0; 4]
    }
}

/// What is known of a target's health.
///
/// # Source
/// The counters of Kong's health checks: a success clears the failures, a failure clears the successes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) is_healthy: bool,
    successes: u8,
    http_failures: u8,
    tcp_failures: u8,
    timeouts: u8,
}

impl State {
    pub(crate) const HEALTHY: Self = Self {
        is_healthy: true,
        successes: 0,
        http_failures: 0,
        tcp_failures: 0,
        timeouts: 0,
    };

    /// What is known after this as well.
    #[must_use]
    pub(crate) fn after(mut self, said: Said, rules: &Rules) -> Self {
        let (count, enough) = match said {
            Said::Well => return self.after_success(rules),
            Said::Status(status) if rules.healthy.has(status) => return self.after_success(rules),
            Said::Status(status) if rules.unhealthy.has(status) => {
                (&mut self.http_failures, rules.http_failures)
            }
            Said::Status(_) => return self,
            Said::Nothing => (&mut self.tcp_failures, rules.tcp_failures),
            Said::Late => (&mut self.timeouts, rules.timeouts),
        };
        self.successes = 0;
        if enough == 0 || !self.is_healthy {
            return self;
        }
        *count = count.saturating_add(1);
        if *count >= enough {
            return Self {
                is_healthy: false,
                ..Self::HEALTHY
            };
        }
        self
    }

    fn after_success(self, rules: &Rules) -> Self {
        if self.is_healthy {
            return Self::HEALTHY;
        }
        let successes = self.successes.saturating_add(1);
        match rules.successes {
            0 => self,
            enough if successes >= enough => Self::HEALTHY,
            _ => Self { successes, ..self },
        }
    }

    fn to_bits(self) -> u64 {
        let counts = [
            self.is_healthy.into(),
            self.successes,
            self.http_failures,
            self.tcp_failures,
            self.timeouts,
        ];
        let bits = counts.iter().map(|count| u64::from(*count));
        bits.fold(0, |bits, count| bits << 8 | count)
    }

    fn of_bits(bits: u64) -> Self {
        let [
            ..,
            is_healthy,
            successes,
            http_failures,
            tcp_failures,
            timeouts,
        ] = bits.to_be_bytes();
        Self {
            is_healthy: is_healthy != 0,
            successes,
            http_failures,
            tcp_failures,
            timeouts,
        }
    }
}

/// The health of a target, which many hear of at once.
#[derive(Debug)]
pub(crate) struct Health(AtomicU64);

impl Default for Health {
    fn default() -> Self {
        Self(AtomicU64::new(State::HEALTHY.to_bits()))
    }
}

impl Health {
    pub(crate) fn is_healthy(&self) -> bool {
        State::of_bits(self.0.load(Ordering::Relaxed)).is_healthy
    }

    /// Takes in how it answered. What it is now, if that has changed.
    pub(crate) fn said(&self, said: Said, rules: &Rules) -> Option<bool> {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let before = State::of_bits(bits);
            let after = before.after(said, rules);
            if after == before {
                return None;
            }
            let swap = self.0.compare_exchange_weak(
                bits,
                after.to_bits(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            match swap {
                Ok(_) if after.is_healthy == before.is_healthy => return None,
                Ok(_) => return Some(after.is_healthy),
                Err(other) => bits = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(successes: u8, http_failures: u8, tcp_failures: u8, timeouts: u8) -> Rules {
        Rules {
            healthy: Statuses::of(&[200]),
            unhealthy: Statuses::of(&[500, 999]),
            successes,
            http_failures,
            tcp_failures,
            timeouts,
        }
    }

    fn run(rules: &Rules, said: &[Said]) -> bool {
        let health = Health::default();
        for said in said {
            health.said(*said, rules);
        }
        health.is_healthy()
    }

    const GOOD: Said = Said::Status(200);
    const BAD: Said = Said::Status(500);

    #[test]
    fn enough_failures_of_one_kind_are_needed_and_a_success_clears_them() {
        let rules = rules(2, 3, 2, 1);
        assert!(run(&rules, &[BAD, BAD]));
        assert!(!run(&rules, &[BAD, BAD, BAD]));
        assert!(run(&rules, &[BAD, BAD, GOOD, BAD, BAD]));
        // Each kind has a count of its own, and what is in neither list is nothing.
        assert!(run(&rules, &[BAD, Said::Nothing, BAD]));
        assert!(run(&rules, &[Said::Status(404); 99]));
        assert!(!run(&rules, &[Said::Status(999), BAD, BAD]));
        assert!(!run(&rules, &[Said::Nothing, Said::Nothing]));
        assert!(!run(&rules, &[Said::Late]));
    }

    #[test]
    fn successes_in_a_row_bring_one_back() {
        let rules = rules(2, 1, 1, 1);
        assert!(!run(&rules, &[BAD, GOOD]));
        assert!(!run(&rules, &[BAD, GOOD, BAD, GOOD]));
        assert!(run(&rules, &[BAD, GOOD, GOOD]));
    }

    #[test]
    fn what_counts_for_nothing_changes_nothing() {
        let off = rules(0, 0, 0, 0);
        assert!(off.are_off());
        assert!(run(&off, &[BAD, Said::Nothing, Said::Late, BAD]));
        // Without successes nothing brings one back but who asks it.
        let one_way = rules(0, 1, 0, 0);
        assert!(!run(&one_way, &[BAD, GOOD, GOOD, GOOD]));
        // And still a success clears what failed before it.
        assert!(run(&rules(0, 2, 0, 0), &[BAD, GOOD, BAD]));
    }

    #[test]
    fn a_change_is_told_once() {
        let (rules, health) = (rules(1, 2, 0, 0), Health::default());
        let told: Vec<_> = [BAD, BAD, BAD, GOOD, GOOD]
            .map(|said| health.said(said, &rules))
            .into();
        assert_eq!(told, [None, Some(false), None, Some(true), None]);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_known(bits in any::<u64>()) {
            let state = State::of_bits(bits);
            prop_assert_eq!(State::of_bits(state.to_bits()), state);
        }

        /// Whatever happens: unhealthy only after enough of one kind since the last success, healthy only after
        /// enough successes in a row.
        #[test]
        fn nobody_is_judged_by_less_than_enough(
            enough in 1_u8..5,
            events in proptest::collection::vec(0_u8..5, 0..200),
        ) {
            let rules = rules(enough, enough, enough, enough);
            let mut state = State::HEALTHY;
            let (mut failed, mut good) = ([0_u8; 3], 0_u8);
            for event in events {
                let was = state.is_healthy;
                let said = [GOOD, BAD, Said::Nothing, Said::Late, Said::Status(404)][usize::from(event)];
                state = state.after(said, &rules);
                match event {
                    0 => {
                        failed = [0; 3];
                        good = good.saturating_add(1);
                    }
                    1..=3 => {
                        failed[usize::from(event) - 1] += 1;
                        good = 0;
                    }
                    _ => {}
                }
                if was && !state.is_healthy {
                    prop_assert_eq!(failed[usize::from(event) - 1], enough);
                }
                if !was && state.is_healthy {
                    prop_assert!(good >= enough);
                }
                if was != state.is_healthy {
                    (failed, good) = ([0; 3], 0);
                }
            }
        }
    }
}
