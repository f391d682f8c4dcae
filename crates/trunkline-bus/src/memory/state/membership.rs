//! Members that come and go, and how a topic's partitions are spread over them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;
use trunkline_core::{Error, Result};

use super::super::member::Member;
use super::super::topic::GroupTopic;
use super::super::{closed, undeclared};
use super::{GroupId, Joined, MemberId, State};
use crate::Subscribe;

impl State {
    pub(in crate::memory) fn join(&mut self, spec: &Subscribe) -> Result<Joined> {
        if self.closed {
            return Err(closed());
        }
        if spec.topics.is_empty() || spec.in_flight_max == 0 {
            let message = "expected at least one topic and in_flight_max of at least 1";
            return Err(Error::invalid("subscribe_invalid", message));
        }
        let find = |name| {
            self.names
                .get(name)
                .copied()
                .ok_or_else(|| undeclared(name))
        };
        let mut topics = spec
            .topics
            .iter()
            .map(find)
            .collect::<Result<Vec<usize>>>()?;
        topics.sort_unstable();
        topics.dedup();
        self.last_id += 1;
        let id = self.last_id;
        let group = spec
            .group
            .clone()
            .map_or(GroupId::Reader(id), GroupId::Durable);
        let wake = Arc::new(Notify::new());
        let member = Member {
            group: group.clone(),
            topics: topics.clone(),
            in_flight_max: spec.in_flight_max,
            out: HashMap::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            wake: wake.clone(),
        };
        self.members.insert(id, member);
        for at in topics {
            if let Some(topic) = self.topics.get_mut(at) {
                topic.start(&group, spec.start);
                if let Some(entry) = topic.groups.get_mut(&group) {
                    entry.members.push(id);
                }
            }
            self.rebalance(at, &group);
        }
        Ok(Joined { id, wake })
    }

    /// The member leaves: what it has out goes back to its group.
    pub(in crate::memory) fn leave(&mut self, id: MemberId) {
        let Some(member) = self.members.remove(&id) else {
            return;
        };
        let now = Instant::now();
        for (topic, partition, offset) in member.out.into_values() {
            if let Some(cursor) = self.cursor(topic, partition, &member.group) {
                cursor.give_back(offset, now);
            }
        }
        for at in member.topics {
            let Some(topic) = self.topics.get_mut(at) else {
                continue;
            };
            if matches!(member.group, GroupId::Reader(_)) {
                topic.groups.remove(&member.group);
                continue;
            }
            if let Some(group) = topic.groups.get_mut(&member.group) {
                group.members.retain(|other| *other != id);
                for cursor in group.cursors.iter_mut().filter(|c| c.owner == Some(id)) {
                    cursor.owner = None;
                    cursor.queued = false;
                }
            }
            self.rebalance(at, &member.group);
        }
    }

    /// Spreads a topic's partitions over the group's members; one that has events out moves later.
    pub(super) fn rebalance(&mut self, at: usize, group_id: &GroupId) {
        let Some(group) = self
            .topics
            .get_mut(at)
            .and_then(|t| t.groups.get_mut(group_id))
        else {
            return;
        };
        let GroupTopic { members, cursors } = group;
        for (partition, cursor) in cursors.iter_mut().enumerate() {
            let wanted = members.get(partition % members.len().max(1)).copied();
            let was_moving = cursor.moving;
            cursor.moving = cursor.owner.is_some() && cursor.owner != wanted;
            let waits = cursor.moving && !cursor.out.is_empty();
            let stays = cursor.owner == wanted && !was_moving;
            if waits || stays {
                continue;
            }
            cursor.owner = wanted;
            cursor.moving = false;
            cursor.queued = false;
            if let Some(member) = wanted.and_then(|id| self.members.get_mut(&id)) {
                cursor.queued = true;
                member.ready.push_back((at, partition));
                member.wake.notify_one();
            }
        }
    }
}
