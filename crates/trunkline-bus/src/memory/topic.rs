//! A topic in memory: its partitions, and how far each group has come in them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;
use tokio::time::Instant;
use trunkline_core::Envelope;

use super::MemoryLimits;
use super::state::{GroupId, MemberId};
use crate::{Start, TopicSpec};

pub(super) struct Topic {
    pub(super) spec: TopicSpec,
    pub(super) partitions: Vec<Partition>,
    pub(super) groups: HashMap<GroupId, GroupTopic>,
}

/// The events of a partition, oldest first, from offset `base`.
#[derive(Default)]
pub(super) struct Partition {
    base: u64,
    /// Offsets below it were looked at by [`Topic::thin`].
    thinned: u64,
    bytes: u64,
    events: VecDeque<Stored>,
}

/// Boxed, so that a slot whose event is gone is small.
struct Stored {
    at: Timestamp,
    envelope: Option<Box<Envelope>>,
}

/// A group's share of a topic.
#[derive(Default)]
pub(super) struct GroupTopic {
    pub(super) members: Vec<MemberId>,
    pub(super) cursors: Vec<Cursor>,
}

/// How far a group has come in a partition. Every offset below `next` is settled, out or returned.
#[derive(Default)]
pub(super) struct Cursor {
    pub(super) next: u64,
    pub(super) out: BTreeMap<u64, u32>,
    pub(super) returned: BTreeMap<u64, Returned>,
    pub(super) owner: Option<MemberId>,
    /// Another member shall have it as soon as nothing is out.
    pub(super) moving: bool,
    /// It stands in its owner's queue of partitions that may have something to deliver.
    pub(super) queued: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Returned {
    pub(super) due: Instant,
    pub(super) redeliveries: u32,
}

impl Topic {
    pub(super) fn new(spec: TopicSpec) -> Self {
        let partitions = (0..spec.partitions).map(|_| Partition::default()).collect();
        Self {
            spec,
            partitions,
            groups: HashMap::new(),
        }
    }

    pub(super) fn partition_of(&self, envelope: &Envelope) -> usize {
        usize::from(crate::partition_of(
            envelope.order_key(),
            self.spec.partitions,
        ))
    }

    /// The lowest offset of a partition that some group has not settled.
    fn unsettled_from(&self, partition: usize) -> u64 {
        let end = self.partitions.get(partition).map_or(0, Partition::end);
        let cursors = self
            .groups
            .values()
            .filter_map(|group| group.cursors.get(partition));
        cursors.map(Cursor::lowest_unfinished).min().unwrap_or(end)
    }

    /// Drops what is settled and no longer kept; says how many unsettled events remain.
    pub(super) fn trim(&mut self, partition: usize, limits: MemoryLimits, now: Timestamp) -> usize {
        let floor = self.unsettled_from(partition);
        let (retention, bytes_max) = (self.spec.retention, self.spec.retention_bytes);
        let Some(log) = self.partitions.get_mut(partition) else {
            return 0;
        };
        let oldest_kept = retention.and_then(|age| now.checked_sub(age).ok());
        while log.base < floor {
            let Some(first) = log.events.front() else {
                break;
            };
            let settled = usize::try_from(floor - log.base).unwrap_or(usize::MAX);
            let drop = settled > limits.retained_max
                || oldest_kept.is_some_and(|oldest| first.at < oldest)
                || bytes_max.is_some_and(|max| log.bytes > max);
            if !drop {
                break;
            }
            if let Some(first) = log.events.pop_front() {
                log.bytes -= first.bytes();
            }
            log.base += 1;
        }
        let unsettled = usize::try_from(log.end() - floor).unwrap_or(usize::MAX);
        if unsettled > limits.retained_max {
            self.thin(partition, limits.retained_max as u64);
        }
        unsettled
    }

    /// One event that waits to be tried again must not keep in memory all that came after it: drops
    /// what every group has settled meanwhile, except for the newest `retained_max`.
    fn thin(&mut self, partition: usize, retained_max: u64) {
        let Some(log) = self.partitions.get_mut(partition) else {
            return;
        };
        let until = log.end().saturating_sub(retained_max);
        for offset in log.thinned.max(log.base)..until {
            let cursors = self
                .groups
                .values()
                .filter_map(|group| group.cursors.get(partition));
            if cursors.into_iter().all(|cursor| cursor.is_settled(offset)) {
                log.forget(offset);
            }
        }
        log.thinned = log.thinned.max(until);
    }

    /// Creates the group's cursors, or moves them if nobody else stands on them.
    pub(super) fn start(&mut self, group: &GroupId, start: Start) {
        let known = self.groups.contains_key(group);
        let entry = self.groups.entry(group.clone()).or_default();
        if (known && start == Start::Committed) || !entry.members.is_empty() {
            return;
        }
        let at = |log: &Partition| Cursor {
            next: log.position(start),
            ..Cursor::default()
        };
        entry.cursors = self.partitions.iter().map(at).collect();
    }
}

impl Partition {
    pub(super) fn end(&self) -> u64 {
        self.base + self.events.len() as u64
    }

    pub(super) fn append(&mut self, envelope: Envelope, now: Timestamp) {
        let at = self.events.back().map_or(now, |last| last.at.max(now));
        self.bytes += envelope.data.len() as u64;
        let envelope = Some(Box::new(envelope));
        self.events.push_back(Stored { at, envelope });
    }

    /// None if it is not kept any more.
    pub(super) fn get(&self, offset: u64) -> Option<&Envelope> {
        let index = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        self.events.get(index)?.envelope.as_deref()
    }

    fn forget(&mut self, offset: u64) {
        let index = usize::try_from(offset - self.base).unwrap_or(usize::MAX);
        if let Some(stored) = self.events.get_mut(index) {
            self.bytes -= stored.bytes();
            stored.envelope = None;
        }
    }

    fn position(&self, start: Start) -> u64 {
        match start {
            Start::Committed | Start::Earliest => self.base,
            Start::Latest => self.end(),
            Start::Offset(offset) => offset.clamp(self.base, self.end()),
            Start::Time(time) => {
                self.base + self.events.partition_point(|stored| stored.at < time) as u64
            }
        }
    }
}

impl Stored {
    fn bytes(&self) -> u64 {
        self.envelope
            .as_ref()
            .map_or(0, |envelope| envelope.data.len() as u64)
    }
}

impl Cursor {
    fn is_settled(&self, offset: u64) -> bool {
        offset < self.next
            && !self.out.contains_key(&offset)
            && !self.returned.contains_key(&offset)
    }

    fn lowest_unfinished(&self) -> u64 {
        let out = self
            .out
            .first_key_value()
            .map_or(u64::MAX, |(offset, _)| *offset);
        let returned = self
            .returned
            .first_key_value()
            .map_or(u64::MAX, |(offset, _)| *offset);
        self.next.min(out).min(returned)
    }

    /// The next offset to deliver with its count of redeliveries, if one is due.
    pub(super) fn take(&mut self, end: u64, now: Instant) -> Option<(u64, u32)> {
        let due = self.returned.iter().find(|(_, back)| back.due <= now);
        let (offset, redeliveries) = if let Some((offset, back)) = due {
            (*offset, back.redeliveries)
        } else if self.next < end {
            (self.next, 0)
        } else {
            return None;
        };
        if redeliveries == 0 && offset == self.next {
            self.next += 1;
        } else {
            self.returned.remove(&offset);
        }
        self.out.insert(offset, redeliveries);
        Some((offset, redeliveries))
    }

    /// When the next returned offset is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.returned.values().map(|back| back.due).min()
    }

    pub(super) fn give_back(&mut self, offset: u64, due: Instant) {
        if let Some(redeliveries) = self.out.remove(&offset) {
            let redeliveries = redeliveries.saturating_add(1);
            self.returned.insert(offset, Returned { due, redeliveries });
        }
    }

    pub(super) fn unsettled(&self, end: u64) -> u64 {
        end - self.next + self.out.len() as u64 + self.returned.len() as u64
    }
}
