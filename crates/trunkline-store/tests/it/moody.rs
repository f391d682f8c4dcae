//! A bus that fails as a test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use trunkline_bus::memory::Memory;
use trunkline_bus::{Capabilities, PublishError, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::{Envelope, Error, ErrorKind, Result};

use crate::common::bus;

/// A bus that fails as it is told.
#[derive(Debug)]
pub(crate) struct Moody {
    pub(crate) bus: Arc<Memory>,
    pub(crate) down: AtomicBool,
    /// Events with these ids can never be sent; with the second, the failure looks transient.
    pub(crate) unsendable: Mutex<Vec<String>>,
    pub(crate) flaky: Mutex<Vec<String>>,
}

impl Moody {
    pub(crate) async fn new() -> Arc<Self> {
        Arc::new(Self {
            bus: bus().await,
            down: AtomicBool::new(false),
            unsendable: Mutex::default(),
            flaky: Mutex::default(),
        })
    }

    fn refuses(&self, event: &Envelope) -> Option<Error> {
        if self.down.load(Ordering::SeqCst) {
            return Some(Error::unavailable("down", "the bus is down"));
        }
        if self.unsendable.lock().iter().any(|id| event.id == *id) {
            return Some(Error::new(
                ErrorKind::TooLarge,
                "too_large",
                "the event is too large",
            ));
        }
        let flaky = self.flaky.lock().iter().any(|id| event.id == *id);
        flaky.then(|| Error::unavailable("flaky", "not this one, not now"))
    }
}

impl Transport for Moody {
    fn capabilities(&self) -> Capabilities {
        self.bus.capabilities()
    }

    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        self.bus.declare(topics)
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            for (accepted, event) in batch.iter().enumerate() {
                if let Some(error) = self.refuses(event) {
                    return Err(PublishError { accepted, error });
                }
                let sent = self.bus.publish(std::slice::from_ref(event)).await;
                sent.map_err(|failed| PublishError { accepted, ..failed })?;
            }
            Ok(())
        })
    }

    fn subscribe<'a>(
        &'a self,
        spec: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        self.bus.subscribe(spec)
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.bus.close()
    }
}
