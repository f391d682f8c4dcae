//! What one caller makes of the instances of its target: a circuit breaker for each.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::uri::Authority;
use parking_lot::{Mutex, RwLock};
use trunkline_core::{ByteString, Error, Result};

use super::pool::REFUSED;
use super::{Ask, Held, Member, Pool};
use crate::layer::breaker::{Whole, refused};
use crate::layer::plan::Times;
use crate::layer::{Breaker, BreakerState, Event, Observer};
use crate::policy::BreakerPolicy;

/// So often another instance is chosen when the last probe of one went to another call.
const CHOICES_MAX: u32 = 4;

/// The circuit breakers of one caller for the instances of a pool, and with them that of the target as a whole.
///
/// # Guarantees
/// The target's state is that of its instances: closed while one is closed, open when all are open. When the last call
/// of every instance failed, and as many in a row as open one breaker, all are opened at once.
pub(crate) struct Breakers {
    caller: ByteString,
    pool: Weak<Pool>,
    policy: RwLock<BreakerPolicy>,
    /// Failures since the last success, whoever had them.
    in_a_row: AtomicU32,
    /// What was told last of the target as a whole.
    told: Mutex<BreakerState>,
    observer: Observer,
}

impl Breakers {
    pub(crate) fn new(
        caller: ByteString,
        pool: &Arc<Pool>,
        policy: BreakerPolicy,
        observer: Observer,
    ) -> Self {
        Self {
            caller,
            pool: Arc::downgrade(pool),
            policy: RwLock::new(policy),
            in_a_row: AtomicU32::new(0),
            told: Mutex::new(BreakerState::Closed),
            observer,
        }
    }

    pub(crate) fn caller(&self) -> &ByteString {
        &self.caller
    }

    /// Goes on by another policy, at every instance.
    pub(crate) fn set_policy(&self, policy: BreakerPolicy) {
        *self.policy.write() = policy;
        for member in self.members() {
            member.asked(&self.caller, |breaker| breaker.set_policy(policy));
        }
    }

    /// Whether an instance may get a call of this caller now.
    fn is_willing(&self, member: &Member) -> bool {
        let willing = member.asked(&self.caller, |breaker| breaker.is_willing());
        willing.unwrap_or(true)
    }

    /// Chooses an instance whose breaker lets a call through, which is told how the call ends.
    ///
    /// # Errors
    /// `Unavailable`: `circuit_open` when none lets it through, or what the pool says.
    pub(crate) fn choose(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        ask: &Ask<'_>,
        times: Times,
    ) -> Result<Held> {
        let admits = |member: &Member| self.is_willing(member);
        let admitted = Ask {
            admits: Some(&admits),
            ..*ask
        };
        for _ in 0..CHOICES_MAX {
            let held = match pool.choose(&admitted) {
                Ok(held) => held,
                Err(error) if error.code() == REFUSED => break,
                Err(error) => return Err(error),
            };
            let member = held.member();
            let breaker = member.breaker(&self.caller, || self.make(member));
            // Another call may have had its last probe meanwhile.
            if let Ok(permit) = breaker.permit() {
                if let Some(avoid) = ask.avoid {
                    avoid.add(member.authority());
                }
                return Ok(held.judged(permit, times));
            }
        }
        Err(self.refusal(pool))
    }

    /// What the target does with calls as a whole.
    pub(crate) fn state(&self) -> BreakerState {
        let members = self.members();
        let of = |member: &Arc<Member>| {
            let state = member.asked(&self.caller, |breaker| breaker.state());
            state.unwrap_or(BreakerState::Closed)
        };
        let mut whole = BreakerState::Open;
        for state in members.iter().map(of) {
            match state {
                BreakerState::Closed => return state,
                BreakerState::HalfOpen => whole = state,
                BreakerState::Open => {}
            }
        }
        if members.is_empty() {
            return BreakerState::Closed;
        }
        whole
    }

    /// Refuses a call that no instance may get, with the time until one may. A target without instances has none to
    /// protect.
    pub(crate) fn check(&self, pool: &Pool) -> Result<()> {
        let is_closed = |members: &[Arc<Member>]| {
            members.is_empty() || members.iter().any(|member| self.is_willing(member))
        };
        if pool.seen(is_closed) {
            return Ok(());
        }
        self.observer.tell(Event::Refused);
        Err(self.refusal(pool))
    }

    /// The error of a call that no instance may get.
    #[cold]
    fn refusal(&self, pool: &Pool) -> Error {
        let left = |member: &Arc<Member>| member.asked(&self.caller, |breaker| breaker.left());
        let soonest = pool.seen(|members| members.iter().filter_map(left).min());
        let soonest = soonest.filter(|left| *left > Duration::ZERO);
        match soonest {
            Some(left) => refused().with_retry_after(left),
            None => refused(),
        }
    }

    fn members(&self) -> Vec<Arc<Member>> {
        let pool = self.pool.upgrade();
        pool.map(|pool| pool.members()).unwrap_or_default()
    }

    fn make(self: &Arc<Self>, member: &Arc<Member>) -> Breaker {
        let (breakers, instance) = (self.clone(), member.authority().clone());
        let observer = Observer::new(move |event| {
            if let Event::Breaker(state) = event {
                breakers.changed(&instance, *state);
            }
        });
        let breaker = Breaker::new(*self.policy.read()).observed(observer);
        breaker.among(self.clone())
    }

    /// A breaker changed: it is told of an instance among several, and of the target if that changed by it.
    fn changed(&self, instance: &Authority, state: BreakerState) {
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        pool.show();
        if pool.seen(|members| members.len() > 1) {
            let (caller, target) = (&*self.caller, &**pool.target());
            let instance = instance.as_str();
            match state {
                BreakerState::Open => {
                    tracing::warn!(caller, target, instance, "an instance is left out");
                }
                BreakerState::HalfOpen => {
                    tracing::info!(caller, target, instance, "an instance gets probes");
                }
                BreakerState::Closed => {
                    tracing::info!(caller, target, instance, "an instance is well again");
                }
            }
            self.observer.tell(Event::Instance(state));
        }
        let whole = self.state();
        let before = std::mem::replace(&mut *self.told.lock(), whole);
        if before != whole {
            self.observer.tell(Event::Breaker(whole));
        }
    }
}

impl Whole for Breakers {
    fn answered(&self) {
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
        }
    }

    /// If all calls fail, wherever they go, nobody is left to be asked.
    fn failed(&self) {
        let in_a_row = self.in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        let failures_max = self.policy.read().failures_max;
        if failures_max == 0 || in_a_row < failures_max {
            return;
        }
        let members = self.members();
        let is_doubted = |member: &Arc<Member>| {
            let doubted = member.asked(&self.caller, |breaker| breaker.is_doubted());
            doubted.unwrap_or(false)
        };
        if members.len() > 1 && members.iter().all(is_doubted) {
            for member in &members {
                member.asked(&self.caller, |breaker| breaker.trip());
            }
        }
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers")
            .field("caller", &self.caller)
            .finish_non_exhaustive()
    }
}
