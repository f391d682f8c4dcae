//! Where a lane's deliveries come from; it is subscribed again when the transport fails.

use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Env, Error, Result};

use super::RetryPolicy;
use crate::{Delivery, Subscribe, Subscription};

/// The pauses between attempts to subscribe again.
pub(super) const RECONNECT: RetryPolicy = RetryPolicy {
    attempts_max: u32::MAX,
    initial: Duration::from_millis(100),
    max: Duration::from_secs(10),
    jitter: true,
};

pub(super) struct Source {
    pub(super) spec: Subscribe,
    pub(super) link: Link,
    /// Counts the subscriptions that failed: what came by those is not this member's any more.
    pub(super) links: u64,
    attempts: u32,
}

pub(super) enum Link {
    /// Nothing to read: no topic of this consumer has this lane.
    Unused,
    Open(Box<dyn Subscription>),
    /// It failed and is tried again at this time.
    Broken(Instant),
    /// A job is subscribing.
    Joining,
}

impl Source {
    pub(super) fn new(spec: Subscribe) -> Self {
        let link = if spec.topics.is_empty() {
            Link::Unused
        } else {
            Link::Joining
        };
        Self {
            spec,
            link,
            links: 0,
            attempts: 0,
        }
    }

    pub(super) fn is_used(&self) -> bool {
        !matches!(self.link, Link::Unused)
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.link, Link::Broken(_) | Link::Joining)
    }

    pub(super) fn open(&mut self, subscription: Box<dyn Subscription>) {
        self.link = Link::Open(subscription);
    }

    /// Events came: the link is sound.
    pub(super) fn delivered(&mut self) {
        self.attempts = 0;
    }

    /// Drops the subscription; says how long to wait before the next.
    pub(super) fn fail(&mut self, env: &Env) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        self.links += 1;
        let pause = RECONNECT.pause(self.attempts, env);
        self.link = Link::Broken(Instant::now() + pause);
        pause
    }

    pub(super) fn broken_until(&self) -> Option<Instant> {
        match self.link {
            Link::Broken(until) => Some(until),
            _ => None,
        }
    }

    /// Waits for deliveries; forever while there is no room or no link. Cancel safe.
    pub(super) async fn next(&mut self, room: usize) -> Result<Vec<Delivery>> {
        match &mut self.link {
            Link::Open(subscription) if room > 0 => {
                let deliveries = subscription.next(room).await?;
                if deliveries.is_empty() {
                    return Err(Error::unavailable(
                        "transport_closed",
                        "the transport closed",
                    ));
                }
                Ok(deliveries)
            }
            _ => std::future::pending().await,
        }
    }
}
