//! The transport that keeps everything in memory: for development, for tests, and for a platform
//! whose events need not outlive its process.

mod lot;
mod member;
mod state;
mod subscription;
mod topic;

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use trunkline_core::{Env, Envelope, Error, Result};

use self::state::State;
use self::subscription::MemorySubscription;
use crate::{Capabilities, PublishError, Subscribe, Subscription, TopicSpec, Transport};

pub use self::lot::MemoryLot;

/// How much a [`Memory`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Events per partition that are kept for replay after every group has settled them. 10,000 by default.
    pub retained_max: usize,
    /// Events per partition that some group has not settled; beyond it, publishing is refused as
    /// `Overloaded`. 1,000,000 by default.
    pub unsettled_max: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            retained_max: 10_000,
            unsettled_max: 1_000_000,
        }
    }
}

/// The transport in memory. Cheap to clone; clones are the same transport.
///
/// # Guarantees
/// Order per key, groups, replay of what is retained. A partition belongs to one member of a group
/// at a time and moves only when nothing of it is out. Nothing survives the process.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    env: Env,
    state: Mutex<State>,
}

impl Memory {
    /// An empty transport with the default limits.
    pub fn new(env: Env) -> Self {
        Self::with_limits(env, MemoryLimits::default())
    }

    /// An empty transport with limits of its own.
    pub fn with_limits(env: Env, limits: MemoryLimits) -> Self {
        Self {
            shared: Arc::new(Shared {
                env,
                state: Mutex::new(State::new(limits)),
            }),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Transport for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durable: false,
            ordered_by_key: true,
            groups: true,
            replay: true,
            atomic_batch: false,
        }
    }

    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        std::future::ready(self.shared.state.lock().declare(topics)).boxed()
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        async move {
            let now = self.shared.env.now();
            let (wake, result) = self.shared.state.lock().publish(batch, now);
            for member in wake {
                member.notify_one();
            }
            result
        }
        .boxed()
    }

    fn subscribe<'a>(
        &'a self,
        spec: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        async move {
            let joined = self.shared.state.lock().join(spec)?;
            let subscription = MemorySubscription::new(self.shared.clone(), joined);
            Ok(Box::new(subscription) as Box<dyn Subscription>)
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        for member in self.shared.state.lock().close() {
            member.notify_one();
        }
        std::future::ready(Ok(())).boxed()
    }
}

fn closed() -> Error {
    Error::unavailable("transport_closed", "the memory transport is closed")
}

fn undeclared(topic: &ByteString) -> Error {
    Error::not_found("topic_undeclared", "the topic is not declared").with("topic", topic)
}
