//! How many more calls than were asked for a target may get.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::time::Instant;

use crate::policy::BudgetPolicy;

/// A retry costs so much, and a call brings a hundredth of it for each percent.
const RETRY: i64 = 100;

/// A bucket of tokens: each call brings a share of one, each retry or hedge takes one. A floor per second keeps retries
/// possible where few calls are made.
///
/// # Guarantees
/// Over `n` calls in `t` seconds at most `percent / 100 * n + per_second * t + saved_max` are made beyond them.
#[derive(Debug)]
pub struct Budget {
    policy: RwLock<BudgetPolicy>,
    tokens: AtomicI64,
    began: Instant,
    /// Up to which second after `began` the floor has been paid.
    paid: AtomicU64,
}

impl Budget {
    /// A budget that starts with what it may save at most.
    pub fn new(policy: BudgetPolicy) -> Self {
        Self {
            policy: RwLock::new(policy),
            tokens: AtomicI64::new(i64::from(policy.saved_max) * RETRY),
            began: Instant::now(),
            paid: AtomicU64::new(0),
        }
    }

    /// Goes on by another policy, with what is saved.
    pub fn set_policy(&self, policy: BudgetPolicy) {
        *self.policy.write() = policy;
    }

    /// A call is made.
    pub fn deposit(&self) {
        let policy = *self.policy.read();
        self.add(i64::from(policy.percent), policy);
    }

    /// Whether one more may be made, which is then taken from what is saved.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.pay_floor();
        let take = |tokens: i64| (tokens >= RETRY).then(|| tokens - RETRY);
        let taken = self
            .tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok()
    }

    fn pay_floor(&self) {
        let policy = *self.policy.read();
        let now = self.began.elapsed().as_secs();
        let paid = self.paid.fetch_max(now, Ordering::Relaxed);
        let seconds = i64::try_from(now.saturating_sub(paid)).unwrap_or(0);
        if seconds > 0 {
            let floor = seconds.saturating_mul(i64::from(policy.per_second) * RETRY);
            self.add(floor, policy);
        }
    }

    fn add(&self, tokens: i64, policy: BudgetPolicy) {
        let full = i64::from(policy.saved_max) * RETRY;
        // A full bucket is not written to: healthy callers share it without waiting for each other.
        let put = |have: i64| (have < full).then(|| have.saturating_add(tokens).min(full));
        self.tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, put)
            .ok();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy(percent: u32, per_second: u32, saved_max: u32) -> BudgetPolicy {
        BudgetPolicy {
            percent,
            per_second,
            saved_max,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenth_of_the_calls_beyond_what_was_saved() {
        let budget = Budget::new(policy(10, 0, 3));
        let mut made = 0;
        for _ in 0..1_000 {
            budget.deposit();
            made += u32::from(budget.withdraw());
        }
        assert!((100..=103).contains(&made), "{made}");
        // What is not used is saved up to the bound.
        (0..1_000).for_each(|_| budget.deposit());
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn where_few_call_the_floor_pays() {
        let budget = Budget::new(policy(0, 1, 2));
        assert_eq!((0..5).filter(|_| budget.withdraw()).count(), 2);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(budget.withdraw());
        assert!(!budget.withdraw());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((0..5).filter(|_| budget.withdraw()).count(), 2);
        budget.set_policy(policy(100, 0, 5));
        budget.deposit();
        assert!(budget.withdraw() && !budget.withdraw());
    }
}
