//! When an instance is left out for a while, and when it comes back.

use std::cmp::Ordering as Order;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use trunkline_core::Env;

use super::member::Member;

/// When an instance gets no calls for a while. A value that is not given has the default named with it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ejection {
    /// After how many failures without a success between them: 5.
    pub failures_max: u32,
    /// Over how long the share of failures is looked at: 10 s.
    pub window: Duration,
    /// How many calls an instance must have had in it: 20.
    pub calls_min: u32,
    /// From which share of failures on, when the best instance's is at most half of that: 0.5.
    pub failed_share_max: f64,
    /// How long the first time: 10 s. It doubles each time, and halves again for each such time without another.
    pub first: Duration,
    /// How long at most: 5 minutes.
    pub longest: Duration,
    /// Which share of the instances may be out at once, rounded down: 0.5. So a single instance never is.
    pub ejected_share_max: f64,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures_max: 5,
            window: Duration::from_secs(10),
            calls_min: 20,
            failed_share_max: 0.5,
            first: Duration::from_secs(10),
            longest: Duration::from_secs(300),
            ejected_share_max: 0.5,
        }
    }
}

impl Ejection {
    /// How many of so many may be out.
    pub(super) fn room(&self, count: usize) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of at most INSTANCES_MAX"
        )]
        let room = (count as f64 * self.ejected_share_max.clamp(0.0, 1.0)) as usize;
        // Somebody has to be left, whatever was asked for.
        room.min(count.saturating_sub(1))
    }

    /// Whether so many failures in a row are a reason to look: not at each further one, for there may be no room.
    pub(super) fn is_due(&self, failures: u32) -> bool {
        failures.is_multiple_of(self.failures_max.max(1))
    }

    /// Puts an instance out, until when it says.
    pub(super) fn put_out(&self, member: &Member, now: u64, env: &Env) -> Duration {
        let until = member.ejected_until.load(Relaxed);
        let first = nanos(self.first).max(1);
        // What it was out for long ago is forgotten.
        let well = now.saturating_sub(until) / first;
        let well = u32::try_from(well).unwrap_or(u32::MAX);
        let times = member.ejections.load(Relaxed).saturating_sub(well);
        let base = self.first.saturating_mul(1 << times.min(16));
        // Those that went together don't come back together.
        let lasts = base
            .min(self.longest)
            .mul_f64(1.0 + env.random_f64() / 10.0);
        member.ejections.store(times.saturating_add(1), Relaxed);
        member
            .ejected_until
            .store(now.saturating_add(nanos(lasts)), Relaxed);
        // When it comes back, its first call decides.
        let before_last = self.failures_max.max(1) - 1;
        member.failures.store(before_last, Relaxed);
        lasts
    }

    /// Those that failed too large a share of their calls where others did not, the worst first.
    pub(super) fn outliers(&self, members: &[Arc<Member>]) -> Vec<Arc<Member>> {
        let seen = members.iter().filter_map(|member| {
            let ended = member.ended.load(Relaxed);
            let share = f64::from(member.failed.load(Relaxed)) / f64::from(ended.max(1));
            (ended >= self.calls_min.max(1)).then_some((share, member))
        });
        let mut seen: Vec<_> = seen.collect();
        let best = seen.iter().map(|(share, _)| *share).fold(1.0, f64::min);
        seen.retain(|(share, _)| *share >= self.failed_share_max && best <= share / 2.0);
        seen.sort_by(|(a, _), (b, _)| b.partial_cmp(a).unwrap_or(Order::Equal));
        seen.into_iter().map(|(_, member)| member.clone()).collect()
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
