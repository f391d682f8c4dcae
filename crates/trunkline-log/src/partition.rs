//! A partition at run time: its bounds, its newest events in memory, and where the others stand.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use trunkline_bus::Start;
use trunkline_core::Envelope;

use crate::catalog::Slot;
use crate::group::Group;
use crate::index::Point;

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) slot: Slot,
    /// Its number in its topic.
    pub(crate) number: u16,
    pub(crate) state: Mutex<PartitionState>,
}

#[derive(Debug, Default)]
pub(crate) struct PartitionState {
    /// The earliest offset that is kept.
    pub(crate) base: u64,
    /// One beyond the last offset that may be delivered.
    pub(crate) end: u64,
    /// The newest events, up to `end`.
    tail: VecDeque<Envelope>,
    /// Oldest first.
    points: VecDeque<Point>,
    /// Offsets that a repair gave up.
    holes: Vec<(u64, u64)>,
    /// The groups that read it, each with the number of its cursor.
    pub(crate) watchers: Vec<(Arc<Group>, usize)>,
}

/// Where a position is, or what is needed to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    At(u64),
    /// In the journal, at this time or after, from this offset on.
    Search {
        from: u64,
        time: i64,
    },
}

impl Partition {
    pub(crate) fn new(slot: Slot, number: u16, base: u64, end: u64) -> Self {
        let state = PartitionState {
            base,
            end,
            ..PartitionState::default()
        };
        Self {
            slot,
            number,
            state: Mutex::new(state),
        }
    }
}

impl PartitionState {
    /// Appends events that are durable now.
    pub(crate) fn extend(&mut self, events: impl Iterator<Item = Envelope>) {
        let before = self.tail.len();
        self.tail.extend(events);
        self.end += (self.tail.len() - before) as u64;
    }

    pub(crate) fn add_point(&mut self, point: Point) {
        self.points.push_back(point);
    }

    pub(crate) fn add_hole(&mut self, from: u64, to: u64) {
        self.holes.push((from, to));
    }

    /// Takes the oldest events out of memory, for the caller to drop without the lock.
    pub(crate) fn evict(&mut self, count: usize, into: &mut Vec<Envelope>) {
        into.extend(self.tail.drain(..count.min(self.tail.len())));
    }

    /// Nothing below `base` is kept any more, nor anything of a segment.
    pub(crate) fn retire(&mut self, base: u64, segment: u32) {
        self.base = self.base.max(base);
        self.points.retain(|point| point.segment != segment);
    }

    /// The first offset that is in memory.
    pub(crate) fn tail_base(&self) -> u64 {
        self.end - self.tail.len() as u64
    }

    /// Events in memory from an offset on.
    pub(crate) fn tail_from(&self, offset: u64) -> impl Iterator<Item = &Envelope> {
        let skip = offset
            .checked_sub(self.tail_base())
            .and_then(|skip| usize::try_from(skip).ok());
        let from = skip.unwrap_or(self.tail.len()).min(self.tail.len());
        self.tail.range(from..)
    }

    /// The points from the one at or before `offset` on, at most `max`.
    pub(crate) fn points_from(&self, offset: u64, max: usize) -> Vec<Point> {
        let after = self.points.partition_point(|point| point.offset <= offset);
        self.points
            .range(after.saturating_sub(1)..)
            .take(max)
            .copied()
            .collect()
    }

    /// One beyond the hole that an offset is in, or the offset.
    pub(crate) fn beyond_hole(&self, offset: u64) -> u64 {
        let hole = self
            .holes
            .iter()
            .find(|(from, to)| (*from..*to).contains(&offset));
        hole.map_or(offset, |(_, to)| *to)
    }

    /// How many offsets from `from` on, up to the end, hold nothing: retention or a repair took it.
    pub(crate) fn missing(&self, from: u64) -> u64 {
        let mut gaps: Vec<(u64, u64)> = self.holes.clone();
        gaps.push((0, self.base));
        gaps.sort_unstable();
        let (mut at, mut missing) = (from, 0);
        for (from, to) in gaps {
            let from = from.max(at);
            let to = to.min(self.end);
            missing += to.saturating_sub(from);
            at = at.max(to);
        }
        missing
    }

    /// The offset where a subscription starts.
    pub(crate) fn position(&self, start: Start) -> Found {
        Found::At(match start {
            Start::Committed | Start::Earliest => self.base,
            Start::Latest => self.end,
            Start::Offset(offset) => offset.clamp(self.base, self.end),
            Start::Time(time) => return self.search(time),
        })
    }

    fn search(&self, time: Timestamp) -> Found {
        let time = time.as_microsecond();
        // Batches of the same time may have come before the first point that is not earlier.
        let later = self.points.partition_point(|point| point.time < time);
        match later
            .checked_sub(1)
            .and_then(|before| self.points.get(before))
        {
            Some(point) => Found::Search {
                from: point.offset.max(self.base),
                time,
            },
            None => Found::At(self.base),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted_once() {
        let mut state = PartitionState {
            base: 10,
            end: 100,
            ..PartitionState::default()
        };
        state.add_hole(5, 20);
        state.add_hole(18, 30);
        state.add_hole(90, 100);
        let missing = [0, 15, 30, 50, 95, 100, 200].map(|from| state.missing(from));
        assert_eq!(missing, [40, 25, 10, 10, 5, 0, 0]);
    }
}
