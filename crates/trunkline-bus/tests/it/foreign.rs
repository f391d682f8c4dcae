//! Deliveries that are no events, and deliveries that are another member's by the time their turn comes.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use trunkline_bus::memory::Memory;
use trunkline_bus::{
    Capabilities, DeadLetterQuery, Delivery, Outcome, PublishError, Receipt, ReplayRequest,
    Settlement, Settler, Subscribe, Subscription, TopicSpec, Transport, UNREADABLE, unreadable,
};
use trunkline_core::{Env, Envelope, Error, Result};
use trunkline_testkit::eventually;

use crate::support::{LIMIT, Rig, config, ids_of};

/// Memory, where some events are no events, or are taken away before they are begun.
#[derive(Debug, Clone)]
struct Odd {
    memory: Memory,
    garbled: Arc<Mutex<HashSet<String>>>,
    /// Events that another member has by the time their handling would begin, once each.
    taken: Arc<Mutex<HashSet<String>>>,
}

impl Odd {
    fn new(env: Env) -> Self {
        Self {
            memory: Memory::new(env),
            garbled: Arc::default(),
            taken: Arc::default(),
        }
    }
}

impl Transport for Odd {
    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        self.memory.declare(topics)
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        self.memory.publish(batch)
    }

    fn subscribe<'a>(
        &'a self,
        spec: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        async move {
            let inner = self.memory.subscribe(spec).await?;
            let odd = self.clone();
            Ok(Box::new(OddSubscription { inner, odd }) as Box<dyn Subscription>)
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.memory.close()
    }
}

struct OddSubscription {
    inner: Box<dyn Subscription>,
    odd: Odd,
}

impl Subscription for OddSubscription {
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>> {
        async move {
            let mut deliveries = self.inner.next(max).await?;
            for delivery in &mut deliveries {
                let id = delivery.envelope.id.to_string();
                if self.odd.garbled.lock().contains(&id) {
                    garble(delivery);
                }
                if self.odd.taken.lock().remove(&id) {
                    take_away(delivery);
                }
            }
            Ok(deliveries)
        }
        .boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.flush()
    }

    fn lag(&self) -> BoxFuture<'_, Result<u64>> {
        self.inner.lag()
    }
}

impl fmt::Debug for OddSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OddSubscription").finish_non_exhaustive()
    }
}

fn garble(delivery: &mut Delivery) {
    let place = format!("t/{}/{}", delivery.partition, delivery.offset);
    let body = Bytes::from_static(b"<order>7</order>");
    delivery.envelope = unreadable("t", place, body, delivery.envelope.time);
    delivery.unreadable = Some(Error::invalid("envelope_invalid", "expected JSON, found <"));
}

/// Its receipt says that it is another member's, and gives it back when it is dropped.
fn take_away(delivery: &mut Delivery) {
    struct Taken(Mutex<Option<Receipt>>);
    impl Settler for Taken {
        fn begin(&self, _: u64) -> bool {
            false
        }

        fn settle(&self, _: u64, how: Settlement) {
            assert_eq!(how, Settlement::Retry(Duration::ZERO), "it is dropped");
            drop(self.0.lock().take());
        }
    }
    let nobody = Receipt::new(Arc::new(Taken(Mutex::new(None))), 0);
    let inner = std::mem::replace(&mut delivery.receipt, nobody);
    delivery.receipt = Receipt::new(Arc::new(Taken(Mutex::new(Some(inner)))), 0);
}

async fn rig() -> (Rig, Odd) {
    let env = Env::seeded(5);
    let odd = Odd::new(env.clone());
    (Rig::over(Arc::new(odd.clone()), env).await, odd)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_no_event_is_parked_with_its_reason_and_the_others_go_on() {
    let (rig, odd) = rig().await;
    odd.garbled.lock().insert("a/1".to_owned());
    let consumer = rig.start(config(), |_, _| async { Outcome::Done }).await;
    rig.publish_numbered("a", 0..4).await;
    eventually(LIMIT, async || rig.history.handled("g") == 3).await;
    eventually(LIMIT, async || rig.letters().await.len() == 1).await;
    let settled = async || consumer.status().await.unwrap().lag == Some(0);
    eventually(LIMIT, settled).await;
    let letter = rig.letters().await.remove(0);
    assert_eq!(letter.envelope.event_type, UNREADABLE);
    assert_eq!(letter.code.as_deref(), Some("envelope_invalid"));
    assert!(letter.error.as_deref().unwrap().contains("expected JSON"));
    assert_eq!(&letter.envelope.data[..], b"<order>7</order>", "as it came");

    let report = consumer.replay(ReplayRequest::default()).await.unwrap();
    assert_eq!((report.failed, report.freed), (1, 0));
    let kept = rig.letters().await.remove(0);
    assert_eq!(kept.code.as_deref(), Some("event_unreadable"));
    let query = DeadLetterQuery {
        id: Some(letter.id),
        ..DeadLetterQuery::default()
    };
    assert_eq!(consumer.discard(query).await.unwrap(), 1);
    assert!(rig.letters().await.is_empty());
    assert_eq!(consumer.status().await.unwrap().parked_keys, 0);
    assert_eq!(rig.history.handled("g"), 3, "no handler ever saw it");
}

#[tokio::test(start_paused = true)]
async fn what_is_anothers_by_its_turn_is_dropped_and_leaves_its_place_to_others() {
    let (rig, odd) = rig().await;
    odd.taken.lock().extend(ids_of("a", 0..8));
    let mut config = config();
    (config.in_flight_max, config.held_max) = (4, 1);
    let consumer = rig.start(config, |_, _| async { Outcome::Done }).await;
    rig.publish_numbered("a", 0..8).await;
    rig.publish_numbered("b", 0..8).await;
    // Each comes again, since nobody else is there. Had those that were dropped kept their places, of
    // which there are five, nothing would.
    eventually(LIMIT, async || rig.history.handled("g") == 16).await;
    let status = consumer.status().await.unwrap();
    assert_eq!(
        (status.in_flight, status.queued, status.lag),
        (0, 0, Some(0))
    );
    assert_eq!(status.handled, 16, "what was dropped was not handled");
    assert_eq!(rig.history.of_key("g", "b"), ids_of("b", 0..8));
}
