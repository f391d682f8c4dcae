//! Each node by itself: it reads the events of its bindings, and tells those who are connected to it.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use trunkline_bus::{Delivery, Start, Subscribe, Subscription, Transport};
use trunkline_core::{ByteString, Env, Result, Timestamp, report};

use std::sync::Arc;

use super::Rooms;

/// So many events are read at once.
const BATCH_MAX: usize = 64;
/// Ids of events that may come a second time, after the subscription broke off.
const SEEN_MAX: usize = 4_096;
/// The pause after a failure of the bus.
const PAUSE: Duration = Duration::from_secs(1);
/// After so long without an event there are no more of the past.
const IDLE: Duration = Duration::from_millis(500);
/// How far clocks of publishers may be apart.
const SKEW: Duration = Duration::from_secs(10);

/// Reads events for those who are connected here.
pub(crate) struct Follower {
    rooms: Rooms,
    transport: Arc<dyn Transport>,
    topics: Vec<ByteString>,
    env: Env,
    subscription: Box<dyn Subscription>,
    /// When it heard from the bus last.
    heard: Timestamp,
    seen: HashSet<ByteString>,
    /// In which they came.
    order: VecDeque<ByteString>,
}

impl Follower {
    /// Subscribes: to what was published since `back` where the engine can give that, and from now on elsewhere.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn open(
        rooms: Rooms,
        transport: Arc<dyn Transport>,
        topics: Vec<ByteString>,
        back: Duration,
    ) -> Result<Self> {
        let env = rooms.runtime.env.clone();
        let begin = env.now() - back;
        let subscription = subscribe(&*transport, &topics, begin).await?;
        Ok(Self {
            heard: env.now(),
            rooms,
            transport,
            topics,
            env,
            subscription,
            seen: HashSet::new(),
            order: VecDeque::new(),
        })
    }

    /// Tells of events until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        loop {
            match self.next().await {
                Ok(batch) if batch.is_empty() => return,
                Ok(batch) => {
                    self.heard = self.env.now();
                    for delivery in batch {
                        self.tell(delivery).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(group = &*self.rooms.group, error = %report(&error), "events for rooms can't be read; it is tried again");
                    sleep(PAUSE).await;
                    let begin = self.heard - SKEW;
                    match subscribe(&*self.transport, &self.topics, begin).await {
                        Ok(subscription) => self.subscription = subscription,
                        Err(error) => tracing::debug!(%error, "the bus is still away"),
                    }
                }
            }
        }
    }

    async fn next(&mut self) -> Result<Vec<Delivery>> {
        let sockets = &self.rooms.runtime.sockets;
        if sockets.has_past() {
            let soon = timeout(IDLE, self.subscription.next(BATCH_MAX)).await;
            match soon {
                Ok(batch) => return batch,
                Err(_) => sockets.is_at_present(),
            }
        }
        self.subscription.next(BATCH_MAX).await
    }

    /// An event that can't be told is left out: who is connected gets the next.
    async fn tell(&mut self, delivery: Delivery) {
        let event = &delivery.envelope;
        if delivery.unreadable.is_none()
            && self.is_new(&event.id)
            && let Err(error) = self.rooms.tell(event).await
        {
            tracing::warn!(
                group = &*self.rooms.group, event = &*event.id,
                error = %report(&error), "a room can't be told of an event"
            );
        }
        delivery.receipt.ack();
    }

    fn is_new(&mut self, id: &ByteString) -> bool {
        if !self.seen.insert(id.clone()) {
            return false;
        }
        if self.order.len() == SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.order.push_back(id.clone());
        true
    }
}

async fn subscribe(
    transport: &dyn Transport,
    topics: &[ByteString],
    begin: Timestamp,
) -> Result<Box<dyn Subscription>> {
    let start = match transport.capabilities().replay {
        true => Start::Time(begin),
        false => Start::Latest,
    };
    let spec = Subscribe {
        topics: topics.to_vec(),
        group: None,
        start,
        in_flight_max: BATCH_MAX,
    };
    transport.subscribe(&spec).await
}
