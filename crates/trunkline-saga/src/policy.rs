//! How a step and its compensation are tried.

use std::time::Duration;

use trunkline_core::{Env, Error, Retry};

/// How often something is tried, and how long the pauses are.
///
/// # Shape
/// Pauses double from `first` up to `longest`, each cut by chance by up to a half, so that many do not come at once. What
/// failed and said how long to wait is not tried earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often at most, the first time included.
    pub attempts_max: u32,
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

/// How a step is tried when nothing is said: three times, 1 s to 10 s apart.
pub const STEP: Retries = Retries {
    attempts_max: 3,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(10),
};

/// How a compensation is tried when nothing is said: ten times, 1 s to a minute apart.
pub const UNDO: Retries = Retries {
    attempts_max: 10,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
};

/// How long one attempt may take when nothing is said.
pub const ATTEMPT_WITHIN: Duration = Duration::from_secs(30);

/// The code of what a test does to an attempt: it is not tried again, whatever nobody knows of it.
pub(crate) const PROBED: &str = "saga_probe";

impl Retries {
    /// So many attempts, with the pauses of a step.
    pub fn attempts(attempts_max: u32) -> Self {
        Self {
            attempts_max: attempts_max.max(1),
            ..STEP
        }
    }

    /// No second attempt.
    pub fn none() -> Self {
        Self::attempts(1)
    }

    /// The same with other pauses.
    #[must_use]
    pub fn pauses(self, first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest: longest.max(first),
            ..self
        }
    }

    /// How long to wait after this attempt (from 1) failed so; none when it was the last, or trying again makes no sense.
    ///
    /// Attempts are counted on when a person lets a parked instance go on, so that each such round has all of them.
    pub(crate) fn pause(&self, attempt: u32, error: &Error, env: &Env) -> Option<Duration> {
        let is_final = error.retry() == Retry::Permanent || error.code() == PROBED;
        if is_final || attempt.is_multiple_of(self.attempts_max.max(1)) {
            return None;
        }
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1).min(31));
        let full = self.first.saturating_mul(doubled).min(self.longest);
        let pause = full.mul_f64(1.0 - env.random_f64() / 2.0);
        Some(pause.max(error.retry_after().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_end() {
        let env = Env::seeded(1);
        let retries = Retries::attempts(5).pauses(Duration::from_secs(1), Duration::from_secs(3));
        let error = Error::unavailable("away", "away");
        let pauses: Vec<_> = (1..=6)
            .map(|attempt| retries.pause(attempt, &error, &env))
            .collect();
        for (pause, full) in pauses.iter().zip([1.0, 2.0, 3.0, 3.0]) {
            let pause = pause.unwrap().as_secs_f64();
            assert!((full / 2.0..=full).contains(&pause), "{pause} of {full}");
        }
        assert_eq!(pauses[4], None);
        assert!(pauses[5].is_some(), "a second round begins");
        let late = Error::unavailable("away", "away").with_retry_after(Duration::from_secs(7));
        assert_eq!(retries.pause(1, &late, &env), Some(Duration::from_secs(7)));
        let wrong = Error::invalid("wrong", "wrong");
        assert_eq!(retries.pause(1, &wrong, &env), None);
    }
}
