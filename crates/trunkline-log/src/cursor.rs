//! How far a group has come in a partition, and which of the events it has taken are not done.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;
use trunkline_core::Envelope;

use crate::group::MemberId;
use crate::partition::Partition;

#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) partition: Arc<Partition>,
    pub(crate) topic: usize,
    pub(crate) owner: Option<MemberId>,
    /// Another member shall have it as soon as nothing is out.
    pub(crate) moving: bool,
    /// It stands in its owner's queue of cursors that may have something to deliver.
    pub(crate) queued: bool,
    /// Its position is to be written.
    pub(crate) dirty: bool,
    /// It may take nothing new until something is settled.
    stalled: bool,
    window: Window,
    /// Returned and due, by offset.
    ready: BTreeSet<u64>,
    /// Returned and not yet due.
    waiting: BTreeSet<(Instant, u64)>,
    /// Events read from the files, from `ahead_base` on.
    ahead: VecDeque<Envelope>,
    ahead_base: u64,
    /// A returned event, read from the files.
    again: Option<(u64, Envelope)>,
}

/// The offsets from the lowest that is not done to the next that was never taken.
#[derive(Debug, Default)]
struct Window {
    base: u64,
    /// `DONE`, or else how often it was delivered, with `OUT` while it is out.
    states: VecDeque<u32>,
    /// How many of them are done.
    done: u64,
    out: usize,
}

const DONE: u32 = 0;
const OUT: u32 = 1 << 31;

/// Offsets that one position may span; beyond it the group waits for its lowest unfinished event.
const WINDOW_MAX: usize = 1 << 22;
/// Returned events of a cursor; beyond it the group takes nothing new.
const RETURNED_MAX: usize = 1 << 16;

/// An event that was taken.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) offset: u64,
    pub(crate) redeliveries: u32,
    pub(crate) envelope: Envelope,
}

/// What a cursor needs from the files to go on.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    pub(crate) partition: Arc<Partition>,
    pub(crate) offset: u64,
    /// Only this one, for it is delivered again.
    pub(crate) single: bool,
}

impl Cursor {
    pub(crate) fn new(partition: Arc<Partition>, topic: usize, at: u64) -> Self {
        Self {
            partition,
            topic,
            owner: None,
            moving: false,
            queued: false,
            dirty: false,
            stalled: false,
            window: Window {
                base: at,
                ..Window::default()
            },
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            ahead: VecDeque::new(),
            ahead_base: 0,
            again: None,
        }
    }

    /// Starts again at an offset; what was out is forgotten.
    pub(crate) fn reset(&mut self, at: u64) {
        let fresh = Self::new(self.partition.clone(), self.topic, at);
        let kept = (self.owner, self.moving, self.queued, self.dirty);
        *self = fresh;
        (self.owner, self.moving, self.queued, self.dirty) = kept;
    }

    /// Every offset below it is done.
    pub(crate) fn position(&self) -> u64 {
        self.window.base
    }

    pub(crate) fn out(&self) -> usize {
        self.window.out
    }

    /// The first offset that was never taken.
    pub(crate) fn next(&self) -> u64 {
        self.window.next()
    }

    /// How many offsets up to `end` are not done.
    pub(crate) fn unsettled(&self, end: u64) -> u64 {
        end.saturating_sub(self.window.base)
            .saturating_sub(self.window.done)
    }

    /// When the next returned event is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// Takes up to `room` events. Says what must be read first if it could take fewer for want of it.
    pub(crate) fn take(
        &mut self,
        room: usize,
        now: Instant,
        into: &mut Vec<Taken>,
    ) -> Option<Need> {
        while let Some((due, offset)) = self.waiting.first().copied() {
            if due > now {
                break;
            }
            self.waiting.pop_first();
            self.ready.insert(offset);
        }
        let before = into.len();
        while let Some(offset) = self.ready.first().copied() {
            if into.len() - before == room {
                return None;
            }
            let Some(envelope) = self.returned(offset) else {
                return Some(Need {
                    partition: self.partition.clone(),
                    offset,
                    single: true,
                });
            };
            self.ready.pop_first();
            if let Some(envelope) = envelope {
                let redeliveries = self.window.take_again(offset);
                into.push(Taken {
                    offset,
                    redeliveries,
                    envelope,
                });
            } else {
                self.window.finish(offset);
            }
        }
        self.take_fresh(room - (into.len() - before), into)
    }

    /// A returned event: none if it must be read, `Some(None)` if it is not kept any more.
    fn returned(&mut self, offset: u64) -> Option<Option<Envelope>> {
        if self.again.as_ref().is_some_and(|(at, _)| *at == offset) {
            return Some(self.again.take().map(|(_, envelope)| envelope));
        }
        let state = self.partition.state.lock();
        if offset < state.base {
            return Some(None);
        }
        state
            .tail_from(offset)
            .next()
            .filter(|_| offset >= state.tail_base())
            .cloned()
            .map(Some)
    }

    fn take_fresh(&mut self, room: usize, into: &mut Vec<Taken>) -> Option<Need> {
        let returned = self.ready.len() + self.waiting.len();
        let wanted = room;
        let room = room.min(WINDOW_MAX.saturating_sub(self.window.states.len()));
        if room == 0 || returned > RETURNED_MAX {
            self.stalled = wanted > 0;
            return None;
        }
        let partition = self.partition.clone();
        let state = partition.state.lock();
        let mut next = self.window.next();
        let kept = state.beyond_hole(next.max(state.base));
        if kept > next && !self.window.skip_to(kept) {
            self.stalled = true;
            return None;
        }
        next = self.window.next();
        if next >= state.end {
            return None;
        }
        let mut taken = 0;
        if next < state.tail_base() {
            while self.ahead_base < next && self.ahead.pop_front().is_some() {
                self.ahead_base += 1;
            }
            if self.ahead_base == next {
                for envelope in self.ahead.drain(..room.min(self.ahead.len())) {
                    into.push(Taken {
                        offset: next + taken,
                        redeliveries: 0,
                        envelope,
                    });
                    taken += 1;
                }
                self.ahead_base += taken;
            }
        }
        let mut count = usize::try_from(taken).unwrap_or(room);
        if next + taken >= state.tail_base() {
            self.ahead.clear();
            for envelope in state.tail_from(next + taken).take(room - count) {
                into.push(Taken {
                    offset: next + taken,
                    redeliveries: 0,
                    envelope: envelope.clone(),
                });
                taken += 1;
                count += 1;
            }
        }
        self.window.take(taken);
        self.stalled |= room < wanted;
        // What is between what was read ahead and what is in memory must be read before it can be taken.
        let next = next + taken;
        (count < room && next < state.tail_base()).then(|| Need {
            partition: partition.clone(),
            offset: next,
            single: false,
        })
    }

    /// Whether it stopped taking for want of something to be settled; asked once per stop.
    pub(crate) fn was_stalled(&mut self) -> bool {
        std::mem::take(&mut self.stalled)
    }

    /// Takes in what was read for a need.
    pub(crate) fn fill(&mut self, need: &Need, mut read: VecDeque<Envelope>) {
        if need.single {
            self.again = read.pop_front().map(|envelope| (need.offset, envelope));
        } else {
            (self.ahead, self.ahead_base) = (read, need.offset);
        }
    }

    /// An event that was out is done. Says whether the position moved, or none if it was not out.
    pub(crate) fn ack(&mut self, offset: u64) -> Option<bool> {
        self.window.is_out(offset).then(|| self.window.ack(offset))
    }

    /// An event that was out is to be delivered again. False if it was not out.
    pub(crate) fn give_back(&mut self, offset: u64, due: Instant) -> bool {
        let was_out = self.window.is_out(offset);
        if was_out {
            self.window.give_back(offset);
            self.waiting.insert((due, offset));
        }
        was_out
    }

    /// All that was out is to be delivered again, now.
    pub(crate) fn give_all_back(&mut self, now: Instant) {
        for offset in self.window.all_out() {
            self.give_back(offset, now);
        }
    }
}

impl Window {
    fn next(&self) -> u64 {
        self.base + self.states.len() as u64
    }

    fn state(&mut self, offset: u64) -> Option<&mut u32> {
        let index = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        self.states.get_mut(index)
    }

    fn is_out(&mut self, offset: u64) -> bool {
        self.state(offset).is_some_and(|state| *state & OUT != 0)
    }

    fn take(&mut self, count: u64) {
        let count = usize::try_from(count).unwrap_or(0);
        self.out += count;
        self.states.extend(std::iter::repeat_n(1 | OUT, count));
    }

    /// Takes one that was given back; says how often it was delivered before.
    fn take_again(&mut self, offset: u64) -> u32 {
        let Some(state) = self.state(offset) else {
            return 0;
        };
        let before = *state & !OUT;
        *state = (before.saturating_add(1) & !OUT).max(1) | OUT;
        self.out += 1;
        before
    }

    fn give_back(&mut self, offset: u64) {
        if let Some(state) = self.state(offset) {
            *state &= !OUT;
            self.out -= 1;
        }
    }

    fn ack(&mut self, offset: u64) -> bool {
        self.out -= 1;
        self.finish(offset)
    }

    /// Says whether the base moved.
    fn finish(&mut self, offset: u64) -> bool {
        if let Some(state) = self.state(offset) {
            *state = DONE;
            self.done += 1;
        }
        let before = self.base;
        while self.states.front() == Some(&DONE) {
            self.states.pop_front();
            self.base += 1;
            self.done -= 1;
        }
        self.base > before
    }

    /// Counts the offsets up to `to` as done: they are not kept. False if there is too much between.
    fn skip_to(&mut self, to: u64) -> bool {
        if self.states.is_empty() {
            self.base = to;
            return true;
        }
        let count = usize::try_from(to - self.next()).unwrap_or(usize::MAX);
        if count > WINDOW_MAX {
            return false;
        }
        self.states.extend(std::iter::repeat_n(DONE, count));
        self.done += count as u64;
        true
    }

    fn all_out(&self) -> Vec<u64> {
        let states = (self.base..).zip(&self.states);
        states
            .filter(|(_, state)| **state & OUT != 0)
            .map(|(offset, _)| offset)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_the_lowest_that_is_not_done() {
        let mut window = Window {
            base: 10,
            ..Window::default()
        };
        window.take(4);
        assert!(!window.ack(12));
        assert!(!window.ack(11));
        assert_eq!((window.base, window.done), (10, 2));
        window.give_back(10);
        assert!(!window.is_out(10));
        assert_eq!(window.take_again(10), 1);
        assert!(window.ack(10));
        assert_eq!((window.base, window.done, window.out), (13, 0, 1));
        assert!(!window.is_out(12), "what is done can't be done again");
    }

    #[test]
    fn what_is_not_kept_counts_as_done() {
        let mut window = Window::default();
        assert!(window.skip_to(5));
        assert_eq!(window.next(), 5);
        window.take(1);
        assert!(window.skip_to(9));
        assert_eq!((window.base, window.next()), (5, 9));
        assert!(window.ack(5));
        assert_eq!((window.base, window.done), (9, 0));
    }
}
