//! A sound transport with a bug planted in front of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use trunkline_bus::memory::Memory;
use trunkline_bus::{
    Capabilities, Delivery, PublishError, Receipt, Settlement, Settler, Start, Subscribe,
    Subscription, TopicSpec, Transport,
};
use trunkline_core::{ByteString, Env, Envelope, ErrorKind, Result};

use crate::bugs::Bug;

#[derive(Debug, Clone)]
pub(crate) struct Planted {
    memory: Memory,
    bug: Bug,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    count: AtomicU64,
    members: AtomicUsize,
    /// Of each group: how many are in it, how often it was empty, whether it has ever been.
    groups: Mutex<HashMap<ByteString, (usize, usize)>>,
    /// What other members are to get too.
    copies: Mutex<VecDeque<(usize, Envelope)>>,
}

impl Planted {
    pub(crate) fn new(bug: Bug, env: Env) -> Self {
        Self {
            memory: Memory::new(env),
            bug,
            shared: Arc::default(),
        }
    }

    fn bend(&self, envelope: &Envelope) -> Vec<Envelope> {
        let mut event = envelope.clone();
        let number = self.shared.count.fetch_add(1, Ordering::SeqCst);
        match self.bug {
            Bug::LosesSome if number % 7 == 6 => return Vec::new(),
            Bug::KeylessDropped if event.key.is_none() => return Vec::new(),
            Bug::PublishedTwice => return vec![event.clone(), event],
            Bug::HeadersLost => event.extensions.clear(),
            Bug::BodyCut if event.data.len() > 65_536 => event.data = event.data.slice(..65_536),
            Bug::PartitionAtRandom if event.key.is_some() => {
                let key = event.key.take().unwrap_or_default();
                event.key = Some(format!("{number}").into());
                event.extensions.push(("realkey".into(), key));
            }
            _ => {}
        }
        vec![event]
    }
}

impl Transport for Planted {
    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        async move {
            match self.memory.declare(topics).await {
                Err(error)
                    if self.bug == Bug::ConflictIgnored && error.kind() == ErrorKind::Conflict =>
                {
                    Ok(())
                }
                other => other,
            }
        }
        .boxed()
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        async move {
            for (accepted, envelope) in batch.iter().enumerate() {
                let bent = self.bend(envelope);
                if self.bug == Bug::TopicMadeUp {
                    let spec = trunkline_testkit::topic(&envelope.topic, 1);
                    self.memory.declare(&[spec]).await.ok();
                }
                if let Err(refused) = self.memory.publish(&bent).await {
                    let lies = self.bug == Bug::AcceptedNothing;
                    return Err(PublishError {
                        accepted: if lies { 0 } else { accepted },
                        ..refused
                    });
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn subscribe<'a>(
        &'a self,
        spec: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        async move {
            let id = self.shared.members.fetch_add(1, Ordering::SeqCst);
            let mut bent = spec.clone();
            let group = spec.group.clone();
            if let Some(group) = &group {
                let mut groups = self.shared.groups.lock();
                let is_new = !groups.contains_key(group);
                let (members, ended) = groups.entry(group.clone()).or_default();
                *members += 1;
                match self.bug {
                    Bug::GroupIsABroadcast => bent.group = Some(format!("{group}#{id}").into()),
                    Bug::GroupForgets => bent.group = Some(format!("{group}#{ended}").into()),
                    Bug::NewGroupAtTheEnd if is_new => bent.start = Start::Latest,
                    _ => {}
                }
            }
            match (self.bug, bent.start) {
                (Bug::NoBoundInFlight, _) => bent.in_flight_max = bent.in_flight_max.max(1) * 1_000,
                (Bug::OffsetIgnored, Start::Offset(_)) | (Bug::TimeIgnored, Start::Time(_)) => {
                    bent.start = Start::Earliest;
                }
                _ => {}
            }
            if spec.in_flight_max == 0 {
                bent.in_flight_max = 0;
            }
            let inner = self.memory.subscribe(&bent).await?;
            let desk = Arc::new(Desk {
                planted: self.clone(),
                out: Mutex::default(),
                last: AtomicU64::new(0),
                held_up: Mutex::new(None),
                left: Mutex::new(false),
            });
            Ok(Box::new(Member {
                id,
                group,
                inner: Some(inner),
                desk,
            }) as Box<dyn Subscription>)
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        match self.bug {
            Bug::CloseDoesNothing => std::future::ready(Ok(())).boxed(),
            _ => self.memory.close(),
        }
    }
}

/// A delivery that is out.
#[derive(Debug)]
struct Out {
    envelope: Envelope,
    partition: u16,
    offset: u64,
    receipt: Receipt,
}

#[derive(Debug)]
struct Desk {
    planted: Planted,
    out: Mutex<BTreeMap<u64, Out>>,
    last: AtomicU64,
    held_up: Mutex<Option<tokio::time::Instant>>,
    left: Mutex<bool>,
}

impl Settler for Desk {
    fn settle(&self, token: u64, how: Settlement) {
        let bug = self.planted.bug;
        let Some(out) = self.out.lock().remove(&token) else {
            return;
        };
        match (bug, how) {
            (Bug::AckAfterAFailure, _) => out.receipt.ack(),
            (Bug::SkippedOnError, Settlement::Retry(_)) => std::mem::forget(out.receipt),
            (Bug::NoPause, Settlement::Retry(_)) => out.receipt.retry(Duration::ZERO),
            (Bug::RetryHoldsUpAll, Settlement::Retry(pause)) => {
                *self.held_up.lock() = Some(tokio::time::Instant::now() + pause);
                out.receipt.retry(pause);
            }
            (Bug::LateSettlement, Settlement::Retry(_)) if *self.left.lock() => {
                let memory = self.planted.memory.clone();
                // Memory never waits.
                memory.publish(&[out.envelope]).now_or_never();
            }
            (Bug::CommitPastWorkInFlight, Settlement::Ack) => {
                let mut all = self.out.lock();
                let before: Vec<u64> = all
                    .iter()
                    .filter(|(_, other)| {
                        other.partition == out.partition && other.offset < out.offset
                    })
                    .map(|(token, _)| *token)
                    .collect();
                for token in before {
                    if let Some(other) = all.remove(&token) {
                        other.receipt.ack();
                    }
                }
                out.receipt.ack();
            }
            (_, Settlement::Ack) => out.receipt.ack(),
            (_, Settlement::Retry(pause)) => out.receipt.retry(pause),
        }
    }
}

#[derive(Debug)]
struct Member {
    id: usize,
    group: Option<ByteString>,
    inner: Option<Box<dyn Subscription>>,
    desk: Arc<Desk>,
}

/// Deliveries that are lost when it is dropped with them.
struct Loser(Vec<Delivery>);

impl Drop for Loser {
    fn drop(&mut self) {
        self.0
            .drain(..)
            .for_each(|delivery| std::mem::forget(delivery.receipt));
    }
}

impl Member {
    fn hand_out(&self, delivery: Delivery) -> Delivery {
        let desk = &self.desk;
        let bug = desk.planted.bug;
        let mut envelope = delivery.envelope;
        if let Some((_, key)) = envelope.extensions.pop_if(|(name, _)| name == "realkey") {
            envelope.key = Some(key);
        }
        let token = desk.last.fetch_add(1, Ordering::SeqCst) + 1;
        if bug == Bug::ConcurrentRedelivery && token.is_multiple_of(5) {
            let copy = (self.id, envelope.clone());
            desk.planted.shared.copies.lock().push_back(copy);
        }
        if bug == Bug::AckBeforeTheHandler {
            delivery.receipt.ack();
        } else {
            let out = Out {
                envelope: envelope.clone(),
                partition: delivery.partition,
                offset: delivery.offset,
                receipt: delivery.receipt,
            };
            desk.out.lock().insert(token, out);
        }
        let never = bug == Bug::NeverARedelivery;
        Delivery {
            envelope,
            redeliveries: if never { 0 } else { delivery.redeliveries },
            receipt: Receipt::new(desk.clone(), token),
            ..delivery
        }
    }

    /// Copies of what other members have.
    fn copies(&self) -> Vec<Delivery> {
        let mut copies = self.desk.planted.shared.copies.lock();
        let Some(at) = copies.iter().position(|(of, _)| *of != self.id) else {
            return Vec::new();
        };
        let copy = copies.remove(at).into_iter();
        copy.map(|(_, envelope)| Delivery {
            envelope,
            offset: 0,
            partition: 0,
            redeliveries: 1,
            unreadable: None,
            receipt: Receipt::new(self.desk.clone(), 0),
        })
        .collect()
    }
}

impl Subscription for Member {
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>> {
        async move {
            let bug = self.desk.planted.bug;
            let held_up = *self.desk.held_up.lock();
            if let Some(until) = held_up {
                tokio::time::sleep_until(until).await;
            }
            if bug == Bug::ConcurrentRedelivery && self.group.is_some() {
                let copies = self.copies();
                if !copies.is_empty() {
                    return Ok(copies);
                }
            }
            let more = usize::from(bug == Bug::MoreThanAsked);
            let inner = self
                .inner
                .as_mut()
                .expect("it is there until it is dropped");
            let mut got = inner.next(max + more).await?;
            if bug == Bug::NotCancelSafe {
                let mut loser = Loser(got);
                tokio::task::yield_now().await;
                got = std::mem::take(&mut loser.0);
            }
            if bug == Bug::Backwards {
                got.reverse();
            }
            Ok(got.into_iter().map(|one| self.hand_out(one)).collect())
        }
        .boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.as_ref().expect("it is there").flush()
    }

    fn lag(&self) -> BoxFuture<'_, Result<u64>> {
        match self.desk.planted.bug {
            Bug::NoLag => std::future::ready(Ok(0)).boxed(),
            _ => self.inner.as_ref().expect("it is there").lag(),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(group) = &self.group
            && let Some((members, ended)) = self.desk.planted.shared.groups.lock().get_mut(group)
        {
            *members -= 1;
            *ended += usize::from(*members == 0);
        }
        *self.desk.left.lock() = true;
        if self.desk.planted.bug == Bug::LeaverKeepsAll {
            std::mem::forget(self.inner.take());
        }
    }
}
