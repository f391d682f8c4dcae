//! What providers offer, and what came of it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use trunkline_core::ByteString;

/// What a provider would do it for.
pub struct Quote<P: ?Sized, Q> {
    /// The provider's name.
    pub name: ByteString,
    /// The provider.
    pub provider: Arc<P>,
    /// What it said.
    pub terms: Q,
}

/// Work that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done<T> {
    /// By whom.
    pub provider: ByteString,
    /// What came of it.
    pub value: T,
}

/// Cheaper first; what can't be compared even with itself, last.
pub(super) fn order<O: PartialOrd>(a: &O, b: &O) -> Ordering {
    let is_odd = |cost: &O| cost.partial_cmp(cost).is_none();
    match (is_odd(a), is_odd(b)) {
        (false, false) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    }
}

impl<P: ?Sized, Q: fmt::Debug> fmt::Debug for Quote<P, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quote")
            .field("name", &self.name)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
