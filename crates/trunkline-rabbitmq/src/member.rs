//! A subscription at run time: its lanes, and who waits on them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use trunkline_bus::{Delivery, Receipt, Settlement, Settler};
use trunkline_core::{Error, ErrorKind, Result};

use crate::amqp::{Delivered, Events};
use crate::error;
use crate::event::Reader;
use crate::lane::{Held, Lane, Share};

/// So long may a settled delivery wait to be acknowledged with others: one frame for many costs both sides less CPU.
const ACK_DELAY: Duration = Duration::from_millis(2);
/// The most that waits for it.
const ACKS_MAX: usize = 256;
/// A token has the lane above these bits, and the offset in them.
const OFFSET_BITS: u32 = 48;

pub(crate) struct Member {
    pub(crate) is_reader: bool,
    pub(crate) rebalance: Duration,
    pub(crate) reader: Reader,
    pub(crate) state: Mutex<State>,
    /// Something may be taken, or it ended.
    pub(crate) ready: Notify,
    /// Something is to be acknowledged, asked, given away or ended.
    pub(crate) work: Notify,
}

pub(crate) struct State {
    pub(crate) lanes: Vec<Lane>,
    in_flight_max: usize,
    pub(crate) out: usize,
    acks: Acks,
    /// The lane that is asked first.
    turn: usize,
    /// When it is to be found out again how many members there are.
    pub(crate) ask_at: Instant,
    end: Option<End>,
}

/// What was settled and waits to be acknowledged.
struct Acks {
    count: usize,
    /// It does not wait for more than so many: the server has others to send meanwhile.
    max: usize,
    due: Option<Instant>,
}

/// Why nothing more is delivered.
#[derive(Debug)]
pub(crate) enum End {
    /// The transport was closed.
    Closed,
    /// The subscription was dropped.
    Dropped,
    Failed(Error),
}

impl Member {
    pub(crate) fn new(
        is_reader: bool,
        lanes: Vec<Lane>,
        in_flight_max: usize,
        rebalance: Duration,
        reader: Reader,
    ) -> Self {
        Self {
            is_reader,
            rebalance,
            reader,
            state: Mutex::new(State {
                lanes,
                in_flight_max,
                out: 0,
                acks: Acks {
                    count: 0,
                    max: (in_flight_max / 4).clamp(1, ACKS_MAX),
                    due: None,
                },
                turn: 0,
                ask_at: Instant::now() + rebalance,
                end: None,
            }),
            ready: Notify::new(),
            work: Notify::new(),
        }
    }

    /// Takes at least one delivery and at most `max`. Empty when the transport was closed.
    pub(crate) async fn next(self: &Arc<Self>, max: usize) -> Result<Vec<Delivery>> {
        loop {
            let taken = {
                let mut state = self.state.lock();
                match &state.end {
                    Some(End::Closed | End::Dropped) => return Ok(Vec::new()),
                    Some(End::Failed(error)) => return Err(error::again(error)),
                    None => self.take(&mut state, max),
                }
            };
            if !taken.is_empty() {
                let taken = taken.into_iter();
                return Ok(taken.map(|taken| self.delivery(taken)).collect());
            }
            self.ready.notified().await;
        }
    }

    fn take(&self, state: &mut State, max: usize) -> Vec<Taken> {
        let now = Instant::now();
        let room = state.in_flight_max.saturating_sub(state.out).min(max);
        let mut taken = Vec::new();
        let count = state.lanes.len();
        for step in 0..count {
            let index = (state.turn + step) % count;
            let Some(lane) = state.lanes.get_mut(index).filter(|_| taken.len() < room) else {
                break;
            };
            let before = taken.len();
            while taken.len() < room
                && let Some(held) = lane.take(now)
            {
                taken.push(Taken {
                    lane: index,
                    topic: lane.topic.clone(),
                    partition: lane.partition,
                    held,
                });
            }
            if taken.len() > before {
                state.turn = index + 1;
            }
        }
        state.out += taken.len();
        if !taken.is_empty() && now >= state.ask_at {
            self.work.notify_one();
        }
        taken
    }

    fn delivery(self: &Arc<Self>, taken: Taken) -> Delivery {
        let Taken {
            lane,
            topic,
            partition,
            held,
        } = taken;
        let partition = partition.unwrap_or_else(|| partition_in(&held.message.routing_key));
        let offset = held.offset;
        let place = || format!("{topic}/{partition}/{offset}");
        let (envelope, unreadable) = self.reader.read(&topic, &held.message, place);
        let token = (lane as u64) << OFFSET_BITS | offset;
        Delivery {
            envelope,
            offset,
            partition,
            redeliveries: held.redeliveries,
            unreadable,
            receipt: Receipt::new(self.clone(), token),
        }
    }

    /// Nothing more is delivered, and what is settled from now on counts for nothing.
    pub(crate) fn end(&self, why: End) {
        self.state.lock().end.get_or_insert(why);
        self.ready.notify_one();
        self.work.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// Acknowledges what was settled.
    pub(crate) fn acknowledge(&self) {
        self.state.lock().acknowledge();
    }

    /// Acknowledges what was settled if it has waited for long enough, or enough has; otherwise says until when it waits.
    pub(crate) fn acknowledge_due(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let due = state.acks.due?;
        if state.acks.count < state.acks.max && Instant::now() < due {
            return Some(due);
        }
        state.acknowledge();
        None
    }
}

impl State {
    fn acknowledge(&mut self) {
        self.acks.count = 0;
        self.acks.due = None;
        self.lanes.iter_mut().for_each(Lane::acknowledge);
    }
}

impl Acks {
    /// One more waits; says whether the pump has to know.
    fn add(&mut self, now: Instant) -> bool {
        self.count += 1;
        self.due.get_or_insert(now + ACK_DELAY);
        self.count == 1 || self.count == self.max
    }
}

struct Taken {
    lane: usize,
    topic: bytestring::ByteString,
    partition: Option<u16>,
    held: Held,
}

/// The partition that a routing key begins with; 0 for a key that somebody else made.
fn partition_in(key: &[u8]) -> u16 {
    let digits = key.split(|byte| *byte == b'.').next().unwrap_or_default();
    let digits = std::str::from_utf8(digits).ok();
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_default()
}

fn place_of(token: u64) -> (usize, u64) {
    let lane = usize::try_from(token >> OFFSET_BITS).unwrap_or(usize::MAX);
    (lane, token & ((1 << OFFSET_BITS) - 1))
}

impl Settler for Member {
    fn begin(&self, token: u64) -> bool {
        let (lane, offset) = place_of(token);
        let state = self.state.lock();
        let lane = state.lanes.get(lane);
        state.end.is_none() && lane.is_some_and(|lane| lane.is_out(offset))
    }

    fn settle(&self, token: u64, how: Settlement) {
        let (lane, offset) = place_of(token);
        let mut state = self.state.lock();
        if state.end.is_some() {
            return;
        }
        let now = Instant::now();
        let Some(lane) = state.lanes.get_mut(lane) else {
            return;
        };
        if !lane.settle(offset, how, now) {
            return;
        }
        let leaves = lane.share == Share::Leaving;
        let is_work = match how {
            Settlement::Ack => state.acks.add(now),
            Settlement::Retry(_) => true,
        };
        let was_full = state.out >= state.in_flight_max;
        state.out -= 1;
        drop(state);
        if was_full || how == Settlement::Retry(Duration::ZERO) {
            self.ready.notify_one();
        }
        if is_work || leaves {
            self.work.notify_one();
        }
    }
}

/// What a lane's channel tells.
pub(crate) struct LaneEvents {
    pub(crate) member: Arc<Member>,
    pub(crate) lane: usize,
    pub(crate) epoch: u64,
}

impl Events for LaneEvents {
    fn delivered(&self, delivered: Delivered) {
        let mut state = self.member.state.lock();
        let lane = state.lanes.get_mut(self.lane);
        let Some(lane) = lane.filter(|lane| lane.epoch == self.epoch) else {
            return;
        };
        lane.push(delivered);
        let asks = lane.share == Share::Idle;
        if asks {
            lane.share = if self.member.is_reader {
                Share::Ours
            } else {
                Share::Asking
            };
        }
        drop(state);
        if asks {
            self.member.work.notify_one();
        }
        self.member.ready.notify_one();
    }

    fn ended(&self, error: Error) {
        let epoch = {
            let state = self.member.state.lock();
            state.lanes.get(self.lane).map(|lane| lane.epoch)
        };
        if epoch != Some(self.epoch) {
            return;
        }
        let error = match error.kind() {
            // Whoever subscribes again makes a queue that is gone, or learns that its topic is.
            ErrorKind::NotFound | ErrorKind::Unavailable => {
                let message = "the subscription's connection or queue is gone";
                Error::unavailable("rabbitmq_subscription_lost", message).with_source(error)
            }
            _ => error,
        };
        self.member.end(End::Failed(error));
    }
}

#[cfg(test)]
mod tests;
