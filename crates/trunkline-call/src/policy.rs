//! How calls are made: for each target and each of its operations, with defaults, changed while the platform runs.
//!
//! What is said of an operation counts before what is said of its target, and what the configuration says before what
//! the target declared:
//!
//! ```
//! use trunkline_call::policy::Policies;
//!
//! let policies: Policies = toml::from_str(r#"
//!     [payment-service]
//!     timeout_ms = 2_000
//!     breaker = { failures_max = 3 }
//!
//!     [payment-service."POST /api/v1/payments"]
//!     timeout_ms = 30_000
//!     attempts_max = 1
//! "#)?;
//! let of = policies.of("payment-service");
//! assert_eq!(of.operation("POST", "/api/v1/payments").timeout.as_secs(), 30);
//! assert_eq!(of.operation("GET", "/api/v1/payments/7").timeout.as_secs(), 2);
//! # Ok::<(), toml::de::Error>(())
//! ```

mod codes;
mod operation;
mod section;
mod service_config;
mod target;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use codes::GrpcCodes;
pub use operation::OperationName;
pub use section::Operation;
pub use target::{Policies, Target};

/// How one call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// How long it may take, all attempts and the answer's body included: 5 s.
    pub timeout: Duration,
    /// How long one attempt may take until its answer begins; none by default: then it is the call's own time.
    pub attempt_timeout: Option<Duration>,
    /// Whether repeating it is safe; without a word, its method and its idempotency key say so.
    pub idempotent: Option<bool>,
    /// How often it is tried, the first time included: 3.
    pub attempts_max: u32,
    /// The longest pause before the second attempt: 1 s. It grows with each further one.
    pub retry_initial: Duration,
    /// By how much: 200 %, it doubles.
    pub retry_growth_percent: u32,
    /// The longest pause at all: 10 s.
    pub retry_max: Duration,
    /// Which codes of gRPC are tried again, and repeating is safe where they come; without a word, those that say that
    /// the target could not do it now, where repeating is safe anyway.
    pub retry_codes: Option<GrpcCodes>,
    /// After how long a read is asked a second time beside the first; none by default.
    pub hedge_after: Option<Duration>,
    /// Whether answers are kept as their `Cache-Control` allows: yes.
    pub cache: bool,
    /// How old an answer may be that is given when the target fails: none is by default.
    pub fallback_age_max: Duration,
    /// Whether identical reads at the same time are one call: no.
    pub coalesce: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            attempt_timeout: None,
            idempotent: None,
            attempts_max: 3,
            retry_initial: Duration::from_secs(1),
            retry_growth_percent: 200,
            retry_max: Duration::from_secs(10),
            retry_codes: None,
            hedge_after: None,
            cache: true,
            fallback_age_max: Duration::ZERO,
            coalesce: false,
        }
    }
}

/// How many retries and hedges a target may get beyond its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetPolicy {
    /// Of 100 calls, so many more: 10.
    pub percent: u32,
    /// And so many each second, where few calls are made: 1.
    pub per_second: u32,
    /// What is not used is saved up to so many: 10.
    pub saved_max: u32,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self {
            percent: 10,
            per_second: 1,
            saved_max: 10,
        }
    }
}

/// When a target is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerPolicy {
    /// After so many failures in a row: 5. 0 for never.
    pub failures_max: u32,
    /// For how long then: 60 s.
    pub reset: Duration,
    /// Or when so many of 100 calls failed: 50. 0 for never.
    pub rate_percent: u32,
    /// Of those within so long: 10 s.
    pub window: Duration,
    /// If they were at least so many: 20.
    pub calls_min: u32,
    /// For how long then: 30 s.
    pub rate_reset: Duration,
    /// How many calls are let through after that to see whether it is well: 3. All must succeed.
    pub probes: u32,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures_max: 5,
            reset: Duration::from_secs(60),
            rate_percent: 50,
            window: Duration::from_secs(10),
            calls_min: 20,
            rate_reset: Duration::from_secs(30),
            probes: 3,
        }
    }
}

/// How many calls may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkheadPolicy {
    /// At once: 512.
    pub in_flight_max: usize,
    /// And so many more may wait for a place: 512.
    pub waiting_max: usize,
}

impl Default for BulkheadPolicy {
    fn default() -> Self {
        Self {
            in_flight_max: 512,
            waiting_max: 512,
        }
    }
}

/// How a target is called: what its calls share, and each operation's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPolicy {
    /// Retries and hedges.
    pub budget: BudgetPolicy,
    /// The circuit breaker.
    pub breaker: BreakerPolicy,
    /// Calls under way.
    pub bulkhead: BulkheadPolicy,
    /// How many bytes of answers are kept: 4 MiB.
    pub cache_bytes_max: usize,
    calls: Policy,
    operations: Vec<(OperationName, Policy)>,
}

impl Default for TargetPolicy {
    fn default() -> Self {
        Self {
            budget: BudgetPolicy::default(),
            breaker: BreakerPolicy::default(),
            bulkhead: BulkheadPolicy::default(),
            cache_bytes_max: 4 * 1024 * 1024,
            calls: Policy::default(),
            operations: Vec::new(),
        }
    }
}

impl TargetPolicy {
    /// How a call of this method and path is made. Of several operations that fit, the one with fewest parameters.
    pub fn operation(&self, method: &str, path: &str) -> &Policy {
        let mut fitting = self.operations.iter();
        let fitting = fitting.find(|(name, _)| name.fits(method, path));
        fitting.map_or(&self.calls, |(_, policy)| policy)
    }

    /// The longest that any call may take.
    pub fn timeout_max(&self) -> Duration {
        let operations = self.operations.iter().map(|(_, policy)| policy.timeout);
        operations.fold(self.calls.timeout, Duration::max)
    }
}
