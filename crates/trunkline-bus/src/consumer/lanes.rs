//! The lanes of a consumer: what each holds, key by key, and which has the next turn.

use std::collections::{HashMap, VecDeque};

use bytestring::ByteString;
use tokio::time::Instant;
use trunkline_core::{Error, Priority};

use super::ConsumerConfig;
use super::item::{Item, Key};
use super::source::Source;
use crate::lane::PRIORITIES;
use crate::{Subscribe, lane};

/// When a key is tried again; the number tells those of one instant apart.
pub(super) type Due = (Instant, u64);

/// One turn in this many is low's, when it has something ready.
const TURNS: u32 = 16;

/// What a lane holds. A key is in `ready` exactly when its state is `Ready`.
pub(super) struct Lane {
    pub(super) source: Source,
    /// Lane name to declared topic.
    topics: HashMap<ByteString, ByteString>,
    pub(super) keys: HashMap<Key, KeyQueue>,
    pub(super) ready: VecDeque<Key>,
    pub(super) keys_running: usize,
    /// Calls of the handler that run for it.
    pub(super) calls: usize,
    /// Deliveries held, those being handled or parked included.
    pub(super) held: usize,
    /// Those of them that are not looked up yet.
    pub(super) arriving: usize,
    active_max: usize,
    held_max: usize,
}

/// The deliveries of a key that wait, in order; those being handled are with their call.
pub(super) struct KeyQueue {
    pub(super) waiting: VecDeque<Item>,
    pub(super) state: KeyState,
}

pub(super) enum KeyState {
    Ready,
    Running,
    /// Its first event failed and is tried again at this time; `successes` is the consumer's count
    /// of handled events when it failed.
    Retrying {
        due: Due,
        successes: u64,
        error: Error,
    },
}

impl Lane {
    pub(super) fn topic(&self, name: &ByteString) -> ByteString {
        self.topics.get(name).unwrap_or(name).clone()
    }

    /// How many deliveries it may take up now.
    pub(super) fn room(&self) -> usize {
        let active = self.ready.len() + self.keys_running + self.arriving;
        let by_work = self.active_max.saturating_sub(active);
        by_work.min(self.held_max.saturating_sub(self.held))
    }

    /// Whether what waits behind failed events leaves no room for others.
    pub(super) fn is_clogged(&self) -> bool {
        self.held >= self.held_max && self.ready.is_empty()
    }

    /// Whether an event of the key is being handled: those behind it stay here until that has ended.
    pub(super) fn is_running(&self, key: &Key) -> bool {
        let queue = self.keys.get(key);
        queue.is_some_and(|queue| matches!(queue.state, KeyState::Running))
    }

    /// Queues a delivery behind those of its key.
    pub(super) fn push(&mut self, item: Item) {
        let key = item.key();
        if let Some(queue) = self.keys.get_mut(&key) {
            queue.waiting.push_back(item);
            return;
        }
        let queue = KeyQueue {
            waiting: VecDeque::from([item]),
            state: KeyState::Ready,
        };
        self.keys.insert(key.clone(), queue);
        self.ready.push_back(key);
    }

    /// Takes a batch for one call: the events of ready keys, whole keys one after the other.
    pub(super) fn take(&mut self, batch_max: usize) -> (Vec<Item>, Vec<(Key, usize)>) {
        let mut batch = Vec::new();
        let mut runs = Vec::new();
        while batch.len() < batch_max
            && let Some(key) = self.ready.pop_front()
        {
            let Some(queue) = self.keys.get_mut(&key) else {
                continue;
            };
            let single = queue.waiting.front().is_some_and(Item::is_single);
            if single && !batch.is_empty() {
                self.ready.push_front(key);
                break;
            }
            let before = batch.len();
            while batch.len() < batch_max
                && let Some(item) = queue.waiting.pop_front()
            {
                if item.is_single() && !(single && batch.is_empty()) {
                    queue.waiting.push_front(item);
                    break;
                }
                if item.meta.receipt.begin() {
                    batch.push(item);
                } else {
                    self.held -= 1;
                }
            }
            if batch.len() == before {
                // All of it is another member's by now, and with it what comes next of this key.
                if queue.waiting.is_empty() {
                    self.keys.remove(&key);
                } else {
                    self.ready.push_back(key);
                }
                continue;
            }
            queue.state = KeyState::Running;
            self.keys_running += 1;
            runs.push((key, batch.len() - before));
            if single {
                break;
            }
        }
        (batch, runs)
    }

    /// A key's call ended and nothing of it failed: it is ready again, or forgotten when empty.
    pub(super) fn release(&mut self, key: Key) {
        self.keys_running -= 1;
        let Some(queue) = self.keys.get_mut(&key) else {
            return;
        };
        if queue.waiting.is_empty() {
            self.keys.remove(&key);
        } else {
            queue.state = KeyState::Ready;
            self.ready.push_back(key);
        }
    }

    /// Puts events back in front of their key's queue, in order.
    pub(super) fn put_back(&mut self, key: &Key, items: Vec<Item>) {
        if let Some(queue) = self.keys.get_mut(key) {
            for item in items.into_iter().rev() {
                queue.waiting.push_front(item);
            }
        }
    }

    /// The pause of a failed key is over.
    pub(super) fn retry(&mut self, key: Key) {
        if let Some(queue) = self.keys.get_mut(&key)
            && matches!(queue.state, KeyState::Retrying { .. })
        {
            queue.state = KeyState::Ready;
            self.ready.push_back(key);
        }
    }

    /// The waiting key with the most deliveries behind it, if others succeeded since it failed.
    pub(super) fn longest_retrying(&self, successes: u64) -> Option<Key> {
        let flows = |queue: &KeyQueue| match queue.state {
            KeyState::Retrying {
                successes: then, ..
            } => successes >= then + OTHERS_FLOW,
            _ => false,
        };
        let candidates = self.keys.iter().filter(|(_, queue)| flows(queue));
        // The key breaks ties, so that a simulation repeats itself.
        let longest = candidates.max_by_key(|(key, queue)| (queue.waiting.len(), *key));
        longest.map(|(key, _)| key.clone())
    }

    /// Takes what waits of a key, with why its first failed, if it waits to be tried again. While one of
    /// its events is being handled, which may fail, those behind it stay.
    pub(super) fn evict(&mut self, key: &Key) -> (VecDeque<Item>, Option<(Due, Error)>) {
        if self.is_running(key) {
            return Default::default();
        }
        let Some(queue) = self.keys.remove(key) else {
            return Default::default();
        };
        match queue.state {
            KeyState::Retrying { due, error, .. } => (queue.waiting, Some((due, error))),
            _ => {
                self.ready.retain(|other| other != key);
                (queue.waiting, None)
            }
        }
    }

    /// Forgets what waits: the engine will deliver it again. Says which retries are void.
    pub(super) fn clear_waiting(&mut self) -> Vec<Due> {
        self.ready.clear();
        let mut void = Vec::new();
        let mut dropped = 0;
        self.keys.retain(|_, queue| {
            dropped += queue.waiting.len();
            queue.waiting.clear();
            if let KeyState::Retrying { due, .. } = queue.state {
                void.push(due);
            }
            matches!(queue.state, KeyState::Running)
        });
        self.held -= dropped;
        void
    }
}

/// So many successes of others, since a key failed, show that the fault is its own.
const OTHERS_FLOW: u64 = 16;

/// The three lanes and their turns.
pub(super) struct Lanes {
    /// High, medium, low.
    pub(super) all: [Lane; 3],
    handlers_max: usize,
    reserve: [usize; 3],
    turn: u32,
}

impl Lanes {
    pub(super) fn new(config: &ConsumerConfig) -> Self {
        let mut specs = PRIORITIES.map(|priority| {
            let wants = |lanes: &[Priority]| lanes.contains(&priority);
            let wanted = config.topics.iter().filter(|(_, lanes)| wants(lanes));
            wanted
                .map(|(topic, _)| (lane(topic, priority), topic.clone()))
                .collect()
        });
        let read: Vec<bool> = specs
            .iter()
            .map(|s: &HashMap<_, _>| !s.is_empty())
            .collect();
        let count = read.iter().filter(|read| **read).count().max(1);
        let handlers_max = config.handlers_max.max(count);
        let reserve = (handlers_max / 8).max(1);
        let mut classes = 0..;
        let all = PRIORITIES.map(|priority| {
            let class: usize = classes.next().unwrap_or(0);
            let topics = specs.get_mut(class).map(std::mem::take).unwrap_or_default();
            let share = match (count, priority) {
                (1, _) => config.in_flight_max,
                (2, _) => config.in_flight_max / 2,
                (_, Priority::Medium) => config.in_flight_max / 2,
                _ => config.in_flight_max / 4,
            };
            Lane::new(
                config,
                topics,
                share.max(1),
                (config.held_max / count).max(1),
            )
        });
        let mut read = read.into_iter();
        let reserve = all.each_ref().map(|_| {
            if read.next() == Some(true) {
                reserve
            } else {
                0
            }
        });
        Self {
            all,
            handlers_max,
            reserve,
            turn: 0,
        }
    }

    pub(super) fn calls(&self) -> usize {
        self.all.iter().map(|lane| lane.calls).sum()
    }

    pub(super) fn get(&mut self, class: usize) -> Option<&mut Lane> {
        self.all.get_mut(class)
    }

    /// The lane whose ready keys run next, if a slot is free for it.
    ///
    /// High goes first, then medium, then low; each leaves free what the higher ones have reserved and
    /// don't use. One turn in sixteen is low's and three are medium's, and then only high's reserve counts.
    pub(super) fn pick(&mut self) -> Option<usize> {
        let favoured = match self.turn % TURNS {
            0 => 2,
            4 | 8 | 12 => 1,
            _ => 0,
        };
        let free = self.handlers_max.saturating_sub(self.calls());
        let picked = if self.may_run(favoured, free, 1) {
            Some(favoured)
        } else {
            (0..3).find(|class| self.may_run(*class, free, *class))
        };
        if picked.is_some() {
            self.turn = self.turn.wrapping_add(1);
        }
        picked
    }

    /// Whether a lane has something ready and a slot beyond what the first `higher` lanes reserve.
    fn may_run(&self, class: usize, free: usize, higher: usize) -> bool {
        let unused = |(lane, reserve): (&Lane, &usize)| reserve.saturating_sub(lane.calls);
        let reserved = self
            .all
            .iter()
            .zip(&self.reserve)
            .take(higher.min(class))
            .map(unused);
        let reserved: usize = reserved.sum();
        self.all
            .get(class)
            .is_some_and(|lane| !lane.ready.is_empty())
            && free > reserved
    }
}

impl Lane {
    fn new(
        config: &ConsumerConfig,
        topics: HashMap<ByteString, ByteString>,
        active_max: usize,
        behind_max: usize,
    ) -> Self {
        let held_max = active_max.saturating_add(behind_max);
        let mut names: Vec<ByteString> = topics.keys().cloned().collect();
        names.sort_unstable();
        let spec = Subscribe {
            topics: names,
            group: Some(config.group.clone()),
            start: config.start,
            in_flight_max: held_max,
        };
        Self {
            source: Source::new(spec),
            topics,
            keys: HashMap::new(),
            ready: VecDeque::new(),
            keys_running: 0,
            calls: 0,
            held: 0,
            arriving: 0,
            active_max,
            held_max,
        }
    }
}
