//! What all calls of one service to another share.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use metrics::{counter, gauge};
use parking_lot::RwLock;
use trunkline_core::ByteString;

use crate::Network;
use crate::balance::{Breakers, Pool};
use crate::layer::{
    Attempt, Breaker, BreakerState, Bulkhead, Cache, CircuitBreaker, Coalesce, Deadline, Event,
    Hedge, Identity, Observer, Retry, Trace,
};
use crate::policy::{Policies, Policy, TargetPolicy};

/// The lines of a network, and what they are made by.
#[derive(Default)]
pub(crate) struct Lines {
    lines: RwLock<HashMap<(ByteString, ByteString), Arc<Line>>>,
    policies: ArcSwap<Policies>,
    identity: ArcSwapOption<Arc<dyn Identity>>,
    hook: Arc<ArcSwapOption<Hook>>,
}

type Hook = Box<dyn Fn(&CallEvent<'_>) + Send + Sync>;

/// Something that happened on the way of a service's calls to another.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct CallEvent<'a> {
    /// The service that calls.
    pub caller: &'a ByteString,
    /// The service that is called.
    pub target: &'a ByteString,
    /// What happened.
    pub event: Event,
}

/// The layers of one service's calls to another, and what they remember from call to call: breaker, budget, places
/// and kept answers. So it is the same for services of one process and of several.
pub(crate) struct Line {
    pub(crate) caller: ByteString,
    pub(crate) target: ByteString,
    pub(crate) policy: ArcSwap<TargetPolicy>,
    pub(crate) trace: Trace,
    pub(crate) deadline: Deadline,
    pub(crate) cache: Cache,
    pub(crate) coalesce: Coalesce,
    pub(crate) retry: Retry,
    pub(crate) hedge: Hedge,
    pub(crate) attempt: Attempt,
    /// Of a target in this process; that elsewhere has one for each instance.
    pub(crate) breaker: CircuitBreaker,
    pub(crate) bulkhead: Bulkhead,
    budget: Arc<crate::layer::Budget>,
    observer: Observer,
}

impl Line {
    fn new(network: &Network, caller: ByteString, target: ByteString) -> Self {
        let lines = network.lines();
        let policy = lines.policies.load().of(&target);
        let observer = observer(caller.clone(), target.clone(), lines.hook.clone());
        let budget = Arc::new(crate::layer::Budget::new(policy.budget));
        let breaker = Breaker::new(policy.breaker).observed(observer.clone());
        let own = Policy::default();
        let env = network.env().clone();
        let telemetry = network.telemetry().clone();
        Self {
            trace: Trace::new(telemetry, caller.clone(), target.clone()),
            deadline: Deadline::new(own.timeout),
            cache: Cache::new(own, policy.cache_bytes_max).observed(observer.clone()),
            coalesce: Coalesce::new(own).observed(observer.clone()),
            retry: Retry::new(own, budget.clone(), env).observed(observer.clone()),
            hedge: Hedge::new(own, budget.clone()).observed(observer.clone()),
            attempt: Attempt::new(own),
            breaker: CircuitBreaker::new(Arc::new(breaker)),
            bulkhead: Bulkhead::new(policy.bulkhead).observed(observer.clone()),
            policy: ArcSwap::from_pointee(policy),
            budget,
            observer,
            caller,
            target,
        }
    }

    /// Its breakers for the instances of a pool.
    pub(crate) fn breakers(&self, pool: &Arc<Pool>) -> Arc<Breakers> {
        let mut is_made = false;
        let breakers = pool.breakers(&self.caller, || {
            is_made = true;
            let policy = self.policy.load().breaker;
            Breakers::new(self.caller.clone(), pool, policy, self.observer.clone())
        });
        if is_made {
            // The policy may have changed before anybody could find them.
            breakers.set_policy(self.policy.load().breaker);
        }
        breakers
    }

    fn set_policy(&self, policy: TargetPolicy, pool: Option<Arc<Pool>>) {
        let breaker = policy.breaker;
        self.budget.set_policy(policy.budget);
        self.breaker.breaker().set_policy(policy.breaker);
        self.bulkhead.set_policy(policy.bulkhead);
        self.cache.set_bytes_max(policy.cache_bytes_max);
        self.policy.store(Arc::new(policy));
        if let Some(pool) = pool {
            self.breakers(&pool).set_policy(breaker);
        }
    }
}

impl Lines {
    /// The line of these two. There are as many as services that declare to call each other.
    pub(crate) fn line(
        &self,
        network: &Network,
        caller: ByteString,
        target: ByteString,
    ) -> Arc<Line> {
        let key = (caller, target);
        if let Some(line) = self.lines.read().get(&key) {
            return line.clone();
        }
        let mut lines = self.lines.write();
        let made = || Arc::new(Line::new(network, key.0.clone(), key.1.clone()));
        lines.entry(key.clone()).or_insert_with(made).clone()
    }

    pub(crate) fn identity(&self) -> Option<Arc<dyn Identity>> {
        let identity = self.identity.load();
        identity.as_deref().cloned()
    }
}

impl Network {
    /// Calls are made by these policies from now on: each call that begins, of every channel.
    pub fn set_policies(&self, policies: Policies) {
        let lines = self.lines();
        let policies = Arc::new(policies);
        // With the lock, so that a line that is made meanwhile is not made by the old ones.
        let all = lines.lines.write();
        lines.policies.store(policies.clone());
        for line in all.values() {
            line.set_policy(policies.of(&line.target), self.pool(&line.target));
        }
    }

    /// The policies that calls are made by.
    pub fn policies(&self) -> Arc<Policies> {
        self.lines().policies.load_full()
    }

    /// Each call to a service of the platform in another process proves with this who makes it.
    pub fn set_identity(&self, identity: Arc<dyn Identity>) {
        self.lines().identity.store(Some(Arc::new(identity)));
    }

    /// Calls this whenever something happens on the way of a call: a breaker opens, a call is tried again. Quickly: the
    /// call waits for it.
    pub fn on_call_event(&self, hook: impl Fn(&CallEvent<'_>) + Send + Sync + 'static) {
        self.lines().hook.store(Some(Arc::new(Box::new(hook))));
    }
}

/// Tells metrics, the log and the platform's own hook.
fn observer(caller: ByteString, target: ByteString, hook: Arc<ArcSwapOption<Hook>>) -> Observer {
    Observer::new(move |event| {
        let labels = [
            ("service", caller.to_string()),
            ("target", target.to_string()),
        ];
        let name = [("event", name(event).to_owned())];
        let named: Vec<_> = labels.iter().cloned().chain(name).collect();
        counter!("trunkline_call_events_total", &named).increment(1);
        match *event {
            Event::Breaker(state) => {
                gauge!("trunkline_breaker_state", &labels).set(match state {
                    BreakerState::Closed => 0.0,
                    BreakerState::HalfOpen => 1.0,
                    BreakerState::Open => 2.0,
                });
                let (caller, target) = (&*caller, &*target);
                match state {
                    BreakerState::Open => {
                        tracing::warn!(caller, target, "a circuit breaker opened");
                    }
                    BreakerState::HalfOpen => {
                        tracing::info!(caller, target, "a circuit breaker lets probes through");
                    }
                    BreakerState::Closed => {
                        tracing::info!(caller, target, "a circuit breaker closed");
                    }
                }
            }
            // Its log line names the instance.
            Event::Instance(_) => {}
            Event::Fallback(age) => {
                let (caller, target) = (&*caller, &*target);
                // For each call: that the target fails is told once, by its breaker.
                tracing::debug!(caller, target, ?age, "an older answer stands in");
            }
            _ => {}
        }
        if let Some(hook) = &*hook.load() {
            hook(&CallEvent {
                caller: &caller,
                target: &target,
                event: *event,
            });
        }
    })
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Breaker(BreakerState::Open) => "breaker_opened",
        Event::Breaker(BreakerState::HalfOpen) => "breaker_half_opened",
        Event::Breaker(BreakerState::Closed) => "breaker_closed",
        Event::Instance(BreakerState::Open) => "instance_opened",
        Event::Instance(BreakerState::HalfOpen) => "instance_half_opened",
        Event::Instance(BreakerState::Closed) => "instance_closed",
        Event::Refused => "refused",
        Event::Retried { .. } => "retried",
        Event::BudgetEmpty => "budget_empty",
        Event::Hedged => "hedged",
        Event::Shed => "shed",
        Event::CacheHit => "cache_hit",
        Event::Fallback(_) => "fallback",
        Event::Coalesced => "coalesced",
    }
}
