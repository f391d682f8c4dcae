//! Publishing without a store: for services that keep no state and so have no outbox.

use std::sync::Arc;

use trunkline_core::{Envelope, Priority};

use crate::{PublishError, Transport, lane};

/// A cheap handle that publishes straight to a transport, each event on the lane of its priority.
///
/// A service with a store publishes through its outbox instead, so that its rows and its events
/// take effect together.
#[derive(Debug, Clone)]
pub struct Bus {
    transport: Arc<dyn Transport>,
}

impl Bus {
    /// A bus over `transport`, on which the topics' lanes are declared (see [`crate::lanes`]).
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }

    /// The transport below.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// Publishes a batch, in order.
    ///
    /// # Guarantees
    /// When it returns `Ok`, every event is as durable as the engine's setting promises.
    ///
    /// # Errors
    /// [`PublishError`] with the length of the prefix that was published.
    pub async fn publish(&self, batch: &[Envelope]) -> Result<(), PublishError> {
        if batch.iter().all(|event| event.priority == Priority::Medium) {
            return self.transport.publish(batch).await;
        }
        let laned: Vec<Envelope> = batch
            .iter()
            .map(|event| Envelope {
                topic: lane(&event.topic, event.priority),
                ..event.clone()
            })
            .collect();
        self.transport.publish(&laned).await
    }
}
