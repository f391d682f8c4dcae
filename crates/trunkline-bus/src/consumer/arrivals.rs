//! What comes from the transport, until it is known which of it belongs behind parked keys.
//!
//! Members of a group, in this process and in others, share the lot. A key that one of them parked must
//! be known to whoever handles its next event. Transports don't say when a partition comes over from
//! another member, so every delivery is taken for one that may have. Its member acknowledged a parked
//! event only after the letter was kept, and the partition came over only after that; so it is enough to
//! look into the lot after a delivery has come and before it is handled:
//!
//! - Where all members are in this process (a lot in memory, or in SQLite), the lot has told of the
//!   letter before the delivery came: hearing what it has told is enough, and costs nothing.
//! - Where they are not (PostgreSQL), deliveries wait here while the lot is asked for their keys: one
//!   question at a time, for all that came since the last. What came in order goes on in order.
//!
//! That a key is free again is no more than good to know (see [`super::parked`]), so nothing waits for it.
//!
//! Should the engine take a partition from a member that still handles one of its events, as it must
//! when that member seems dead, then the event is handled twice, as with any redelivery, and what the
//! late one then parks is a duplicate in the lot: [`crate::Receipt::begin`] keeps that short.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::time::Instant;
use trunkline_core::{Env, Result, report};

use super::actor::Actor;
use super::item::{Item, Key, key_of};
use super::parked::answer;
use super::source::RECONNECT;
use crate::{Change, Changes, Delivery};

pub(super) struct Arrivals {
    pub(super) changes: Changes,
    /// With their turns, which ascend.
    waiting: VecDeque<Arrived>,
    turns: u64,
    /// Keys that may be free again.
    doubtful: Vec<Key>,
    /// Any key may be parked or free.
    unknown: bool,
    /// Who wants to be told when the next question is answered.
    asking: Vec<oneshot::Sender<()>>,
    busy: bool,
    failures: u32,
    pub(super) retry_at: Option<Instant>,
}

struct Arrived {
    turn: u64,
    class: usize,
    deliveries: Vec<Delivery>,
}

/// A question to the lot.
pub(super) struct Question {
    /// Which keys; all, when none are named.
    pub(super) keys: Option<Vec<Key>>,
    /// What came until this turn is answered for.
    upto: u64,
    /// [`super::parked::Parked::version`] when it was asked.
    version: u64,
    asking: Vec<oneshot::Sender<()>>,
}

impl Arrivals {
    pub(super) fn new(changes: Changes) -> Self {
        Self {
            changes,
            waiting: VecDeque::new(),
            turns: 0,
            doubtful: Vec::new(),
            unknown: false,
            asking: Vec::new(),
            busy: false,
            failures: 0,
            retry_at: None,
        }
    }

    /// Asks for a key; `done` is told when what the lot says is known.
    pub(super) fn ask(&mut self, key: Key, done: oneshot::Sender<()>) {
        self.doubtful.push(key);
        self.asking.push(done);
    }

    /// The next question, if there is one and none is on its way.
    fn question(&mut self, version: u64) -> Option<Question> {
        let idle = self.waiting.is_empty() && self.doubtful.is_empty() && !self.unknown;
        if self.busy || idle || self.retry_at.is_some() {
            return None;
        }
        self.busy = true;
        let mut keys = std::mem::take(&mut self.doubtful);
        let waiting = self.waiting.iter().flat_map(|arrived| &arrived.deliveries);
        keys.extend(waiting.map(|delivery| key_of(&delivery.envelope)));
        keys.sort_unstable();
        keys.dedup();
        Some(Question {
            keys: (!std::mem::take(&mut self.unknown)).then_some(keys),
            upto: self.turns,
            version,
            asking: std::mem::take(&mut self.asking),
        })
    }

    /// The lot did not answer: it is asked again after a pause, and what waits goes on waiting.
    fn put_back(&mut self, question: Question, env: &Env) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + RECONNECT.pause(self.failures, env));
        match question.keys {
            Some(keys) => self.doubtful.extend(keys),
            None => self.unknown = true,
        }
        for asking in question.asking {
            answer(asking, ());
        }
    }

    /// Forgets what came by a subscription that failed. Says how many deliveries.
    pub(super) fn clear(&mut self, class: usize) -> usize {
        let before = self.count();
        self.waiting.retain(|arrived| arrived.class != class);
        before - self.count()
    }

    pub(super) fn count(&self) -> usize {
        let counts = self.waiting.iter().map(|arrived| arrived.deliveries.len());
        counts.sum()
    }

    fn pop(&mut self, upto: u64) -> Option<Arrived> {
        self.waiting.pop_front_if(|arrived| arrived.turn <= upto)
    }
}

impl Actor {
    /// Takes what came from the transport.
    pub(super) fn take_up(&mut self, class: usize, deliveries: Vec<Delivery>) {
        let Some(lane) = self.lanes.all.get_mut(class) else {
            return;
        };
        lane.source.delivered();
        lane.held += deliveries.len();
        if self.lag_at.is_none() {
            self.lag_at = Some(Instant::now() + LAG_SOON);
        }
        self.hear_all();
        let arrivals = &mut self.arrivals;
        let is_clear = !arrivals.changes.is_shared() && !arrivals.unknown && !arrivals.busy;
        if is_clear && arrivals.waiting.is_empty() {
            self.admit(class, deliveries);
            return;
        }
        if let Some(lane) = self.lanes.all.get_mut(class) {
            lane.arriving += deliveries.len();
        }
        arrivals.turns += 1;
        let turn = arrivals.turns;
        arrivals.waiting.push_back(Arrived {
            turn,
            class,
            deliveries,
        });
    }

    /// Queues what came; events of parked keys go behind their key's letters.
    fn admit(&mut self, class: usize, deliveries: Vec<Delivery>) {
        for mut delivery in deliveries {
            let Some(lane) = self.lanes.all.get_mut(class) else {
                return;
            };
            let topic = lane.topic(&delivery.envelope.topic);
            let unreadable = delivery.unreadable.take();
            let item = Item::new(delivery, topic, lane.source.links);
            if let Some(error) = unreadable {
                tracing::warn!(
                    service = %self.config.service, group = %self.config.group,
                    topic = %item.envelope.topic, place = %item.envelope.id,
                    error = %report(&error), "a message is no event; it is parked"
                );
                self.meters.failed(&item.envelope, true);
                self.counts.failed += 1;
                self.park_item(item, class, Some(&error));
                continue;
            }
            let key = item.key();
            if self.parked.contains(&key) && !lane.is_running(&key) {
                self.park_item(item, class, None);
            } else {
                lane.push(item);
            }
        }
    }

    /// Hears what the lot has told of by now.
    pub(super) fn hear_all(&mut self) {
        while let Some(change) = self.arrivals.changes.heard() {
            self.hear(change);
        }
    }

    /// Hears what the lot tells of.
    pub(super) fn hear(&mut self, change: Change) {
        match change {
            Change::Parked { group, key } if group == self.config.group => {
                if self.parked.hear(&key) {
                    self.park_behind(&key);
                    self.meters.parked_keys(self.parked.len());
                }
            }
            Change::Freed { group, key } if group == self.config.group => {
                if self.parked.contains(&key) {
                    self.arrivals.doubtful.push(key);
                }
            }
            Change::Unknown => self.arrivals.unknown = true,
            Change::Parked { .. } | Change::Freed { .. } => {}
        }
    }

    /// The next question to the lot, if there is one.
    pub(super) fn next_question(&mut self) -> Option<Question> {
        self.arrivals.question(self.parked.version())
    }

    /// The lot has answered: what waited for that goes on.
    pub(super) fn answered(&mut self, question: Question, answer_of_lot: Result<Vec<Key>>) {
        self.arrivals.busy = false;
        let found = match answer_of_lot {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(
                    service = %self.config.service, group = %self.config.group,
                    error = %report(&error), "the parked keys are not known; events wait until they are"
                );
                self.arrivals.put_back(question, &self.ports.env);
                return;
            }
        };
        self.arrivals.failures = 0;
        let asked = question.keys.as_deref();
        for key in self.parked.learn(asked, &found, question.version) {
            self.park_behind(&key);
        }
        self.meters.parked_keys(self.parked.len());
        while let Some(arrived) = self.arrivals.pop(question.upto) {
            if let Some(lane) = self.lanes.get(arrived.class) {
                lane.arriving -= arrived.deliveries.len();
            }
            self.admit(arrived.class, arrived.deliveries);
        }
        for asking in question.asking {
            answer(asking, ());
        }
    }

    /// Gives back what was not looked up yet.
    pub(super) fn dismiss(&mut self, class: usize) {
        let count = self.arrivals.clear(class);
        if let Some(lane) = self.lanes.get(class) {
            lane.arriving -= count;
            lane.held -= count;
        }
    }
}

const LAG_SOON: std::time::Duration = std::time::Duration::from_secs(1);
