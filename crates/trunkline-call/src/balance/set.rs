//! The choice among the instances of one list.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use super::ring::Ring;
use super::{Ask, Member, Pool};

/// How often two are drawn before all are looked at.
const DRAWS_MAX: u32 = 4;
/// One call in so many goes to the first that is drawn, so that each instance gets work and shows how it is now.
const EXPLORE: u64 = 32;
/// Latencies that differ by less than this factor count as the same.
const SAME_WITHIN: f64 = 1.25;
/// With a key, an instance gets at most so many times its share of what is in flight.
const KEYED_MAX: f64 = 1.25;

/// The instances of one list, and what is reckoned from it once.
#[derive(Default)]
pub(super) struct Set {
    pub(super) members: Vec<Arc<Member>>,
    weights: Vec<u16>,
    /// Sums of the weights up to each; none when all are the same.
    sums: Vec<u64>,
    mean_weight: f64,
    ring: OnceLock<Ring>,
}

impl Set {
    pub(super) fn new(members: impl Iterator<Item = (Arc<Member>, u16)>) -> Self {
        let (members, weights): (Vec<_>, Vec<u16>) = members.unzip();
        let is_even = weights.windows(2).all(|pair| pair.first() == pair.last());
        let sum = |total: &mut u64, weight: &u16| {
            *total += u64::from(*weight);
            Some(*total)
        };
        let sums: Vec<u64> = weights.iter().scan(0, sum).collect();
        #[expect(
            clippy::cast_precision_loss,
            reason = "at most INSTANCES_MAX times WEIGHT_MAX"
        )]
        let mean_weight = sums
            .last()
            .map_or(1.0, |total| *total as f64 / sums.len() as f64);
        Self {
            members,
            weights,
            sums: if is_even { Vec::new() } else { sums },
            mean_weight,
            ring: OnceLock::new(),
        }
    }

    pub(super) fn choose(&self, pool: &Pool, ask: &Ask<'_>, now: u64) -> Option<&Arc<Member>> {
        let can = |member: &Member| {
            ask.avoid.is_none_or(|avoid| !avoid.has(member.authority()))
                && ask.admits.is_none_or(|admits| admits(member))
        };
        if let [only] = self.members.as_slice() {
            return can(only).then_some(only);
        }
        match ask.key {
            Some(key) => self.by_key(pool, key, can),
            None => self.by_two(pool, now, can),
        }
    }

    /// The better of two; if neither can, the next pair, and at last whoever can.
    fn by_two(&self, pool: &Pool, now: u64, can: impl Fn(&Member) -> bool) -> Option<&Arc<Member>> {
        let mut start = 0;
        for _ in 0..DRAWS_MAX {
            let random = pool.env.random_u64();
            let (one, other) = self.draw(random);
            start = one;
            let (first, second) = (self.members.get(one)?, self.members.get(other)?);
            match (can(first), can(second)) {
                (true, false) => return Some(first),
                (false, true) => return Some(second),
                (false, false) => {}
                (true, true) => {
                    let explores = random.is_multiple_of(EXPLORE);
                    let is_first = explores || !self.is_better((other, second), (one, first), now);
                    return Some(if is_first { first } else { second });
                }
            }
        }
        let (before, after) = self.members.split_at_checked(start)?;
        after.iter().chain(before).find(|member| can(member))
    }

    /// Two instances: of even weights two different ones, else each by its weight.
    fn draw(&self, random: u64) -> (usize, usize) {
        let (high, low) = (random >> 32, random & 0xffff_ffff);
        let below = |random: u64, bound: u64| (random * bound) >> 32;
        #[expect(clippy::cast_possible_truncation, reason = "below INSTANCES_MAX")]
        match self.sums.last() {
            None => {
                let count = self.members.len() as u64;
                let first = below(high, count);
                let second = first + 1 + below(low, count.saturating_sub(1));
                (first as usize, (second % count.max(1)) as usize)
            }
            Some(total) => {
                let at = |random| {
                    let place = below(random, *total);
                    self.sums.partition_point(|sum| *sum <= place)
                };
                (at(high), at(low))
            }
        }
    }

    /// Whether a call would clearly end sooner at one than at the other.
    fn is_better(&self, one: (usize, &Member), other: (usize, &Member), now: u64) -> bool {
        let (mine, theirs) = (one.1.load.nanos(now), other.1.load.nanos(now));
        let (waiting, longer) = (self.waiting(one), self.waiting(other));
        // A little faster is chance, and who was measured last seems slower: then what is in flight decides.
        if mine.max(theirs) <= mine.min(theirs) * SAME_WITHIN {
            return waiting < longer;
        }
        mine * (waiting + 1.0) < theirs * (longer + 1.0)
    }

    /// What is in flight there. Who has more weight takes more.
    fn waiting(&self, (index, member): (usize, &Member)) -> f64 {
        let waiting = f64::from(member.in_flight());
        if self.sums.is_empty() {
            return waiting;
        }
        let weight = self.weights.get(index).copied().unwrap_or(1);
        waiting * self.mean_weight / f64::from(weight)
    }

    /// The first on the ring from the key's place that can and has not more than its share, or else the first that can.
    fn by_key(
        &self,
        pool: &Pool,
        key: &[u8],
        can: impl Fn(&Member) -> bool,
    ) -> Option<&Arc<Member>> {
        let ring = self.ring.get_or_init(|| {
            let names = self
                .members
                .iter()
                .map(|member| member.authority().as_str());
            Ring::new(names.zip(self.weights.iter().copied()))
        });
        let all = f64::from(pool.in_flight.load(Relaxed) + 1);
        #[expect(
            clippy::cast_precision_loss,
            reason = "at most INSTANCES_MAX times WEIGHT_MAX"
        )]
        let whole = self.mean_weight * self.members.len() as f64;
        let mut fallback = None;
        let mut last = usize::MAX;
        for index in ring.after(key) {
            if index == last {
                continue;
            }
            last = index;
            let (Some(member), Some(weight)) = (self.members.get(index), self.weights.get(index))
            else {
                continue;
            };
            if !can(member) {
                continue;
            }
            let bound = (all * KEYED_MAX * f64::from(*weight) / whole).ceil();
            if f64::from(member.in_flight()) < bound {
                return Some(member);
            }
            fallback = fallback.or(Some(member));
        }
        fallback
    }
}
