//! A queue as one member reads it: what came, what is out, what was settled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use tokio::time::Instant;
use trunkline_bus::Settlement;

use crate::amqp::{Channel, Delivered};

/// The longest pause before a redelivery: what is paused stays unsettled at the server, which closes the channel after
/// its `consumer_timeout` of 30 minutes.
const PAUSE_MAX: Duration = Duration::from_secs(600);

pub(crate) struct Lane {
    pub(crate) topic: ByteString,
    /// None for a reader's queue, which has events of all partitions.
    pub(crate) partition: Option<u16>,
    pub(crate) queue: String,
    /// None while it is being given away.
    pub(crate) channel: Option<Arc<Channel>>,
    /// Counts its channels: what belongs to an earlier one is not its own.
    pub(crate) epoch: u64,
    pub(crate) share: Share,
    /// Something was acknowledged that no barrier has followed yet.
    pub(crate) unflushed: bool,
    /// The offset of its channel's delivery tag 0.
    base: u64,
    /// The last offset that came.
    last: u64,
    inbox: VecDeque<Held>,
    out: BTreeMap<u64, Held>,
    returned: BTreeMap<u64, (Instant, Held)>,
    /// Settled, and not acknowledged yet.
    done: BTreeSet<u64>,
}

/// Whether a lane's events are this member's to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Nothing has come: another member may be the active one.
    Idle,
    /// Events came, so it is the active one; whether it may stay so is being found out.
    Asking,
    Ours,
    /// It is another's as soon as nothing is out.
    Leaving,
}

#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) offset: u64,
    pub(crate) redeliveries: u32,
    pub(crate) message: Delivered,
}

impl Lane {
    pub(crate) fn new(topic: ByteString, partition: Option<u16>, queue: String) -> Self {
        Self {
            topic,
            partition,
            queue,
            channel: None,
            epoch: 0,
            share: Share::Idle,
            unflushed: false,
            base: 0,
            last: 0,
            inbox: VecDeque::new(),
            out: BTreeMap::new(),
            returned: BTreeMap::new(),
            done: BTreeSet::new(),
        }
    }

    /// Gives up its channel: what it has not settled is the server's again. Says how many deliveries were out.
    pub(crate) fn give_up(&mut self) -> (Option<Arc<Channel>>, usize) {
        self.epoch += 1;
        self.base = self.last;
        self.share = Share::Idle;
        self.inbox.clear();
        self.returned.clear();
        self.done.clear();
        let out = std::mem::take(&mut self.out).len();
        (self.channel.take(), out)
    }

    pub(crate) fn push(&mut self, message: Delivered) {
        let offset = self.base + message.tag;
        self.last = offset;
        self.inbox.push_back(Held {
            offset,
            redeliveries: u32::from(message.redelivered),
            message,
        });
    }

    /// The next event to deliver: one that is due again, or the next that came.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Held> {
        if self.share != Share::Ours {
            return None;
        }
        let mut returned = self.returned.iter();
        let due = returned.find_map(|(offset, (due, _))| (*due <= now).then_some(*offset));
        let held = match due {
            Some(offset) => self.returned.remove(&offset).map(|(_, held)| held),
            None => self.inbox.pop_front(),
        }?;
        self.out.insert(held.offset, held.clone());
        Some(held)
    }

    /// When the next returned event is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.returned.values().map(|(due, _)| *due).min()
    }

    pub(crate) fn is_out(&self, offset: u64) -> bool {
        self.out.contains_key(&offset)
    }

    /// Settles what is out. False if it was not.
    pub(crate) fn settle(&mut self, offset: u64, how: Settlement, now: Instant) -> bool {
        let Some(mut held) = self.out.remove(&offset) else {
            return false;
        };
        match how {
            Settlement::Ack => {
                self.done.insert(offset);
            }
            Settlement::Retry(pause) => {
                held.redeliveries = held.redeliveries.saturating_add(1);
                let due = now + pause.min(PAUSE_MAX);
                self.returned.insert(offset, (due, held));
            }
        }
        true
    }

    /// Acknowledges what was settled: one acknowledgement for all before which nothing is unsettled, one for each other.
    pub(crate) fn acknowledge(&mut self) {
        let Some(channel) = self.channel.as_ref().filter(|_| !self.done.is_empty()) else {
            return;
        };
        let firsts = [
            self.out.keys().next().copied(),
            self.returned.keys().next().copied(),
            self.inbox.front().map(|held| held.offset),
        ];
        let unsettled = firsts.into_iter().flatten().min().unwrap_or(u64::MAX);
        if let Some(upto) = self.done.range(..unsettled).next_back() {
            channel.ack(upto - self.base, true);
        }
        for offset in self.done.range(unsettled..) {
            channel.ack(offset - self.base, false);
        }
        self.done.clear();
        self.unflushed = true;
    }

    pub(crate) fn is_free(&self) -> bool {
        self.out.is_empty()
    }

    /// What came and is not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.inbox.len() + self.out.len() + self.returned.len()
    }
}
