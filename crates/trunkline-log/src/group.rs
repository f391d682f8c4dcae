//! A group at run time: its members, which partitions each has, and how far it has come in them.
//!
//! A partition belongs to one member at a time and moves only when nothing of it is out. Locks are
//! taken group first, then partition.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use trunkline_bus::{Settlement, Start};
use trunkline_core::Envelope;

use crate::catalog::{GroupId, Slot};
use crate::cursor::{Cursor, Need, Taken};
use crate::partition::Partition;

pub(crate) type MemberId = u64;

#[derive(Debug)]
pub(crate) struct Group {
    /// None for a reader, which is a group of its own that remembers nothing.
    pub(crate) durable: Option<(GroupId, ByteString)>,
    pub(crate) state: Mutex<GroupState>,
}

#[derive(Debug, Default)]
pub(crate) struct GroupState {
    closed: bool,
    /// Positions that the journal has of slots that nobody has subscribed to yet.
    known: HashMap<Slot, u64>,
    topics: BTreeMap<usize, GroupTopic>,
    cursors: Vec<Cursor>,
    members: HashMap<MemberId, Member>,
    last_member: MemberId,
}

#[derive(Debug)]
struct GroupTopic {
    members: Vec<MemberId>,
    /// The cursors of its partitions.
    first_cursor: usize,
    cursors: usize,
}

#[derive(Debug)]
struct Member {
    topics: Vec<usize>,
    in_flight_max: usize,
    out: usize,
    ready: VecDeque<usize>,
    timers: BTreeSet<(Instant, usize)>,
    wake: Arc<Notify>,
}

/// A topic that a member joins, with where each partition starts for a group that starts anew.
#[derive(Debug)]
pub(crate) struct JoinTopic {
    pub(crate) index: usize,
    pub(crate) partitions: Vec<(Arc<Partition>, u64)>,
}

#[derive(Debug)]
pub(crate) enum Next {
    Closed,
    Taken(Vec<(usize, u16, Taken)>),
    /// This must be read from the files first, for this cursor.
    Read(usize, Need),
    /// Nothing now; something at this time, if anything is known.
    Wait(Option<Instant>),
}

/// The longest pause: beyond it, the sum with the present would overflow.
const PAUSE_MAX: Duration = Duration::from_secs(30 * 365 * 86_400);

impl Group {
    pub(crate) fn new(durable: Option<(GroupId, ByteString)>, known: HashMap<Slot, u64>) -> Self {
        Self {
            durable,
            state: Mutex::new(GroupState {
                known,
                ..GroupState::default()
            }),
        }
    }

    /// A member joins. Says which it is, and the cursors whose positions are to be written.
    pub(crate) fn join(
        self: &Arc<Self>,
        topics: Vec<JoinTopic>,
        start: Start,
        in_flight_max: usize,
    ) -> (MemberId, Arc<Notify>, Vec<usize>) {
        let mut state = self.state.lock();
        state.last_member += 1;
        let id = state.last_member;
        let wake = Arc::new(Notify::new());
        let member = Member {
            topics: topics.iter().map(|topic| topic.index).collect(),
            in_flight_max,
            out: 0,
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            wake: wake.clone(),
        };
        state.members.insert(id, member);
        let mut moved = Vec::new();
        for topic in topics {
            let index = topic.index;
            state.start(self, topic, start, &mut moved);
            if let Some(entry) = state.topics.get_mut(&index) {
                entry.members.push(id);
            }
            state.rebalance(index);
        }
        if self.durable.is_none() {
            moved.clear();
        }
        moved.retain(|cursor| {
            let cursor = state.cursors.get_mut(*cursor);
            cursor.is_some_and(|cursor| !std::mem::replace(&mut cursor.dirty, true))
        });
        (id, wake, moved)
    }

    /// A member leaves: what it has out goes back to the group.
    pub(crate) fn leave(self: &Arc<Self>, id: MemberId) {
        let mut state = self.state.lock();
        let Some(member) = state.members.remove(&id) else {
            return;
        };
        let now = Instant::now();
        for index in member.topics {
            let Some(topic) = state.topics.get_mut(&index) else {
                continue;
            };
            topic.members.retain(|other| *other != id);
            for cursor in state
                .cursors_of(index)
                .filter(|cursor| cursor.owner == Some(id))
            {
                cursor.give_all_back(now);
                cursor.owner = None;
                cursor.queued = false;
            }
            state.rebalance(index);
        }
        if self.durable.is_none() {
            state.unwatch(self);
        }
    }

    /// Something new is in a cursor's partition; says whom to wake.
    pub(crate) fn arrived(&self, cursor: usize) -> Option<Arc<Notify>> {
        let mut state = self.state.lock();
        let GroupState {
            cursors, members, ..
        } = &mut *state;
        let entry = cursors.get_mut(cursor)?;
        let member = members.get_mut(&entry.owner?)?;
        if !std::mem::replace(&mut entry.queued, true) {
            member.ready.push_back(cursor);
        }
        Some(member.wake.clone())
    }

    pub(crate) fn next(&self, id: MemberId, max: usize) -> Next {
        self.state.lock().next(id, max)
    }

    /// Takes in what was read for a cursor.
    pub(crate) fn fill(&self, id: MemberId, cursor: usize, need: &Need, read: VecDeque<Envelope>) {
        let mut state = self.state.lock();
        if let Some(entry) = state.cursors.get_mut(cursor)
            && entry.owner == Some(id)
        {
            entry.fill(need, read);
        }
    }

    /// Settles what a member had out. `soil` is called, under the lock, when the cursor's position is
    /// to be written: nobody may see the settlement before the writer can.
    pub(crate) fn settle(
        self: &Arc<Self>,
        id: MemberId,
        (cursor, offset): (usize, u64),
        how: Settlement,
        soil: impl FnOnce(Arc<Self>, usize),
    ) {
        let mut state = self.state.lock();
        let GroupState {
            cursors, members, ..
        } = &mut *state;
        let (Some(entry), Some(member)) = (cursors.get_mut(cursor), members.get_mut(&id)) else {
            return;
        };
        if entry.owner != Some(id) {
            return;
        }
        let mut wake = member.out >= member.in_flight_max;
        let mut moved = false;
        match how {
            Settlement::Ack => match entry.ack(offset) {
                Some(advanced) => moved = advanced,
                None => return,
            },
            Settlement::Retry(pause) => {
                let due = Instant::now() + pause.min(PAUSE_MAX);
                if !entry.give_back(offset, due) {
                    return;
                }
                member.timers.insert((due, cursor));
                wake = true;
            }
        }
        member.out -= 1;
        if entry.was_stalled() && !std::mem::replace(&mut entry.queued, true) {
            member.ready.push_back(cursor);
            wake = true;
        }
        if wake {
            member.wake.notify_one();
        }
        if moved && self.durable.is_some() && !std::mem::replace(&mut entry.dirty, true) {
            soil(self.clone(), cursor);
        }
        if entry.moving && entry.out() == 0 {
            let topic = entry.topic;
            state.rebalance(topic);
        }
    }

    /// The position of a dirty cursor, which is clean then.
    pub(crate) fn clean(&self, cursor: usize) -> Option<(Slot, u64)> {
        let mut state = self.state.lock();
        let entry = state.cursors.get_mut(cursor)?;
        entry.dirty = false;
        Some((entry.partition.slot, entry.position()))
    }

    /// A position could not be written: it is dirty again. Says whether it was not already.
    pub(crate) fn soil(&self, cursor: usize) -> bool {
        let mut state = self.state.lock();
        let entry = state.cursors.get_mut(cursor);
        entry.is_some_and(|entry| !std::mem::replace(&mut entry.dirty, true))
    }

    /// How many events of a member's topics are not done.
    pub(crate) fn lag(&self, id: MemberId) -> u64 {
        let mut state = self.state.lock();
        let Some(member) = state.members.get(&id) else {
            return 0;
        };
        let topics = member.topics.clone();
        let mut lag = 0;
        for index in topics {
            for cursor in state.cursors_of(index) {
                let (end, missing) = {
                    let partition = cursor.partition.state.lock();
                    (partition.end, partition.missing(cursor.next()))
                };
                lag += cursor.unsettled(end).saturating_sub(missing);
            }
        }
        lag
    }

    /// Whether anybody is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().members.is_empty()
    }

    /// Ends it: whoever waits is woken.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.closed = true;
        for member in state.members.values() {
            member.wake.notify_one();
        }
        state.unwatch(self);
    }
}

impl GroupState {
    fn start(
        &mut self,
        group: &Arc<Group>,
        topic: JoinTopic,
        start: Start,
        moved: &mut Vec<usize>,
    ) {
        if let Some(known) = self.topics.get(&topic.index) {
            if start == Start::Committed || !known.members.is_empty() {
                return;
            }
            let first = known.first_cursor;
            for (index, (_, at)) in (first..).zip(topic.partitions) {
                if let Some(cursor) = self.cursors.get_mut(index) {
                    cursor.reset(at);
                    moved.push(index);
                }
            }
            return;
        }
        let entry = GroupTopic {
            members: Vec::new(),
            first_cursor: self.cursors.len(),
            cursors: topic.partitions.len(),
        };
        for (partition, at) in topic.partitions {
            let known = self.known.remove(&partition.slot);
            let index = self.cursors.len();
            let mut state = partition.state.lock();
            let at = match known.filter(|_| start == Start::Committed) {
                Some(position) => position.min(state.end),
                None => at,
            };
            if known != Some(at) {
                moved.push(index);
            }
            state.watchers.push((group.clone(), index));
            drop(state);
            self.cursors.push(Cursor::new(partition, topic.index, at));
        }
        self.topics.insert(topic.index, entry);
    }

    fn cursors_of(&mut self, topic: usize) -> impl Iterator<Item = &mut Cursor> {
        let range = self.topics.get(&topic).map_or(0..0, GroupTopic::range);
        self.cursors.get_mut(range).unwrap_or_default().iter_mut()
    }

    /// Spreads a topic's partitions over the members; one that has events out moves later.
    fn rebalance(&mut self, topic: usize) {
        let Some(GroupTopic {
            members,
            first_cursor,
            cursors,
        }) = self.topics.get(&topic)
        else {
            return;
        };
        for number in 0..*cursors {
            let index = first_cursor + number;
            let Some(cursor) = self.cursors.get_mut(index) else {
                continue;
            };
            let wanted = members.get(number % members.len().max(1)).copied();
            let was_moving = cursor.moving;
            cursor.moving = cursor.owner.is_some() && cursor.owner != wanted;
            let waits = cursor.moving && cursor.out() > 0;
            let stays = cursor.owner == wanted && !was_moving;
            if waits || stays {
                continue;
            }
            cursor.owner = wanted;
            cursor.moving = false;
            cursor.queued = false;
            if let Some(member) = wanted.and_then(|id| self.members.get_mut(&id)) {
                cursor.queued = true;
                member.ready.push_back(index);
                member.wake.notify_one();
            }
        }
    }

    fn next(&mut self, id: MemberId, max: usize) -> Next {
        if self.closed {
            return Next::Closed;
        }
        let Some(member) = self.members.get_mut(&id) else {
            return Next::Closed;
        };
        let now = Instant::now();
        while let Some((due, cursor)) = member.timers.first().copied() {
            if due > now {
                break;
            }
            member.timers.pop_first();
            member.ready.push_back(cursor);
        }
        let room = member.in_flight_max.saturating_sub(member.out).min(max);
        let mut all = Vec::new();
        let mut taken = Vec::with_capacity(if member.ready.is_empty() {
            0
        } else {
            room.min(256)
        });
        let mut read = None;
        while all.len() < room && read.is_none() {
            let Some(index) = member.ready.pop_front() else {
                break;
            };
            let Some(cursor) = self.cursors.get_mut(index).filter(|c| c.owner == Some(id)) else {
                continue;
            };
            cursor.queued = false;
            if cursor.moving {
                continue;
            }
            let need = cursor.take(room - all.len(), now, &mut taken);
            let number = cursor.partition.number;
            all.extend(taken.drain(..).map(|one| (index, number, one)));
            if all.len() == room || need.is_some() {
                cursor.queued = true;
                member.ready.push_back(index);
            } else if let Some(due) = cursor.due() {
                member.timers.insert((due, index));
            }
            read = need.map(|need| (index, need));
        }
        member.out += all.len();
        match read {
            _ if !all.is_empty() => Next::Taken(all),
            Some((cursor, need)) => Next::Read(cursor, need),
            None => Next::Wait(
                member
                    .timers
                    .first()
                    .map(|(due, _)| *due)
                    .filter(|_| room > 0),
            ),
        }
    }

    fn unwatch(&mut self, group: &Arc<Group>) {
        for cursor in &self.cursors {
            let mut partition = cursor.partition.state.lock();
            partition
                .watchers
                .retain(|(watcher, _)| !Arc::ptr_eq(watcher, group));
        }
    }
}

impl GroupTopic {
    fn range(&self) -> std::ops::Range<usize> {
        self.first_cursor..self.first_cursor + self.cursors
    }
}
