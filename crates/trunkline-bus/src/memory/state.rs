//! Everything a memory transport knows, behind one lock that is held briefly.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;
use trunkline_core::{Envelope, Error, ErrorKind, Result};

use super::member::{Member, Taking};
use super::topic::Topic;
use super::{MemoryLimits, closed, undeclared};
use crate::{PublishError, Settlement, TopicSpec};

mod membership;

pub(super) type MemberId = u64;

/// Where a delivery came from: topic, partition, offset.
pub(super) type Place = (usize, usize, u64);

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum GroupId {
    Durable(ByteString),
    /// A reader without a group is a group of its own that ends with it.
    Reader(MemberId),
}

pub(super) struct State {
    limits: MemoryLimits,
    closed: bool,
    names: HashMap<ByteString, usize>,
    topics: Vec<Topic>,
    members: HashMap<MemberId, Member>,
    last_id: u64,
}

pub(super) struct Joined {
    pub(super) id: MemberId,
    pub(super) wake: Arc<Notify>,
}

/// A delivery before it has a receipt.
pub(super) struct Taken {
    pub(super) token: u64,
    pub(super) place: Place,
    pub(super) redeliveries: u32,
    pub(super) envelope: Envelope,
}

pub(super) enum Next {
    Closed,
    Taken(Vec<Taken>),
    /// Nothing now; something at this time, if anything is known.
    Wait(Option<Instant>),
}

impl State {
    pub(super) fn new(limits: MemoryLimits) -> Self {
        Self {
            limits,
            closed: false,
            names: HashMap::new(),
            topics: Vec::new(),
            members: HashMap::new(),
            last_id: 0,
        }
    }

    pub(super) fn declare(&mut self, specs: &[TopicSpec]) -> Result<()> {
        if self.closed {
            return Err(closed());
        }
        for spec in specs {
            spec.check()?;
            let known = self.names.get(&spec.name).copied();
            if let Some(topic) = known.and_then(|at| self.topics.get_mut(at)) {
                if topic.spec.partitions != spec.partitions {
                    let message = "the topic exists with another number of partitions";
                    return Err(Error::conflict("topic_differs", message)
                        .with("topic", &spec.name)
                        .with("partitions", topic.spec.partitions));
                }
                topic.spec = spec.clone();
                continue;
            }
            self.names.insert(spec.name.clone(), self.topics.len());
            self.topics.push(Topic::new(spec.clone()));
        }
        Ok(())
    }

    /// Appends the batch; says whom to wake.
    pub(super) fn publish(
        &mut self,
        batch: &[Envelope],
        now: Timestamp,
    ) -> (Vec<Arc<Notify>>, Result<(), PublishError>) {
        let mut touched = Vec::new();
        let mut result = Ok(());
        for (accepted, envelope) in batch.iter().enumerate() {
            match self.append(envelope, now) {
                Ok(place) if touched.contains(&place) => {}
                Ok(place) => touched.push(place),
                Err(error) => {
                    result = Err(PublishError { accepted, error });
                    break;
                }
            }
        }
        let mut wake: Vec<Arc<Notify>> = Vec::new();
        for (topic, partition) in touched {
            self.enqueue_for_owners(topic, partition, &mut wake);
        }
        (wake, result)
    }

    fn append(&mut self, envelope: &Envelope, now: Timestamp) -> Result<(usize, usize)> {
        if self.closed {
            return Err(closed());
        }
        let at = *self
            .names
            .get(&envelope.topic)
            .ok_or_else(|| undeclared(&envelope.topic))?;
        let topic = self
            .topics
            .get_mut(at)
            .ok_or_else(|| undeclared(&envelope.topic))?;
        let partition = topic.partition_of(envelope);
        if topic.trim(partition, self.limits, now) >= self.limits.unsettled_max {
            let error = Error::new(
                ErrorKind::Overloaded,
                "topic_full",
                "the topic holds as many unsettled events as it may",
            );
            return Err(error.with("topic", &envelope.topic));
        }
        if let Some(log) = topic.partitions.get_mut(partition) {
            log.append(envelope.clone(), now);
        }
        Ok((at, partition))
    }

    fn enqueue_for_owners(&mut self, topic: usize, partition: usize, wake: &mut Vec<Arc<Notify>>) {
        let Some(entry) = self.topics.get_mut(topic) else {
            return;
        };
        for group in entry.groups.values_mut() {
            let Some(cursor) = group.cursors.get_mut(partition) else {
                continue;
            };
            let Some(member) = cursor.owner.and_then(|id| self.members.get_mut(&id)) else {
                continue;
            };
            if !cursor.queued {
                cursor.queued = true;
                member.ready.push_back((topic, partition));
            }
            if !wake.iter().any(|other| Arc::ptr_eq(other, &member.wake)) {
                wake.push(member.wake.clone());
            }
        }
    }

    pub(super) fn next(&mut self, id: MemberId, max: usize) -> Next {
        if self.closed {
            return Next::Closed;
        }
        let now = Instant::now();
        let Some(member) = self.members.get_mut(&id) else {
            return Next::Closed;
        };
        while let Some((due, topic, partition)) = member.timers.first().copied() {
            if due > now {
                break;
            }
            member.timers.pop_first();
            member.ready.push_back((topic, partition));
        }
        let room = member.in_flight_max.saturating_sub(member.out.len());
        let room = room.min(max);
        let mut taken = Vec::new();
        while taken.len() < room
            && let Some(place) = member.ready.pop_front()
        {
            if let Some(topic) = self.topics.get_mut(place.0) {
                let tokens = &mut self.last_id;
                member.take(
                    id,
                    topic,
                    place,
                    &mut Taking {
                        room,
                        now,
                        tokens,
                        taken: &mut taken,
                    },
                );
            }
        }
        if taken.is_empty() {
            let due = member.timers.first().map(|(due, ..)| *due);
            return Next::Wait(due.filter(|_| room > 0));
        }
        Next::Taken(taken)
    }

    pub(super) fn settle(&mut self, id: MemberId, token: u64, how: Settlement) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let was_full = member.out.len() >= member.in_flight_max;
        let Some((at, partition, offset)) = member.out.remove(&token) else {
            return;
        };
        let group = member.group.clone();
        let Some(cursor) = self.cursor(at, partition, &group) else {
            return;
        };
        let mut wake = was_full;
        match how {
            Settlement::Ack => {
                cursor.out.remove(&offset);
            }
            Settlement::Retry(pause) => {
                wake = true;
                let due = Instant::now() + pause.min(PAUSE_MAX);
                cursor.give_back(offset, due);
                if let Some(member) = self.members.get_mut(&id) {
                    member.timers.insert((due, at, partition));
                }
            }
        }
        let moves = self
            .cursor(at, partition, &group)
            .is_some_and(|c| c.moving && c.out.is_empty());
        if moves {
            self.rebalance(at, &group);
        }
        if wake && let Some(member) = self.members.get(&id) {
            member.wake.notify_one();
        }
    }

    pub(super) fn lag(&self, id: MemberId) -> u64 {
        let Some(member) = self.members.get(&id) else {
            return 0;
        };
        let topics = member.topics.iter().filter_map(|at| self.topics.get(*at));
        let lag = |topic: &Topic| {
            let cursors = topic.groups.get(&member.group).map(|group| &group.cursors);
            let pairs = cursors.into_iter().flatten().zip(&topic.partitions);
            pairs
                .map(|(cursor, log)| cursor.unsettled(log.end()))
                .sum::<u64>()
        };
        topics.map(lag).sum()
    }

    /// Closes; says whom to wake.
    pub(super) fn close(&mut self) -> Vec<Arc<Notify>> {
        self.closed = true;
        self.members
            .values()
            .map(|member| member.wake.clone())
            .collect()
    }

    fn cursor(
        &mut self,
        at: usize,
        partition: usize,
        group: &GroupId,
    ) -> Option<&mut super::topic::Cursor> {
        self.topics
            .get_mut(at)?
            .groups
            .get_mut(group)?
            .cursors
            .get_mut(partition)
    }
}

/// The longest pause: beyond it, the sum with the present would overflow.
const PAUSE_MAX: Duration = Duration::from_secs(30 * 365 * 86_400);
