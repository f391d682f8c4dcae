//! A partition as one member reads it: what was fetched, what is out, what was settled and is to be
//! written.
//!
//! Reading a stream changes nothing on the server. What a group has done stands in Redis's own consumer
//! group: everything up to its position but what is pending. So what is settled in order only moves the
//! position; only what was overtaken or given back becomes pending.

mod plan;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytestring::ByteString;
use tokio::time::Instant;
use trunkline_bus::Settlement;

use crate::entry::Read;
use crate::id::Id;

pub(crate) use self::plan::Plan;

/// Deliveries that one cursor remembers, out and returned; beyond it, it takes nothing new.
const REMEMBERED_MAX: usize = 1 << 16;
/// What may be fetched before it is taken; beyond it, the cursor fetches nothing.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// The longest pause: beyond it, the sum with the present would overflow.
const PAUSE_MAX: Duration = Duration::from_secs(30 * 365 * 86_400);

#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) topic: ByteString,
    pub(crate) partition: u16,
    pub(crate) stream: ByteString,
    /// Counts how often it came and went: what belongs to an earlier time is not its own.
    pub(crate) tenure: u64,
    pub(crate) phase: Phase,
    /// Until when it is surely this member's. None for a reader, who needs no lease.
    pub(crate) lease_until: Option<Instant>,
    /// Since when it is another's as soon as nothing is out.
    pub(crate) releasing: Option<Instant>,
    /// A read that is under way asks for it.
    pub(crate) reading: bool,
    /// The last entry that was fetched.
    pub(crate) read: Id,
    committed: Id,
    /// How many entries there were up to `committed`, if that is known.
    count: Option<u64>,
    buffer: VecDeque<Fetched>,
    buffer_bytes: usize,
    /// Delivered, after `committed`.
    fresh: VecDeque<Event>,
    /// Delivered, up to `committed`: pending on the server, too.
    pending: BTreeMap<Id, Event>,
    /// Returned, by when they are due.
    due: BTreeSet<(Instant, Id)>,
    /// Returned, due, and being fetched.
    fetching: usize,
    /// Returned, due, and fetched again.
    again: BTreeMap<Id, Read>,
    /// Of `pending`, done.
    acknowledged: Vec<Id>,
    /// Of `pending`, delivered once more.
    recount: Vec<Id>,
    out: usize,
    begun: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Another's, or nobody's.
    Absent,
    /// What was pending when it came is being looked up, from after this id.
    Pending(Id),
    /// It takes what is new.
    Fresh,
}

#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) id: Id,
    pub(crate) read: Read,
    pub(crate) bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    id: Id,
    /// How often it was delivered.
    tries: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Out { begun: bool },
    Returned,
    Done,
}

#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: Id,
    pub(crate) redeliveries: u32,
    pub(crate) read: Read,
}

impl Cursor {
    pub(crate) fn new(topic: ByteString, partition: u16, stream: ByteString) -> Self {
        Self {
            topic,
            partition,
            stream,
            tenure: 0,
            phase: Phase::Absent,
            lease_until: None,
            releasing: None,
            reading: false,
            read: Id::ZERO,
            committed: Id::ZERO,
            count: None,
            buffer: VecDeque::new(),
            buffer_bytes: 0,
            fresh: VecDeque::new(),
            pending: BTreeMap::new(),
            due: BTreeSet::new(),
            fetching: 0,
            again: BTreeMap::new(),
            acknowledged: Vec::new(),
            recount: Vec::new(),
            out: 0,
            begun: 0,
        }
    }

    /// It is this member's now, from a position on. Says how many deliveries were out that are no more.
    pub(crate) fn open(&mut self, at: Id, count: Option<u64>, phase: Phase) -> usize {
        let out = self.close();
        self.read = at;
        self.committed = at;
        self.count = count;
        self.phase = phase;
        out
    }

    /// It is not this member's any more. Says how many deliveries were out.
    pub(crate) fn close(&mut self) -> usize {
        let place = (self.topic.clone(), self.partition, self.stream.clone());
        let fresh = Self::new(place.0, place.1, place.2);
        let old = std::mem::replace(self, fresh);
        self.tenure = old.tenure + 1;
        self.reading = old.reading;
        old.out
    }

    pub(crate) fn is_held(&self) -> bool {
        self.phase != Phase::Absent
    }

    fn is_ours(&self, now: Instant) -> bool {
        self.is_held() && self.lease_until.is_none_or(|until| now < until)
    }

    /// Takes up to `room` events.
    pub(crate) fn take(&mut self, room: usize, now: Instant, into: &mut Vec<Taken>) {
        if !self.is_ours(now) || self.releasing.is_some() {
            return;
        }
        let before = into.len();
        while into.len() - before < room {
            if let Some((id, read)) = self.again.pop_first() {
                if let Some(redeliveries) = self.take_again(id) {
                    into.push(Taken {
                        id,
                        redeliveries,
                        read,
                    });
                }
                continue;
            }
            let waits = self.fetching > 0 || self.is_due(now);
            let full = self.fresh.len() + self.pending.len() >= REMEMBERED_MAX;
            if waits || full || self.phase != Phase::Fresh {
                return;
            }
            let Some(fetched) = self.buffer.pop_front() else {
                return;
            };
            self.buffer_bytes -= fetched.bytes;
            self.out += 1;
            self.fresh.push_back(Event {
                id: fetched.id,
                tries: 1,
                state: State::Out { begun: false },
            });
            into.push(Taken {
                id: fetched.id,
                redeliveries: 0,
                read: fetched.read,
            });
        }
    }

    fn take_again(&mut self, id: Id) -> Option<u32> {
        let is_pending = self.pending.contains_key(&id);
        let event = self.event(id)?;
        let before = event.tries;
        event.tries = before.saturating_add(1);
        event.state = State::Out { begun: false };
        self.out += 1;
        if is_pending {
            self.recount.push(id);
        }
        Some(before)
    }

    fn event(&mut self, id: Id) -> Option<&mut Event> {
        if id <= self.committed {
            return self.pending.get_mut(&id);
        }
        let at = self
            .fresh
            .binary_search_by_key(&id, |event| event.id)
            .ok()?;
        self.fresh.get_mut(at)
    }

    /// Handling begins. False if the delivery is not this member's any more.
    pub(crate) fn begin(&mut self, id: Id, now: Instant) -> bool {
        if !self.is_ours(now) {
            return false;
        }
        match self.event(id).map(|event| &mut event.state) {
            Some(State::Out { begun }) => {
                if !std::mem::replace(begun, true) {
                    self.begun += 1;
                }
                true
            }
            _ => false,
        }
    }

    /// Settles what is out. False if it was not.
    pub(crate) fn settle(&mut self, id: Id, how: Settlement, now: Instant) -> bool {
        let Some(event) = self.event(id) else {
            return false;
        };
        let State::Out { begun } = event.state else {
            return false;
        };
        match how {
            Settlement::Ack => {
                event.state = State::Done;
                if id <= self.committed {
                    self.acknowledged.push(id);
                }
            }
            Settlement::Retry(pause) => {
                event.state = State::Returned;
                self.due.insert((now + pause.min(PAUSE_MAX), id));
            }
        }
        self.out -= 1;
        self.begun -= usize::from(begun);
        true
    }

    /// Whether it wants more of its stream.
    pub(crate) fn wants(&self, prefetch: usize) -> bool {
        self.phase == Phase::Fresh
            && self.releasing.is_none()
            && self.buffer.len() <= prefetch / 2
            && self.buffer_bytes < BUFFER_BYTES_MAX
    }

    /// Takes in what was read from its stream.
    pub(crate) fn fill(&mut self, fetched: Fetched) {
        if self.phase == Phase::Fresh && fetched.id > self.read {
            self.read = fetched.id;
            self.buffer_bytes += fetched.bytes;
            self.buffer.push_back(fetched);
        }
    }

    /// Takes in a page of what was pending when it came; `next` is where the next page begins.
    pub(crate) fn pend(&mut self, page: &[(Id, u32)], next: Option<Id>, now: Instant) {
        for (id, tries) in page {
            let event = Event {
                id: *id,
                tries: *tries,
                state: State::Returned,
            };
            self.pending.insert(*id, event);
            self.due.insert((now, *id));
        }
        self.phase = next.map_or(Phase::Fresh, Phase::Pending);
    }

    /// Whether a returned event is due and not being fetched yet.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.first().is_some_and(|(due, _)| *due <= now)
    }

    /// When the next returned event becomes due.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        let later = self.due.range((now, Id::MAX)..).next();
        later.map(|(due, _)| *due)
    }

    /// Up to `max` returned events that are due, to be fetched.
    pub(crate) fn fetch_due(&mut self, max: usize, now: Instant) -> Vec<Id> {
        let mut ids = Vec::new();
        let held_back = self.releasing.is_some() || self.again.len() >= max;
        while !held_back
            && ids.len() < max
            && let Some((due, id)) = self.due.first().copied()
            && due <= now
        {
            self.due.pop_first();
            ids.push(id);
        }
        self.fetching += ids.len();
        ids
    }

    /// Takes in what was fetched again. None: it is not kept any more, and counts as done.
    pub(crate) fn refill(&mut self, id: Id, read: Option<Read>) {
        self.fetching = self.fetching.saturating_sub(1);
        match read {
            Some(read) => {
                self.again.insert(id, read);
            }
            None => {
                let is_pending = id <= self.committed;
                if let Some(event) = self.event(id) {
                    event.state = State::Done;
                    if is_pending {
                        self.acknowledged.push(id);
                    }
                }
            }
        }
    }

    /// Whether it may be given to another: nothing is out, or nothing that was out has begun although there
    /// was time.
    pub(crate) fn is_drained(&self, patience: Duration, now: Instant) -> bool {
        self.releasing
            .is_some_and(|since| self.out == 0 || (self.begun == 0 && now >= since + patience))
    }

    pub(crate) fn out(&self) -> usize {
        self.out
    }

    /// What is out is taken back: nobody may begin or settle it any more. It is counted as delivered.
    pub(crate) fn revoke(&mut self) -> usize {
        for event in self.fresh.iter_mut().chain(self.pending.values_mut()) {
            if matches!(event.state, State::Out { .. }) {
                event.state = State::Returned;
            }
        }
        self.begun = 0;
        std::mem::take(&mut self.out)
    }

    /// The last entry that a reader has settled everything up to, about.
    pub(crate) fn position(&self) -> Id {
        self.committed
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len() - self.acknowledged.len()
    }
}

#[cfg(test)]
mod tests;
