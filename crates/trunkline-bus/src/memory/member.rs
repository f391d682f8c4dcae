//! A member of a group: what it may take, and what it has out.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::state::{GroupId, MemberId, Place, Taken};
use super::topic::Topic;

pub(super) struct Member {
    pub(super) group: GroupId,
    pub(super) topics: Vec<usize>,
    pub(super) in_flight_max: usize,
    pub(super) out: HashMap<u64, Place>,
    pub(super) ready: VecDeque<(usize, usize)>,
    pub(super) timers: BTreeSet<(Instant, usize, usize)>,
    pub(super) wake: Arc<Notify>,
}

/// Deliveries while they are being taken.
pub(super) struct Taking<'a> {
    pub(super) room: usize,
    pub(super) now: Instant,
    pub(super) tokens: &'a mut u64,
    pub(super) taken: &'a mut Vec<Taken>,
}

impl Member {
    /// Takes what a partition has to deliver, and remembers when it will have more.
    pub(super) fn take(
        &mut self,
        id: MemberId,
        topic: &mut Topic,
        (at, partition): (usize, usize),
        taking: &mut Taking<'_>,
    ) {
        let group = topic.groups.get_mut(&self.group);
        let cursor = group.and_then(|group| group.cursors.get_mut(partition));
        let Some(cursor) = cursor.filter(|cursor| cursor.owner == Some(id)) else {
            return;
        };
        cursor.queued = false;
        let Some(log) = topic.partitions.get(partition).filter(|_| !cursor.moving) else {
            return;
        };
        while taking.taken.len() < taking.room
            && let Some((offset, redeliveries)) = cursor.take(log.end(), taking.now)
        {
            let Some(envelope) = log.get(offset).cloned() else {
                cursor.out.remove(&offset);
                continue;
            };
            *taking.tokens += 1;
            let token = *taking.tokens;
            let place = (at, partition, offset);
            self.out.insert(token, place);
            taking.taken.push(Taken {
                token,
                place,
                redeliveries,
                envelope,
            });
        }
        if taking.taken.len() == taking.room {
            cursor.queued = true;
            self.ready.push_back((at, partition));
        } else if let Some(due) = cursor.due() {
            self.timers.insert((due, at, partition));
        }
    }
}
