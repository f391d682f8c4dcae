//! What is out of a partition. Offsets may have gaps: records of transactions, and what was compacted away.

use std::collections::{BTreeSet, VecDeque};

use tokio::time::Instant;

use crate::wire::Raw;

/// The deliveries that are not settled, in the order of their offsets.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: VecDeque<Entry>,
    /// The token of the first entry; tokens count up.
    first: u64,
    /// The tokens that wait to be delivered again.
    waiting: BTreeSet<u64>,
    /// How many are being handled.
    pub(super) begun: usize,
    /// The lowest unfinished offset; none as long as nothing came.
    position: Option<i64>,
    pub(super) committed: Option<i64>,
    /// Nothing more is given out.
    pub(super) moving: bool,
    /// It is somebody else's.
    void: bool,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    state: State,
    redeliveries: u32,
    /// Kept to be delivered again; none once it is done.
    record: Option<Raw>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Out,
    Begun,
    Waiting(Instant),
    Done,
}

/// One that is given out again.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) token: u64,
    pub(super) offset: i64,
    pub(super) redeliveries: u32,
    pub(super) record: Raw,
}

impl Ledger {
    pub(super) fn new(start: Option<i64>) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            waiting: BTreeSet::new(),
            begun: 0,
            position: start,
            committed: start,
            moving: false,
            void: false,
        }
    }

    /// The token of the next new one. They count up, whatever is settled meanwhile.
    pub(super) fn next_token(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// New ones are given out, by their offsets, with the tokens from `first` on, which [`Ledger::next_token`] told
    /// before; says whether they may be.
    pub(super) fn out(&mut self, first: u64, records: Vec<(i64, Raw)>) -> bool {
        if self.void || self.moving {
            return false;
        }
        assert_eq!(first, self.next_token(), "receipts would settle others");
        if self.entries.is_empty()
            && let Some((offset, _)) = records.first()
        {
            self.position = Some(*offset);
            // What is before the first one was committed, or never there.
            self.committed.get_or_insert(*offset);
        }
        let entries = records.into_iter().map(|(offset, record)| Entry {
            offset,
            state: State::Out,
            redeliveries: 0,
            record: Some(record),
        });
        self.entries.extend(entries);
        true
    }

    /// At most `max` of those that are due again, in order.
    pub(super) fn due(&mut self, max: usize, now: Instant) -> Vec<Again> {
        if self.waiting.is_empty() || self.moving || self.void {
            return Vec::new();
        }
        let tokens: Vec<u64> = self.waiting.iter().copied().collect();
        let mut taken = Vec::new();
        for token in tokens {
            if taken.len() == max {
                break;
            }
            let Some(entry) = self.entry(token) else {
                continue;
            };
            let State::Waiting(due) = entry.state else {
                continue;
            };
            let Some(record) = entry.record.as_ref().filter(|_| due <= now) else {
                continue;
            };
            let again = Again {
                token,
                offset: entry.offset,
                redeliveries: entry.redeliveries.saturating_add(1),
                record: record.clone(),
            };
            entry.state = State::Out;
            entry.redeliveries = again.redeliveries;
            self.waiting.remove(&token);
            taken.push(again);
        }
        taken
    }

    pub(super) fn next_due(&mut self) -> Option<Instant> {
        if self.moving || self.void {
            return None;
        }
        let tokens: Vec<u64> = self.waiting.iter().copied().collect();
        let due = tokens
            .into_iter()
            .filter_map(|token| match self.entry(token)?.state {
                State::Waiting(due) => Some(due),
                _ => None,
            });
        due.min()
    }

    pub(super) fn begin(&mut self, token: u64) -> bool {
        if self.void || self.moving {
            return false;
        }
        match self.entry(token) {
            Some(entry) if entry.state == State::Out => {
                entry.state = State::Begun;
                self.begun += 1;
                true
            }
            _ => false,
        }
    }

    /// One is done; says whether it was out.
    pub(super) fn ack(&mut self, token: u64) -> bool {
        let Some(entry) = self.unsettled(token) else {
            return false;
        };
        entry.state = State::Done;
        entry.record = None;
        while let Some(entry) = self.entries.front()
            && entry.state == State::Done
        {
            self.position = Some(entry.offset + 1);
            self.first += 1;
            self.entries.pop_front();
        }
        if let Some(entry) = self.entries.front() {
            self.position = Some(entry.offset);
        }
        true
    }

    /// One is to be delivered again; says whether it was out.
    pub(super) fn retry(&mut self, token: u64, due: Instant) -> bool {
        let Some(entry) = self.unsettled(token) else {
            return false;
        };
        entry.state = State::Waiting(due);
        self.waiting.insert(token);
        true
    }

    /// Ends it; says how many were out.
    pub(super) fn end(&mut self) -> usize {
        self.void = true;
        self.waiting.clear();
        self.begun = 0;
        let entries = std::mem::take(&mut self.entries);
        entries
            .iter()
            .filter(|entry| entry.state != State::Done)
            .count()
    }

    pub(super) fn uncommitted(&self) -> Option<i64> {
        self.position.filter(|_| self.position > self.committed)
    }

    pub(super) fn progress(&self) -> (Option<i64>, u64) {
        let done = self
            .entries
            .iter()
            .filter(|entry| entry.state == State::Done);
        (self.position, done.count() as u64)
    }

    fn entry(&mut self, token: u64) -> Option<&mut Entry> {
        let index = usize::try_from(token.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }

    /// An entry that is out, which it is no longer.
    fn unsettled(&mut self, token: u64) -> Option<&mut Entry> {
        if self.void {
            return None;
        }
        let state = self.entry(token)?.state;
        match state {
            State::Out => {}
            State::Begun => self.begun -= 1,
            State::Waiting(_) | State::Done => return None,
        }
        self.entry(token)
    }
}

#[cfg(test)]
mod tests;
