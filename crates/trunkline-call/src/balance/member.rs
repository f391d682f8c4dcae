//! One instance in a pool, with what is known of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use http::HeaderValue;
use http::uri::{Authority, Scheme};
use trunkline_core::ByteString;

use super::load::Load;
use crate::discovery::Instance;
use crate::layer::Breaker;

/// One instance of a service and what is known of it. It stays the same as long as its address is listed.
pub struct Member {
    scheme: Scheme,
    authority: Authority,
    tag: HeaderValue,
    pub(super) load: Load,
    pub(super) in_flight: AtomicU32,
    /// By caller: there are as many as services of this process that call it.
    breakers: ArcSwap<Vec<(ByteString, Arc<Breaker>)>>,
}

impl Member {
    pub(super) fn new(instance: &Instance, load: Load) -> Self {
        Self {
            scheme: instance.scheme.clone(),
            authority: instance.authority.clone(),
            tag: tag(&instance.authority),
            load,
            in_flight: AtomicU32::new(0),
            breakers: ArcSwap::default(),
        }
    }

    /// Its scheme.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Its `host:port`.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What sessions that it has are known by: the same wherever it is known by the same address.
    pub fn tag(&self) -> &HeaderValue {
        &self.tag
    }

    /// How many calls it has now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether a caller leaves it alone, because its breaker is open.
    pub fn is_left_out(&self) -> bool {
        let breakers = self.breakers.load();
        breakers.iter().any(|(_, breaker)| !breaker.is_willing())
    }

    /// What a caller's breaker says, if it has one.
    pub(super) fn asked<T>(
        &self,
        caller: &ByteString,
        ask: impl FnOnce(&Arc<Breaker>) -> T,
    ) -> Option<T> {
        let breakers = self.breakers.load();
        let found = breakers.iter().find(|(name, _)| name == caller);
        found.map(|(_, breaker)| ask(breaker))
    }

    /// A caller's breaker, made when it is first asked for.
    pub(super) fn breaker(
        &self,
        caller: &ByteString,
        make: impl FnOnce() -> Breaker,
    ) -> Arc<Breaker> {
        if let Some(known) = self.asked(caller, Arc::clone) {
            return known;
        }
        let made = Arc::new(make());
        self.breakers.rcu(|breakers| {
            let mut breakers = Vec::clone(breakers);
            if !breakers.iter().any(|(name, _)| name == caller) {
                breakers.push((caller.clone(), made.clone()));
            }
            breakers
        });
        self.asked(caller, Arc::clone).unwrap_or(made)
    }

    pub(super) fn is(&self, instance: &Instance) -> bool {
        self.authority == instance.authority && self.scheme == instance.scheme
    }
}

/// A hash of its address (FNV-1a), so that nobody outside learns that.
fn tag(authority: &Authority) -> HeaderValue {
    let hash = authority.as_str().bytes();
    let hash = hash.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [high, low] = [hash >> 32, hash & u64::from(u32::MAX)];
    // Half of its digits, or it would be one more number of 20 digits in each id.
    HeaderValue::from(high ^ low)
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("authority", &self.authority)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
