//! Who is in a group, and who has which partition of a topic: a record that all members write in turn.
//!
//! Nothing here reads a clock. A member shows that it lives by counting up; who has not counted for the
//! time of a lease, as another member measured it, is dead. So no two clocks are ever compared.

use serde::{Deserialize, Serialize};

/// The record of a group on a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its members, in the order in which they came.
    #[serde(default)]
    pub(crate) members: Vec<Member>,
    /// The topic's partitions.
    #[serde(default)]
    pub(crate) partitions: Vec<Share>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: String,
    /// Counts up while it lives.
    pub(crate) beat: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Share {
    /// Who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// Where its consumer was last told to begin: the place to begin at if the consumer is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<u64>,
}

impl Record {
    /// Makes room for all partitions of the topic.
    pub(crate) fn fit(&mut self, partitions: u16) {
        self.partitions
            .resize_with(usize::from(partitions), Share::default);
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.members.iter().any(|member| member.id == id)
    }

    /// A member comes, or shows that it lives.
    pub(crate) fn beat(&mut self, id: &str) {
        match self.members.iter_mut().find(|member| member.id == id) {
            Some(member) => member.beat += 1,
            None => self.members.push(Member {
                id: id.to_owned(),
                beat: 1,
            }),
        }
    }

    /// A member leaves, or is dead: what it had is free.
    pub(crate) fn remove(&mut self, id: &str) {
        self.members.retain(|member| member.id != id);
        for share in &mut self.partitions {
            if share.owner.as_deref() == Some(id) {
                share.owner = None;
            }
        }
    }

    /// What nobody has, or somebody who is no member.
    pub(crate) fn free(&self) -> impl Iterator<Item = u16> {
        let is_free = |share: &Share| share.owner.as_deref().is_none_or(|owner| !self.has(owner));
        self.numbered()
            .filter(move |(_, share)| is_free(share))
            .map(|(number, _)| number)
    }

    pub(crate) fn owned<'a>(&'a self, id: &'a str) -> impl Iterator<Item = u16> {
        let owned = move |share: &Share| share.owner.as_deref() == Some(id);
        self.numbered()
            .filter(move |(_, share)| owned(share))
            .map(|(number, _)| number)
    }

    pub(crate) fn share(&self, partition: u16) -> Option<&Share> {
        self.partitions.get(usize::from(partition))
    }

    pub(crate) fn share_mut(&mut self, partition: u16) -> Option<&mut Share> {
        self.partitions.get_mut(usize::from(partition))
    }

    fn numbered(&self) -> impl Iterator<Item = (u16, &Share)> {
        (0..=u16::MAX).zip(&self.partitions)
    }

    /// How many partitions a member is to have. All have as many; where that does not come out even, those
    /// have one more that have the most by now, so that as few as can be move.
    pub(crate) fn quota(&self, id: &str) -> usize {
        let count = self.members.len().max(1);
        let (each, more) = (self.partitions.len() / count, self.partitions.len() % count);
        let mut ranked: Vec<&str> = self
            .members
            .iter()
            .map(|member| member.id.as_str())
            .collect();
        ranked.sort_by_key(|id| std::cmp::Reverse(self.owned(id).count()));
        let rank = ranked.iter().position(|ranked| *ranked == id);
        each + usize::from(rank.is_some_and(|rank| rank < more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets all members give up and take until nobody wants to; says how many partitions moved.
    fn settle(record: &mut Record) -> usize {
        let mut moved = 0;
        for _ in 0..100 {
            let before = record.clone();
            let ids: Vec<String> = record
                .members
                .iter()
                .map(|member| member.id.clone())
                .collect();
            for id in &ids {
                let owned: Vec<u16> = record.owned(id).collect();
                for given in owned.iter().skip(record.quota(id)) {
                    record.share_mut(*given).unwrap().owner = None;
                }
                let wanted = record.quota(id).saturating_sub(record.owned(id).count());
                let taken: Vec<u16> = record.free().take(wanted).collect();
                for number in taken {
                    record.share_mut(number).unwrap().owner = Some(id.clone());
                    moved += 1;
                }
            }
            if *record == before {
                return moved;
            }
        }
        panic!("it does not come to rest: {record:?}");
    }

    fn counts(record: &Record) -> Vec<usize> {
        let mut counts: Vec<usize> = record
            .members
            .iter()
            .map(|member| record.owned(&member.id).count())
            .collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn partitions_are_shared_out_fairly_and_few_move() {
        let mut record = Record::default();
        record.fit(8);
        for (id, expected, moves) in [
            ("a", vec![8], 8),
            ("b", vec![4, 4], 4),
            ("c", vec![2, 3, 3], 2),
            ("d", vec![2, 2, 2, 2], 2),
        ] {
            record.beat(id);
            let moved = settle(&mut record);
            assert_eq!((counts(&record), moved), (expected, moves), "{id}");
        }
        record.remove("b");
        assert_eq!(record.free().count(), 2);
        assert_eq!(settle(&mut record), 2);
        assert_eq!(counts(&record), [2, 3, 3]);
    }

    #[test]
    fn more_members_than_partitions_leave_some_idle() {
        let mut record = Record::default();
        record.fit(2);
        ["a", "b", "c"].iter().for_each(|id| record.beat(id));
        settle(&mut record);
        assert_eq!(counts(&record), [0, 1, 1]);
    }

    #[test]
    fn what_belongs_to_nobody_known_is_free() {
        let mut record = Record::default();
        record.fit(1);
        record.beat("a");
        record.share_mut(0).unwrap().owner = Some("gone".to_owned());
        assert_eq!(record.free().collect::<Vec<_>>(), [0]);
        record.beat("a");
        assert_eq!(
            record.members,
            [Member {
                id: "a".to_owned(),
                beat: 2
            }]
        );
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
