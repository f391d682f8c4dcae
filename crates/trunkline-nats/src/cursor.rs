//! What a member has of one consumer: from the oldest delivery that is not settled to the newest.
//!
//! The server is told only how far everything is settled (`AckPolicy::All`): one acknowledgement for many
//! deliveries, and an order that is kept here, not by the server's redeliveries.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subject};
use tokio::time::Instant;
use trunkline_bus::Settlement;
use trunkline_core::Timestamp;

/// Where a delivery stands, as its reply subject says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// How often the server has delivered it, this time included.
    pub(crate) delivered: u64,
    /// Its number in the stream: the offset.
    pub(crate) stream: u64,
    /// The delivery's number in its consumer: each is one more than the one before.
    pub(crate) consumer: u64,
    /// When the server took it.
    pub(crate) at: Timestamp,
}

impl Place {
    /// # Source
    /// NATS ADR-15: `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<nanos>.<pending>`, and
    /// with `<domain>.<account>` behind `ACK`.
    pub(crate) fn read(reply: &str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let skipped = if rest.split('.').count() == 7 { 2 } else { 4 };
        let mut numbers = rest.split('.').skip(skipped);
        let mut number = || numbers.next()?.parse::<u64>().ok();
        Some(Self {
            delivered: number()?,
            stream: number()?,
            consumer: number()?,
            at: Timestamp::from_nanosecond(i128::from(number()?)).ok()?,
        })
    }
}

#[derive(Debug)]
struct Slot {
    place: Place,
    /// Where the server is told about it.
    reply: Subject,
    state: State,
    /// How often it was handed out again here.
    again: u32,
    /// When the server last heard of it.
    told: Instant,
}

#[derive(Debug)]
enum State {
    Out {
        message: Arc<Message>,
        begun: bool,
    },
    /// Returned; it is in `due` or `waiting`.
    Held(Arc<Message>),
    /// Returned for so long that the server keeps it.
    Away,
    Done,
}

/// One that is handed out.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Its name within the cursor.
    pub(crate) index: u64,
    pub(crate) place: Place,
    pub(crate) redeliveries: u32,
    pub(crate) message: Arc<Message>,
}

/// What came of a message from the server.
#[derive(Debug)]
pub(crate) enum Arrived {
    New(Taken),
    /// It is here already, or settled, or waits now to be handed out again.
    Known,
    /// One before it is missing.
    Gap,
}

/// What came of a settlement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It was settled before.
    Not,
    Done,
    /// It is handed out again here.
    Held,
    /// The server is to deliver it again after a pause: the reply subject to say so on.
    Away(Subject),
}

#[derive(Debug)]
pub(crate) struct Cursor {
    slots: VecDeque<Slot>,
    /// The index of the first slot.
    base: u64,
    last: u64,
    last_in_stream: u64,
    due: BTreeSet<u64>,
    waiting: BTreeSet<(Instant, u64)>,
    out: usize,
    begun: usize,
    done: usize,
    /// The newest of those that are settled without a gap.
    floor: Option<Subject>,
    floor_told: bool,
    /// A pause up to this is waited out here.
    hold_max: Duration,
}

/// The longest pause: beyond it, the sum with the present would overflow.
const PAUSE_MAX: Duration = Duration::from_secs(30 * 365 * 86_400);

impl Cursor {
    /// The consumer's next delivery has the number `next`.
    pub(crate) fn new(next: u64, hold_max: Duration) -> Self {
        Self {
            slots: VecDeque::new(),
            base: 0,
            last: next.saturating_sub(1),
            last_in_stream: 0,
            due: BTreeSet::new(),
            waiting: BTreeSet::new(),
            out: 0,
            begun: 0,
            done: 0,
            floor: None,
            floor_told: true,
            hold_max,
        }
    }

    /// A message came. A new one is handed out at once.
    pub(crate) fn arrive(&mut self, place: Place, message: Message, now: Instant) -> Arrived {
        if place.consumer != self.last + 1 {
            return Arrived::Gap;
        }
        self.last = place.consumer;
        if place.stream <= self.last_in_stream {
            self.arrive_again(place.stream, message);
            return Arrived::Known;
        }
        self.last_in_stream = place.stream;
        let message = Arc::new(message);
        let taken = Taken {
            index: self.base + self.slots.len() as u64,
            place,
            redeliveries: redeliveries(&place, 0),
            message: message.clone(),
        };
        let reply = message
            .reply
            .clone()
            .unwrap_or_else(|| Subject::from_static(""));
        self.slots.push_back(Slot {
            place,
            reply,
            state: State::Out {
                message,
                begun: false,
            },
            again: 0,
            told: now,
        });
        self.out += 1;
        Arrived::New(taken)
    }

    /// The server delivers one again: because it was asked to, or because it heard too late of it.
    fn arrive_again(&mut self, stream: u64, message: Message) {
        let found = self
            .slots
            .binary_search_by_key(&stream, |slot| slot.place.stream);
        let Some(slot) = found.ok().and_then(|at| self.slots.get_mut(at)) else {
            // It was settled, and the server missed that.
            self.floor_told = self.floor.is_none();
            return;
        };
        if matches!(slot.state, State::Away) {
            slot.state = State::Held(Arc::new(message));
            self.due
                .insert(self.base + found.unwrap_or_default() as u64);
        }
    }

    /// Hands out the oldest that was returned and is due.
    pub(crate) fn take_again(&mut self, now: Instant) -> Option<Taken> {
        while let Some((due, index)) = self.waiting.first().copied() {
            if due > now {
                break;
            }
            self.waiting.pop_first();
            self.due.insert(index);
        }
        let index = self.due.pop_first()?;
        let slot = self.slot_mut(index)?;
        let State::Held(message) = &slot.state else {
            return None;
        };
        let message = message.clone();
        slot.again += 1;
        slot.state = State::Out {
            message: message.clone(),
            begun: false,
        };
        let taken = Taken {
            index,
            place: slot.place,
            redeliveries: redeliveries(&slot.place, slot.again),
            message,
        };
        self.out += 1;
        Some(taken)
    }

    /// When the next returned one is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// Handling begins; `false` when it is not out.
    pub(crate) fn begin(&mut self, index: u64) -> bool {
        match self.slot_mut(index).map(|slot| &mut slot.state) {
            Some(State::Out { begun, .. }) => {
                let first = !std::mem::replace(begun, true);
                self.begun += usize::from(first);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn settle(&mut self, index: u64, how: Settlement, now: Instant) -> Settled {
        let hold_max = self.hold_max;
        let Some(slot) = self.slot_mut(index) else {
            return Settled::Not;
        };
        let State::Out { message, begun } = &slot.state else {
            return Settled::Not;
        };
        let (message, begun) = (message.clone(), *begun);
        let mut due = None;
        let settled = match how {
            Settlement::Ack => {
                slot.state = State::Done;
                Settled::Done
            }
            Settlement::Retry(pause) if pause <= hold_max => {
                slot.state = State::Held(message);
                due = Some(now + pause.min(PAUSE_MAX));
                Settled::Held
            }
            Settlement::Retry(_) => {
                slot.state = State::Away;
                slot.again += 1;
                Settled::Away(slot.reply.clone())
            }
        };
        self.out -= 1;
        self.begun -= usize::from(begun);
        self.waiting.extend(due.map(|due| (due, index)));
        if settled == Settled::Done {
            self.done += 1;
            self.advance();
        }
        settled
    }

    fn advance(&mut self) {
        while self
            .slots
            .front()
            .is_some_and(|slot| matches!(slot.state, State::Done))
        {
            self.floor = self.slots.pop_front().map(|slot| slot.reply);
            self.floor_told = false;
            self.base += 1;
            self.done -= 1;
        }
    }

    /// How far everything is settled, if the server has not been told so.
    pub(crate) fn untold(&self) -> Option<&Subject> {
        self.floor.as_ref().filter(|_| !self.floor_told)
    }

    /// The same, and the server is going to be told.
    pub(crate) fn tell(&mut self) -> Option<Subject> {
        let told = self.untold().cloned();
        self.floor_told = true;
        told
    }

    /// How far everything is settled, whether the server was told or not.
    pub(crate) fn floor(&self) -> Option<&Subject> {
        self.floor.as_ref()
    }

    /// Of those that the server waits for, the reply subjects of whom it has not heard for this long. It waits
    /// for all behind the oldest that is not settled, settled or not.
    pub(crate) fn silent(&mut self, for_so_long: Duration, now: Instant) -> Vec<Subject> {
        let kept = |slot: &&mut Slot| !matches!(slot.state, State::Away);
        let slots = self.slots.iter_mut().filter(kept);
        let silent = slots.filter(|slot| now.duration_since(slot.told) >= for_so_long);
        silent
            .map(|slot| {
                slot.told = now;
                slot.reply.clone()
            })
            .collect()
    }

    pub(crate) fn out(&self) -> usize {
        self.out
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun
    }

    /// From the oldest that is not settled to the newest.
    pub(crate) fn span(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn unsettled(&self) -> usize {
        self.slots.len() - self.done
    }

    /// The number of the newest delivery.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let at = usize::try_from(index.checked_sub(self.base)?).ok()?;
        self.slots.get_mut(at)
    }
}

fn redeliveries(place: &Place, again: u32) -> u32 {
    let before = u32::try_from(place.delivered.saturating_sub(1)).unwrap_or(u32::MAX);
    before.saturating_add(again)
}

#[cfg(test)]
mod tests;
