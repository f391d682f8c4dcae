//! One instance in a pool, with what is known of it.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use http::uri::{Authority, Scheme};

use super::load::Load;
use crate::discovery::Instance;

/// One instance of a service and what is known of it. It stays the same as long as its address is listed.
pub struct Member {
    scheme: Scheme,
    authority: Authority,
    pub(super) load: Load,
    pub(super) in_flight: AtomicU32,
    /// Failures since the last success.
    pub(super) failures: AtomicU32,
    /// Calls that ended in the present window, and those of them that failed.
    pub(super) ended: AtomicU32,
    pub(super) failed: AtomicU32,
    /// Until when it gets no calls; 0 while nothing is held against it.
    pub(super) ejected_until: AtomicU64,
    /// How often it was ejected lately.
    pub(super) ejections: AtomicU32,
    state: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Member {
    pub(super) fn new(instance: &Instance, load: Load) -> Self {
        Self {
            scheme: instance.scheme.clone(),
            authority: instance.authority.clone(),
            load,
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            failed: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            state: OnceLock::new(),
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

    /// How many calls it has now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A place for one thing that is kept for each instance, such as its circuit breaker: made when it is first asked
    /// for, gone with the instance. Whoever asks for a thing of another type than the first gets none.
    pub fn state<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.state.get_or_init(|| Box::new(make())).downcast_ref()
    }

    pub(super) fn is(&self, instance: &Instance) -> bool {
        self.authority == instance.authority && self.scheme == instance.scheme
    }

    pub(super) fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("authority", &self.authority)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
