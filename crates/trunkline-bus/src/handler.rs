//! The contract between the consumer runtime and whoever does the work.

use std::fmt;

use futures::future::BoxFuture;
use trunkline_core::{Envelope, Error};

/// Does the work of a subscription. The service's runtime implements it over a transaction: inbox,
/// rows and outbox commit together.
pub trait Handler: Send + Sync + fmt::Debug + 'static {
    /// Handles a batch, in order, and says of each event how it ended: exactly one outcome each.
    /// After a failure, later events of the same key in the batch must be [`Outcome::Blocked`].
    /// `attempt` counts from 1; above 1 the batch holds one event.
    fn handle<'a>(&'a self, batch: &'a [Envelope], attempt: u32) -> BoxFuture<'a, Vec<Outcome>>;

    /// Does the work of one key's events, in order, and undoes it: nothing is committed or published. Says of each how
    /// it would end, [`Outcome::Blocked`] for those behind one that would fail; none where a handler can't do that.
    fn rehearse<'a>(&'a self, events: &'a [Envelope]) -> BoxFuture<'a, Option<Vec<Outcome>>> {
        let _ = events;
        Box::pin(std::future::ready(None))
    }
}

/// How one event ended.
#[derive(Debug)]
pub enum Outcome {
    /// Its effect is committed, or was already: acknowledge it.
    Done,
    /// It failed with no effect. A permanent error parks its key at once; any other is retried first.
    Failed(Error),
    /// Not tried, because an earlier event of its key failed.
    Blocked,
}
