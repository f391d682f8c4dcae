//! What declarations and the configuration say of an operation, or of all of a target.

use std::time::Duration;

use serde::Deserialize;

use super::{BreakerPolicy, BudgetPolicy, BulkheadPolicy, GrpcCodes, Policy, TargetPolicy};

/// What is said of one operation, or of all of a target; what is left out is said elsewhere. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Operation {
    /// See [`Policy::timeout`].
    pub timeout_ms: Option<u64>,
    /// See [`Policy::attempt_timeout`].
    pub attempt_timeout_ms: Option<u64>,
    /// See [`Policy::idempotent`].
    pub idempotent: Option<bool>,
    /// See [`Policy::attempts_max`].
    pub attempts_max: Option<u32>,
    /// See [`Policy::retry_initial`].
    pub retry_initial_ms: Option<u64>,
    /// See [`Policy::retry_growth_percent`].
    pub retry_growth_percent: Option<u32>,
    /// See [`Policy::retry_max`].
    pub retry_max_ms: Option<u64>,
    /// See [`Policy::retry_codes`].
    pub retry_codes: Option<GrpcCodes>,
    /// See [`Policy::hedge_after`].
    pub hedge_after_ms: Option<u64>,
    /// See [`Policy::cache`].
    pub cache: Option<bool>,
    /// See [`Policy::fallback_age_max`].
    pub fallback_age_max_ms: Option<u64>,
    /// See [`Policy::coalesce`].
    pub coalesce: Option<bool>,
    /// Of a target alone: see [`BudgetPolicy`].
    pub(super) budget: Option<BudgetSection>,
    /// Of a target alone: see [`BreakerPolicy`].
    breaker: Option<BreakerSection>,
    /// Of a target alone: see [`BulkheadPolicy`].
    bulkhead: Option<BulkheadSection>,
    /// Of a target alone: see [`TargetPolicy::cache_bytes_max`].
    cache_bytes_max: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BudgetSection {
    pub(super) percent: Option<u32>,
    pub(super) per_second: Option<u32>,
    pub(super) saved_max: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BreakerSection {
    failures_max: Option<u32>,
    reset_ms: Option<u64>,
    rate_percent: Option<u32>,
    window_ms: Option<u64>,
    calls_min: Option<u32>,
    rate_reset_ms: Option<u64>,
    probes: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BulkheadSection {
    in_flight_max: Option<usize>,
    waiting_max: Option<usize>,
}

impl Operation {
    /// Says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a call may take.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout_ms = Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// How long one attempt may take until its answer begins.
    #[must_use]
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout_ms = Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Repeating a call is safe.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = Some(true);
        self
    }

    /// A call is tried once.
    #[must_use]
    pub fn no_retry(mut self) -> Self {
        self.attempts_max = Some(1);
        self
    }

    /// A call is asked a second time beside the first if it is late.
    #[must_use]
    pub fn hedge_after(mut self, late: Duration) -> Self {
        self.hedge_after_ms = Some(u64::try_from(late.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// How old an answer may be that is given when the target fails.
    #[must_use]
    pub fn fallback_age_max(mut self, age: Duration) -> Self {
        self.fallback_age_max_ms = Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        self
    }

    pub(super) fn apply(&self, policy: &mut Policy) {
        let millis = |value: Option<u64>, of: &mut Duration| {
            *of = value.map_or(*of, Duration::from_millis);
        };
        millis(self.timeout_ms, &mut policy.timeout);
        millis(self.retry_initial_ms, &mut policy.retry_initial);
        millis(self.retry_max_ms, &mut policy.retry_max);
        millis(self.fallback_age_max_ms, &mut policy.fallback_age_max);
        let growth = self.retry_growth_percent;
        policy.retry_growth_percent = growth.unwrap_or(policy.retry_growth_percent);
        policy.retry_codes = self.retry_codes.or(policy.retry_codes);
        policy.idempotent = self.idempotent.or(policy.idempotent);
        policy.attempts_max = self.attempts_max.unwrap_or(policy.attempts_max);
        policy.cache = self.cache.unwrap_or(policy.cache);
        policy.coalesce = self.coalesce.unwrap_or(policy.coalesce);
        if let Some(limit) = self.attempt_timeout_ms {
            policy.attempt_timeout = Some(Duration::from_millis(limit));
        }
        if let Some(late) = self.hedge_after_ms {
            policy.hedge_after = Some(Duration::from_millis(late));
        }
    }

    pub(super) fn apply_to_target(&self, target: &mut TargetPolicy) {
        self.apply(&mut target.calls);
        target.cache_bytes_max = self.cache_bytes_max.unwrap_or(target.cache_bytes_max);
        if let Some(said) = self.budget {
            let of: &mut BudgetPolicy = &mut target.budget;
            of.percent = said.percent.unwrap_or(of.percent);
            of.per_second = said.per_second.unwrap_or(of.per_second);
            of.saved_max = said.saved_max.unwrap_or(of.saved_max);
        }
        if let Some(said) = self.breaker {
            let of: &mut BreakerPolicy = &mut target.breaker;
            of.failures_max = said.failures_max.unwrap_or(of.failures_max);
            of.rate_percent = said.rate_percent.unwrap_or(of.rate_percent);
            of.calls_min = said.calls_min.unwrap_or(of.calls_min);
            of.probes = said.probes.unwrap_or(of.probes);
            of.reset = said.reset_ms.map_or(of.reset, Duration::from_millis);
            of.rate_reset = said
                .rate_reset_ms
                .map_or(of.rate_reset, Duration::from_millis);
            of.window = said.window_ms.map_or(of.window, Duration::from_millis);
        }
        if let Some(said) = self.bulkhead {
            let of: &mut BulkheadPolicy = &mut target.bulkhead;
            of.in_flight_max = said.in_flight_max.unwrap_or(of.in_flight_max);
            of.waiting_max = said.waiting_max.unwrap_or(of.waiting_max);
        }
    }

    pub(super) fn is_of_target_alone(&self) -> bool {
        let has_shared = self.budget.is_some() || self.breaker.is_some();
        has_shared || self.bulkhead.is_some() || self.cache_bytes_max.is_some()
    }

    /// What is out of its bounds.
    pub(super) fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: Option<u64>, from: u64, to: u64| match value {
            Some(value) if !(from..=to).contains(&value) => Err(format!(
                "expected `{name}` from {from} to {to}, found {value}"
            )),
            _ => Ok(()),
        };
        let many = |value: Option<u32>| value.map(u64::from);
        let size = |value: Option<usize>| value.map(|value| value as u64);
        within("timeout_ms", self.timeout_ms, 1, DAY_MS)?;
        within("attempt_timeout_ms", self.attempt_timeout_ms, 1, DAY_MS)?;
        let growth = many(self.retry_growth_percent);
        within("retry_growth_percent", growth, 100, 10_000)?;
        within("attempts_max", many(self.attempts_max), 1, 10)?;
        within("retry_initial_ms", self.retry_initial_ms, 1, HOUR_MS)?;
        within("retry_max_ms", self.retry_max_ms, 1, HOUR_MS)?;
        within("hedge_after_ms", self.hedge_after_ms, 1, HOUR_MS)?;
        within(
            "fallback_age_max_ms",
            self.fallback_age_max_ms,
            0,
            30 * DAY_MS,
        )?;
        within("cache_bytes_max", size(self.cache_bytes_max), 0, 1 << 30)?;
        let budget = self.budget.unwrap_or_default();
        within("percent", many(budget.percent), 0, 100)?;
        within("per_second", many(budget.per_second), 0, 1_000_000)?;
        within("saved_max", many(budget.saved_max), 0, 1_000_000)?;
        let breaker = self.breaker.unwrap_or_default();
        within("reset_ms", breaker.reset_ms, 1, DAY_MS)?;
        within("rate_reset_ms", breaker.rate_reset_ms, 1, DAY_MS)?;
        within("rate_percent", many(breaker.rate_percent), 0, 100)?;
        within("window_ms", breaker.window_ms, 100, HOUR_MS)?;
        within("calls_min", many(breaker.calls_min), 1, 1_000_000)?;
        within("probes", many(breaker.probes), 1, 1_000)?;
        let bulkhead = self.bulkhead.unwrap_or_default();
        within("in_flight_max", size(bulkhead.in_flight_max), 1, 1_000_000)?;
        within("waiting_max", size(bulkhead.waiting_max), 0, 1_000_000)
    }
}

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
