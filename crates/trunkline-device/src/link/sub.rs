//! The consumer's end: what devices report, as deliveries of a transport that only reads.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_bus::{
    Capabilities, Delivery, PublishError, Subscribe, Subscription, TopicSpec, Transport,
};
use trunkline_core::{Envelope, Error, ErrorKind, Result};

use super::Link;

/// What devices report, for a consumer of the bus: it handles them as it handles events, device by device in order, and a
/// message is acknowledged to the broker when its handler has committed, or its dead letter is kept.
#[derive(Debug, Clone)]
pub struct DeviceTransport(pub(crate) Arc<Link>);

#[derive(Debug)]
struct Reports(Arc<Link>);

impl Transport for DeviceTransport {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.ordered_by_key = true;
        capabilities
    }

    fn declare<'a>(&'a self, _: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn publish<'a>(&'a self, _: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        let text = "devices are sent commands, not events";
        let error = Error::new(ErrorKind::Unsupported, "device_publish", text);
        std::future::ready(Err(PublishError { accepted: 0, error })).boxed()
    }

    fn subscribe<'a>(&'a self, _: &'a Subscribe) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        let reports: Box<dyn Subscription> = Box::new(Reports(self.0.clone()));
        std::future::ready(Ok(reports)).boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.0.close();
        std::future::ready(Ok(())).boxed()
    }
}

impl Subscription for Reports {
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>> {
        Box::pin(async move {
            loop {
                let came = self.0.wake.notified();
                if let Some(deliveries) = self.0.take(max) {
                    return Ok(deliveries);
                }
                came.await;
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        // Acknowledgements are written in order, and before the farewell.
        std::future::ready(Ok(())).boxed()
    }

    fn lag(&self) -> BoxFuture<'_, Result<u64>> {
        let held = self.0.inbox.lock().count();
        std::future::ready(Ok(u64::try_from(held).unwrap_or(u64::MAX))).boxed()
    }
}
