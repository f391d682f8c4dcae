//! Which instance of a service gets a call.
//!
//! A [`Pool`] has the instances of one service. A call goes to the better of two that are drawn at random (peak EWMA
//! of latency, weighted by what is in flight), or, when it carries a key ([`AFFINITY`], [`Affinity`], or the header
//! that [`Balance::affinity`] names), to the key's place on a ring. Each caller has a circuit breaker for each instance,
//! and one whose breaker is open gets none of its calls.
//!
//! # Source
//! Mitzenmacher: The Power of Two Choices in Randomized Load Balancing (2001). Karger and others: Consistent Hashing
//! and Random Trees (1997). Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads (2016).

mod breakers;
mod held;
mod load;
mod member;
mod pool;
mod ring;
mod set;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderName, Request};
use parking_lot::Mutex;

pub(crate) use breakers::Breakers;
pub use held::Held;
pub use load::Load;
pub use member::Member;
pub use pool::{Ask, Pool};
pub use ring::Ring;

/// Calls with the same value in this header go to the same instance, as long as it can take them.
pub const AFFINITY: HeaderName = HeaderName::from_static("x-trunkline-affinity");

/// How many instances an [`Avoid`] remembers; beyond it, none is added.
const AVOIDED_MAX: usize = 16;

/// How the calls to a service are spread over its instances.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Balance {
    /// The header by whose value calls go to the same instance, besides [`AFFINITY`]; none by default.
    pub affinity: Option<HeaderName>,
}

impl Balance {
    /// The same, with a header by whose value calls go to the same instance.
    #[must_use]
    pub fn with_affinity(mut self, header: HeaderName) -> Self {
        self.affinity = Some(header);
        self
    }

    /// The key of a request, if it has one: what its caller put into its extensions, or a header.
    pub(crate) fn key_of<'a, B>(&self, request: &'a Request<B>) -> Option<&'a [u8]> {
        if let Some(Affinity(key)) = request.extensions().get() {
            return Some(key);
        }
        let named = self.affinity.as_ref();
        let value = named.and_then(|name| request.headers().get(name));
        let value = value.or_else(|| request.headers().get(AFFINITY))?;
        Some(value.as_bytes())
    }
}

/// An extension of a request: calls with the same key go to the same instance.
#[derive(Debug, Clone)]
pub struct Affinity(pub Bytes);

/// An extension of a request that belongs to a session, which one instance has. The instance is told its tag ([`INSTANCE`](crate::headers::INSTANCE)); whoever shows the tag comes to it, as long as it is listed, and else to any.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// The tag of the instance that has it; none for a session that begins.
    pub tag: Option<Bytes>,
}

/// An extension of a request that its copies share: who tries again goes elsewhere. The instance that gets a call is
/// added, and one that is in it gets none while another can.
#[derive(Debug, Clone, Default)]
pub struct Avoid(Arc<Mutex<Vec<Authority>>>);

impl Avoid {
    /// Nothing to avoid yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an instance is in it.
    pub fn has(&self, instance: &Authority) -> bool {
        self.0.lock().contains(instance)
    }

    pub(crate) fn add(&self, instance: &Authority) {
        let mut list = self.0.lock();
        if list.len() < AVOIDED_MAX && !list.contains(instance) {
            list.push(instance.clone());
        }
    }
}

/// An extension of a response: the instance that gave it.
#[derive(Debug, Clone)]
pub struct Served(pub Arc<Member>);
