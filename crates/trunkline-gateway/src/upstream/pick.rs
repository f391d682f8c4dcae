//! Which target gets a request.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::Instant;
use trunkline_call::balance::{Load, Ring};
use trunkline_core::Env;

use super::health::Health;
use crate::config::Algorithm;

/// A turn through all targets is at most so many requests long; with weights that make a longer one, shares are those
/// of the nearest weights that don't.
const TURN_MAX: u64 = 16_384;
/// What a target is taken to need for an answer before it has given one: so that each is tried.
const FIRST_NANOS: f64 = 1_000.0;

/// What is known of a target, whoever uses it.
#[derive(Debug)]
pub(crate) struct Vitals {
    pub(crate) health: Health,
    pub(crate) under_way: AtomicUsize,
    load: Load,
    /// Its times are told from here.
    since: Instant,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            health: Health::default(),
            under_way: AtomicUsize::new(0),
            load: Load::new(FIRST_NANOS, 0),
            since: Instant::now(),
        }
    }
}

impl Vitals {
    fn nanos(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The targets that a request was sent to in vain.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<usize>);

impl Tried {
    pub(crate) fn add(&mut self, index: usize) {
        self.0.push(index);
    }

    fn has(&self, index: usize) -> bool {
        self.0.contains(&index)
    }
}

/// Chooses among targets by one algorithm.
#[derive(Debug)]
pub(crate) struct Picker {
    algorithm: Algorithm,
    targets: Box<[Arc<Vitals>]>,
    weights: Box<[u16]>,
    /// The least share of healthy weight, in percent, with which there is a choice at all.
    threshold: f64,
    /// Which are healthy, and their order.
    wheel: ArcSwap<Wheel>,
    turning: Mutex<()>,
    turn: AtomicUsize,
    /// Those that have a weight, and their places.
    ring: Option<(Ring, Box<[usize]>)>,
    env: Env,
}

/// The targets that can be given requests.
#[derive(Debug, Default)]
struct Wheel {
    healthy: Vec<usize>,
    /// Each as often as it has weight, evenly mixed; of one algorithm only.
    order: Vec<usize>,
}

impl Picker {
    /// A choice among targets, each with its name and weight.
    pub(crate) fn new(
        algorithm: Algorithm,
        targets: &[(String, u16, Arc<Vitals>)],
        threshold: f64,
        env: Env,
    ) -> Self {
        let weighty = targets.iter().filter(|(_, weight, _)| *weight > 0);
        let places = targets
            .iter()
            .enumerate()
            .filter(|(_, target)| target.1 > 0);
        let places: Box<[usize]> = places.map(|(index, _)| index).collect();
        let named = weighty.map(|(name, weight, _)| (&**name, *weight));
        let ring = (algorithm == Algorithm::ConsistentHashing).then(|| Ring::new(named));
        let picker = Self {
            algorithm,
            targets: targets.iter().map(|(.., vitals)| vitals.clone()).collect(),
            weights: targets.iter().map(|(_, weight, _)| *weight).collect(),
            threshold,
            wheel: ArcSwap::default(),
            turning: Mutex::default(),
            turn: AtomicUsize::new(0),
            ring: ring.map(|ring| (ring, places)),
            env,
        };
        picker.turn();
        picker
    }

    /// Looks again at who is healthy.
    pub(crate) fn turn(&self) {
        let _one = self.turning.lock();
        let all: u64 = self.weights.iter().map(|weight| u64::from(*weight)).sum();
        let weighed = self.targets.iter().zip(&self.weights).enumerate();
        let healthy = weighed.filter(|(_, (one, weight))| **weight > 0 && one.health.is_healthy());
        let weighed = healthy.map(|(index, (_, weight))| (index, u64::from(*weight)));
        let weighed: Vec<(usize, u64)> = weighed.collect();
        let sum: u64 = weighed.iter().map(|(_, weight)| weight).sum();
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = 100.0 * sum as f64 / all.max(1) as f64;
        let wheel = match weighed.is_empty() || share < self.threshold {
            true => Wheel::default(),
            false => Wheel {
                healthy: weighed.iter().map(|(index, _)| *index).collect(),
                order: even_order(weighed),
            },
        };
        self.wheel.store(Arc::new(wheel));
    }

    /// Whether there is a target that can be given requests.
    pub(crate) fn is_up(&self) -> bool {
        !self.wheel.load().healthy.is_empty()
    }

    /// The target for a request with this key, if it has one: rather one that it was not sent to yet.
    pub(crate) fn pick(&self, key: Option<&[u8]>, tried: &Tried) -> Option<usize> {
        let wheel = self.wheel.load();
        match *wheel.healthy {
            [] => None,
            [only] => Some(only),
            ref all if all.iter().all(|index| tried.has(*index)) => {
                self.choose(&wheel, key, &Tried::default())
            }
            _ => self.choose(&wheel, key, tried),
        }
    }

    fn choose(&self, wheel: &Wheel, key: Option<&[u8]>, tried: &Tried) -> Option<usize> {
        match (self.algorithm, &self.ring, key) {
            (Algorithm::ConsistentHashing, Some((ring, places)), Some(key)) => {
                let after = ring
                    .after(key)
                    .filter_map(|place| places.get(place).copied());
                let mut after = after.filter(|index| !tried.has(*index));
                after.find(|index| self.is_healthy(*index))
            }
            (Algorithm::LeastConnections, ..) => self.least(wheel, tried),
            (Algorithm::Latency, ..) => self.fastest(wheel, tried),
            _ => {
                let mut turns = in_turn(&wheel.order, &self.turn);
                turns.find(|index| !tried.has(*index))
            }
        }
    }

    /// The one with the least to do for its weight; of several, each in turn.
    fn least(&self, wheel: &Wheel, tried: &Tried) -> Option<usize> {
        let untried = in_turn(&wheel.healthy, &self.turn).filter(|index| !tried.has(*index));
        let mut best: Option<(usize, u64, u64)> = None;
        for index in untried {
            let under_way = self.targets.get(index)?.under_way.load(Ordering::Relaxed);
            let (does, weight) = (under_way as u64 + 1, self.weight(index));
            // A share of work is smaller if the products are.
            if best.is_none_or(|(_, least, its)| does * its < least * weight) {
                best = Some((index, does, weight));
            }
        }
        best.map(|(index, ..)| index)
    }

    /// The better one of two that are drawn: by how long it takes, and how many wait for it.
    fn fastest(&self, wheel: &Wheel, tried: &Tried) -> Option<usize> {
        let drawn = AtomicUsize::new(usize::try_from(self.env.random_u64() >> 33).unwrap_or(0));
        let second = usize::try_from(self.env.random_u64() >> 33).unwrap_or(0);
        let mut untried = in_turn(&wheel.healthy, &drawn).filter(|index| !tried.has(*index));
        let one = untried.next()?;
        let others = untried.clone().count();
        let Some(other) = untried.nth(second.checked_rem(others).unwrap_or(0)) else {
            return Some(one);
        };
        #[expect(clippy::cast_precision_loss, reason = "a comparison of costs")]
        let cost = |index: usize| {
            let under_way = |one: &Vitals| one.under_way.load(Ordering::Relaxed) as f64 + 1.0;
            let cost = |one: &Arc<Vitals>| one.load.nanos(one.nanos()) * under_way(one);
            self.targets.get(index).map_or(f64::MAX, cost) / self.weight(index) as f64
        };
        Some(if cost(other) < cost(one) { other } else { one })
    }

    /// When a request to a target begins, for an algorithm that wants to know how long the answer takes.
    pub(crate) fn begins(&self, index: usize) -> Option<u64> {
        let one = (self.algorithm == Algorithm::Latency).then(|| self.targets.get(index))?;
        one.map(|one| one.nanos())
    }

    /// A target has answered, or not.
    pub(crate) fn ended(&self, index: usize, began: Option<u64>, failed: bool) {
        let (Some(began), Some(one)) = (began, self.targets.get(index)) else {
            return;
        };
        let now = one.nanos();
        #[expect(clippy::cast_precision_loss, reason = "a duration")]
        let took = now.saturating_sub(began) as f64;
        if failed {
            one.load.failed(now, took);
        } else {
            one.load.answered(now, took);
        }
    }

    fn is_healthy(&self, index: usize) -> bool {
        let one = self.targets.get(index);
        one.is_some_and(|one| one.health.is_healthy())
    }

    fn weight(&self, index: usize) -> u64 {
        self.weights
            .get(index)
            .copied()
            .map_or(1, |weight| u64::from(weight).max(1))
    }
}

/// Each once, beginning with the next.
fn in_turn<'a>(list: &'a [usize], turn: &AtomicUsize) -> impl Iterator<Item = usize> + Clone + 'a {
    let first = turn.fetch_add(1, Ordering::Relaxed).checked_rem(list.len());
    let (before, after) = list
        .split_at_checked(first.unwrap_or(0))
        .unwrap_or_default();
    after.iter().chain(before).copied()
}

/// Each as often as it has weight, as far from itself as can be: the order of who is due first.
fn even_order(mut weighed: Vec<(usize, u64)>) -> Vec<usize> {
    let gcd = weighed
        .iter()
        .fold(0, |all, (_, weight)| gcd(all, *weight))
        .max(1);
    let sum: u64 = weighed.iter().map(|(_, weight)| weight / gcd).sum();
    for (_, weight) in &mut weighed {
        *weight /= gcd;
        if sum > TURN_MAX {
            *weight = (*weight * TURN_MAX / sum).max(1);
        }
    }
    let mut due = std::collections::BinaryHeap::with_capacity(weighed.len());
    // The time of a turn, fine enough for every weight.
    const TURN: u64 = 1 << 40;
    for (place, (_, weight)) in weighed.iter().enumerate() {
        due.push(Reverse((TURN / weight / 2, place, *weight)));
    }
    let mut order = Vec::new();
    while let Some(Reverse((at, place, left))) = due.pop() {
        let Some((index, weight)) = weighed.get(place) else {
            continue;
        };
        order.push(*index);
        if left > 1 {
            due.push(Reverse((at + TURN / weight, place, left - 1)));
        }
    }
    order
}

fn gcd(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        b => gcd(b, a % b),
    }
}

#[cfg(test)]
mod tests;
