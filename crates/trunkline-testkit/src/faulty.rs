//! A transport that fails as a plan says, the same way for the same seed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use trunkline_bus::{
    Capabilities, Delivery, PublishError, Receipt, Settlement, Settler, Subscribe, Subscription,
    TopicSpec, Transport,
};
use trunkline_core::{ByteString, Envelope, Error, ErrorKind, Result};

/// Which faults to inject, each with its probability between 0 and 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The seed of all draws.
    pub seed: u64,
    /// An acknowledgement does not reach the engine: the event comes again.
    pub lost_ack: f64,
    /// A delivery comes twice.
    pub duplicate: f64,
    /// A batch of deliveries comes late, by up to `delay_max`.
    pub delay: f64,
    /// The longest delay.
    pub delay_max: Duration,
    /// A batch of deliveries comes in another order; each key keeps its own.
    pub reorder: f64,
    /// The subscription breaks instead of delivering.
    pub disconnect: f64,
    /// Publishing fails before anything is accepted.
    pub publish_refused: f64,
    /// Publishing fails although all was accepted.
    pub publish_unanswered: f64,
}

impl Plan {
    /// Every fault now and then, chosen to keep a test busy.
    pub fn everything(seed: u64) -> Self {
        Self {
            seed,
            lost_ack: 0.05,
            duplicate: 0.05,
            delay: 0.1,
            delay_max: Duration::from_millis(50),
            reorder: 0.3,
            disconnect: 0.02,
            publish_refused: 0.05,
            publish_unanswered: 0.05,
        }
    }
}

/// Any transport, with faults. Cheap to clone.
///
/// # Guarantees
/// Faults stay within what [`Transport`] allows an engine: nothing is lost, and a key keeps its order
/// but for what is delivered again.
#[derive(Debug, Clone)]
pub struct Faulty<T> {
    inner: T,
    dice: Dice,
}

impl<T: Transport> Faulty<T> {
    /// `inner`, with the faults of `plan`.
    pub fn new(inner: T, plan: Plan) -> Self {
        Self {
            inner,
            dice: Dice::new(plan),
        }
    }

    /// Stops (or starts again) injecting faults.
    pub fn set_active(&self, active: bool) {
        self.dice.0.lock().active = active;
    }

    /// How many faults were injected so far.
    pub fn faults(&self) -> usize {
        self.dice.0.lock().faults
    }
}

#[derive(Clone)]
struct Dice(Arc<Mutex<State>>);

struct State {
    plan: Plan,
    rng: StdRng,
    active: bool,
    faults: usize,
}

impl Dice {
    fn new(plan: Plan) -> Self {
        let rng = StdRng::seed_from_u64(plan.seed);
        Self(Arc::new(Mutex::new(State {
            plan,
            rng,
            active: true,
            faults: 0,
        })))
    }

    fn falls(&self, chance: impl Fn(&Plan) -> f64) -> bool {
        let mut state = self.0.lock();
        let chance = chance(&state.plan).clamp(0.0, 1.0);
        let falls = state.active && chance > 0.0 && state.rng.random_bool(chance);
        state.faults += usize::from(falls);
        falls
    }

    fn pause(&self) -> Duration {
        let mut state = self.0.lock();
        let share = state.rng.random::<f64>();
        state.plan.delay_max.mul_f64(share)
    }

    fn below(&self, bound: usize) -> usize {
        self.0.lock().rng.random_range(0..bound.max(1))
    }
}

impl fmt::Debug for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.lock().plan, f)
    }
}

impl<T: Transport> Transport for Faulty<T> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        self.inner.declare(topics)
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        async move {
            if self.dice.falls(|plan| plan.publish_refused) {
                let error = Error::unavailable("injected", "publishing was refused");
                return Err(PublishError { accepted: 0, error });
            }
            self.inner.publish(batch).await?;
            if self.dice.falls(|plan| plan.publish_unanswered) {
                let message = "publishing was not answered";
                let error = Error::new(ErrorKind::DeadlineExceeded, "injected", message);
                return Err(PublishError { accepted: 0, error });
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
            let inner = self.inner.subscribe(spec).await?;
            let receipts = Arc::new(Receipts {
                dice: self.dice.clone(),
                open: Mutex::default(),
            });
            let faulty = FaultySubscription {
                inner,
                receipts,
                stash: Vec::new(),
                broken: false,
            };
            Ok(Box::new(faulty) as Box<dyn Subscription>)
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.close()
    }
}

struct FaultySubscription {
    inner: Box<dyn Subscription>,
    receipts: Arc<Receipts>,
    /// Deliveries that wait out a delay, so that a cancelled `next` loses none.
    stash: Vec<Delivery>,
    broken: bool,
}

/// Stands between the receipts that the test holds and those of the engine.
struct Receipts {
    dice: Dice,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    receipts: HashMap<u64, Receipt>,
}

impl Settler for Receipts {
    fn settle(&self, token: u64, how: Settlement) {
        let receipt = self.open.lock().receipts.remove(&token);
        let Some(receipt) = receipt else { return };
        match how {
            Settlement::Ack if self.dice.falls(|plan| plan.lost_ack) => drop(receipt),
            Settlement::Ack => receipt.ack(),
            Settlement::Retry(pause) => receipt.retry(pause),
        }
    }
}

impl FaultySubscription {
    fn wrap(&self, delivery: Delivery, into: &mut Vec<Delivery>) {
        let mut open = self.receipts.open.lock();
        open.last += 1;
        let token = open.last;
        open.receipts.insert(token, delivery.receipt);
        drop(open);
        let settler: Arc<dyn Settler> = self.receipts.clone();
        let doubled = self.receipts.dice.falls(|plan| plan.duplicate);
        let mut unreadable = delivery.unreadable;
        let mut copy = |token| Delivery {
            envelope: delivery.envelope.clone(),
            offset: delivery.offset,
            partition: delivery.partition,
            redeliveries: delivery.redeliveries,
            unreadable: unreadable.take(),
            receipt: Receipt::new(settler.clone(), token),
        };
        into.push(copy(token));
        if doubled {
            // Token 0 names no delivery: settling the copy does nothing.
            into.push(copy(0));
        }
    }

    /// Mixes the keys; each key's own deliveries keep their order.
    fn shuffle(&self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        let mut keys: Vec<(ByteString, std::collections::VecDeque<Delivery>)> = Vec::new();
        for delivery in deliveries {
            let key = delivery
                .envelope
                .key
                .as_ref()
                .unwrap_or(&delivery.envelope.id)
                .clone();
            match keys.iter_mut().find(|(other, _)| *other == key) {
                Some((_, of_key)) => of_key.push_back(delivery),
                None => keys.push((key, [delivery].into())),
            }
        }
        let mut mixed = Vec::new();
        while !keys.is_empty() {
            let at = self.receipts.dice.below(keys.len());
            let Some((_, of_key)) = keys.get_mut(at) else {
                continue;
            };
            mixed.extend(of_key.pop_front());
            if of_key.is_empty() {
                keys.swap_remove(at);
            }
        }
        mixed
    }
}

impl Subscription for FaultySubscription {
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>> {
        async move {
            let dice = self.receipts.dice.clone();
            if self.stash.is_empty() {
                self.broken |= dice.falls(|plan| plan.disconnect);
                if self.broken {
                    return Err(Error::unavailable("injected", "the subscription broke"));
                }
                let got = self.inner.next(max).await?;
                if got.is_empty() {
                    return Ok(got);
                }
                let got = if dice.falls(|p| p.reorder) {
                    self.shuffle(got)
                } else {
                    got
                };
                let mut stash = Vec::new();
                for delivery in got {
                    self.wrap(delivery, &mut stash);
                }
                self.stash = stash;
                if dice.falls(|plan| plan.delay) {
                    tokio::time::sleep(dice.pause()).await;
                }
            }
            let rest = self.stash.split_off(self.stash.len().min(max.max(1)));
            Ok(std::mem::replace(&mut self.stash, rest))
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

impl fmt::Debug for FaultySubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultySubscription")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
