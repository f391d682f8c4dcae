//! Who is connected to the other nodes, as these tell it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Of so many members of other nodes this one knows; who is beyond that is not seen from here.
const MEMBERS_MAX: usize = 500_000;

/// Somebody in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) namespace: ByteString,
    pub(crate) id: ByteString,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<ByteString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<ByteString>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) rooms: BTreeSet<ByteString>,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct News {
    pub(crate) node: u64,
    /// One more than that of what it said before; a beat has the last one's.
    pub(crate) number: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    /// It is there.
    Beat,
    /// These came, or are in other rooms now.
    Here(Vec<Member>),
    /// These have gone.
    Gone(Vec<(ByteString, ByteString)>),
    /// From here on all are told who are there.
    Anew,
    /// It goes.
    Bye,
    /// It wants to know all of a node, or of all.
    Ask(Option<u64>),
}

type Key = (ByteString, ByteString);

struct Node {
    number: u64,
    heard: Instant,
    /// Nothing that it said was missed.
    is_whole: bool,
    members: HashMap<Key, Member>,
}

/// The other nodes.
#[derive(Default)]
pub(crate) struct Others {
    nodes: HashMap<u64, Node>,
    /// Who is in a room of a namespace, by node and id.
    rooms: HashMap<Key, HashMap<(u64, ByteString), Option<ByteString>>>,
    /// Where somebody is who may come back.
    pids: HashMap<ByteString, (u64, Key)>,
    count: usize,
}

impl Others {
    /// Learns what a node says; whether it has to be asked for all.
    pub(crate) fn learn(&mut self, news: News, now: Instant) -> bool {
        let News { node, number, what } = news;
        if what == What::Bye {
            self.forget(node);
            return false;
        }
        let known = self.nodes.entry(node).or_insert_with(|| Node {
            number: 0,
            heard: now,
            is_whole: false,
            members: HashMap::new(),
        });
        known.heard = now;
        match what {
            What::Beat | What::Ask(_) => return !known.is_whole || known.number != number,
            What::Anew => {
                (known.number, known.is_whole) = (number, true);
                let members = std::mem::take(&mut known.members);
                members.into_values().for_each(|one| self.leave(node, &one));
            }
            What::Here(_) | What::Gone(_) if number <= known.number && known.is_whole => {}
            What::Here(_) | What::Gone(_) if number != known.number + 1 || !known.is_whole => {
                // Something was missed: what is known stays until it is told anew.
                let was_whole = std::mem::replace(&mut known.is_whole, false);
                return was_whole;
            }
            What::Here(members) => {
                known.number = number;
                members.into_iter().for_each(|one| self.enter(node, one));
            }
            What::Gone(keys) => {
                known.number = number;
                keys.iter().for_each(|key| self.drop_one(node, key));
            }
            What::Bye => {}
        }
        false
    }

    /// Forgets nodes that were not heard of since. Gives who was there and may come back to the least of those that are left, for one of
    /// them has to remember them.
    pub(crate) fn sweep(&mut self, since: Instant, this: u64) -> Vec<Member> {
        let silent = self.nodes.iter().filter(|(_, node)| node.heard < since);
        let silent: Vec<u64> = silent.map(|(id, _)| *id).collect();
        let mut lost = Vec::new();
        for node in silent {
            let members = self.nodes.get_mut(&node).map(|node| &node.members);
            let members = members.into_iter().flat_map(HashMap::values);
            lost.extend(members.filter(|one| one.pid.is_some()).cloned());
            self.forget(node);
        }
        if self.nodes.keys().any(|node| *node < this) {
            lost.clear();
        }
        lost
    }

    /// Who is in a room, by their sockets' ids; in the whole namespace if none is named.
    pub(crate) fn collect(
        &self,
        namespace: &ByteString,
        room: Option<&ByteString>,
        into: &mut BTreeMap<ByteString, Option<ByteString>>,
    ) {
        // No room's name is empty.
        let room = room.cloned().unwrap_or_default();
        let found = self.rooms.get(&(namespace.clone(), room));
        for ((_, id), user) in found.into_iter().flatten() {
            into.insert(id.clone(), user.clone());
        }
    }

    /// Somebody who was at another node and shows it.
    pub(crate) fn known(&self, pid: &str) -> Option<&Member> {
        let (node, key) = self.pids.get(pid)?;
        self.nodes.get(node)?.members.get(key)
    }

    fn forget(&mut self, node: u64) {
        let members = self.nodes.remove(&node).map(|node| node.members);
        let members = members.into_iter().flat_map(HashMap::into_values);
        members.for_each(|one| self.leave(node, &one));
    }

    fn enter(&mut self, node: u64, member: Member) {
        let key = (member.namespace.clone(), member.id.clone());
        self.drop_one(node, &key);
        if self.count >= MEMBERS_MAX {
            return;
        }
        self.count += 1;
        for room in rooms_of(&member) {
            let place = (member.namespace.clone(), room);
            let who = self.rooms.entry(place).or_default();
            who.insert((node, member.id.clone()), member.user.clone());
        }
        if let Some(pid) = &member.pid {
            self.pids.insert(pid.clone(), (node, key.clone()));
        }
        if let Some(known) = self.nodes.get_mut(&node) {
            known.members.insert(key, member);
        }
    }

    fn drop_one(&mut self, node: u64, key: &Key) {
        let known = self.nodes.get_mut(&node);
        if let Some(member) = known.and_then(|known| known.members.remove(key)) {
            self.leave(node, &member);
        }
    }

    /// Takes one out of everything but its node.
    fn leave(&mut self, node: u64, member: &Member) {
        self.count = self.count.saturating_sub(1);
        for room in rooms_of(member) {
            let place = (member.namespace.clone(), room);
            if let Some(who) = self.rooms.get_mut(&place) {
                who.remove(&(node, member.id.clone()));
                if who.is_empty() {
                    self.rooms.remove(&place);
                }
            }
        }
        if let Some(pid) = &member.pid
            && self.pids.get(pid).is_some_and(|(at, _)| *at == node)
        {
            self.pids.remove(pid);
        }
    }
}

/// Its rooms, and the one without a name that everybody is in.
fn rooms_of(member: &Member) -> impl Iterator<Item = ByteString> {
    let rooms = member.rooms.iter().cloned();
    rooms.chain(std::iter::once(ByteString::new()))
}

#[cfg(test)]
mod tests;
