//! The consumer's end: what devices report, as deliveries of a transport that only reads.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
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
struct Reports {
    link: Arc<Link>,
    pace: Pace,
}

/// When the next batch is given out: at once after a pause, and otherwise `gather` after the last, so that what comes in
/// between shares a transaction.
#[derive(Debug)]
struct Pace {
    gather: Duration,
    last_at: Option<Instant>,
}

impl Pace {
    /// Until when to wait while `waiting` messages are there, of which `max` can be given out.
    fn wait_until(&self, waiting: usize, max: usize, now: Instant) -> Option<Instant> {
        let at = self.last_at? + self.gather;
        (waiting > 0 && waiting < max && at > now).then_some(at)
    }
}

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
        let reports: Box<dyn Subscription> = Box::new(Reports {
            link: self.0.clone(),
            pace: Pace {
                gather: self.0.config.gather,
                last_at: None,
            },
        });
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
                let came = self.link.wake.notified();
                let waiting = self.link.inbox.lock().waiting();
                if let Some(at) = self.pace.wait_until(waiting, max, Instant::now()) {
                    tokio::select! {
                        () = came => {}
                        () = sleep_until(at) => {}
                    }
                    continue;
                }
                if let Some(deliveries) = self.link.take(max) {
                    self.pace.last_at = Some(Instant::now());
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
        let held = self.link.inbox.lock().count();
        std::future::ready(Ok(u64::try_from(held).unwrap_or(u64::MAX))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_gathered_for_a_while_and_the_first_goes_at_once() {
        let gather = Duration::from_millis(20);
        let mut pace = Pace {
            gather,
            last_at: None,
        };
        let now = Instant::now();
        assert_eq!(pace.wait_until(1, 100, now), None);
        pace.last_at = Some(now);
        assert_eq!(pace.wait_until(1, 100, now), Some(now + gather));
        assert_eq!(
            pace.wait_until(100, 100, now),
            None,
            "as many as there may be"
        );
        assert_eq!(pace.wait_until(0, 100, now), None, "nothing");
        assert_eq!(pace.wait_until(1, 100, now + gather), None);
    }
}
