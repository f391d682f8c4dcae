//! How much a connection has to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Load {
    under_way: AtomicUsize,
    begun: AtomicUsize,
}

/// A request under way, until dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Load>);

impl Load {
    pub(crate) fn enter(self: &Arc<Self>) -> Place {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Place(self.clone())
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// How many requests have begun if none is under way.
    pub(crate) fn at_rest(&self) -> Option<usize> {
        (self.under_way() == 0).then(|| self.begun())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
