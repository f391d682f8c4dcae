//! What the journal says of itself: topics, slots, groups and their positions, segments.
//!
//! The writer owns it; recovery builds it again from the snapshot at the head of the last segment and
//! the records that follow.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use trunkline_bus::TopicSpec;

use crate::meta::Meta;

/// A partition of a topic, numbered through all topics.
pub(crate) type Slot = u32;
pub(crate) type GroupId = u32;

#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    pub(crate) topics: Vec<TopicEntry>,
    pub(crate) slots: Vec<SlotEntry>,
    pub(crate) groups: BTreeMap<GroupId, ByteString>,
    pub(crate) positions: BTreeMap<(GroupId, Slot), u64>,
    pub(crate) live: BTreeSet<u32>,
    pub(crate) holes: BTreeSet<(Slot, u64, u64)>,
    group_ids: GroupId,
}

#[derive(Debug, Clone)]
pub(crate) struct TopicEntry {
    pub(crate) first_slot: Slot,
    pub(crate) spec: TopicSpec,
}

/// What a slot holds: from `base` to below `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotEntry {
    pub(crate) topic: u32,
    pub(crate) base: u64,
    pub(crate) next: u64,
}

/// More than this is no catalogue but an attack on the memory.
const SLOTS_MAX: usize = 1 << 22;

impl Catalog {
    pub(crate) fn slot(&self, slot: Slot) -> Option<&SlotEntry> {
        self.slots.get(slot as usize)
    }

    fn slot_mut(&mut self, slot: Slot) -> Option<&mut SlotEntry> {
        self.slots.get_mut(slot as usize)
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&TopicEntry> {
        self.topics.iter().find(|topic| topic.spec.name == name)
    }

    pub(crate) fn group(&self, name: &str) -> Option<GroupId> {
        self.groups
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(id, _)| *id)
    }

    /// The id for the next new group. Ids are never used again.
    pub(crate) fn next_group(&self) -> GroupId {
        self.group_ids
    }

    pub(crate) fn next_slot(&self) -> Slot {
        Slot::try_from(self.slots.len()).unwrap_or(Slot::MAX)
    }

    /// Takes a record in; says what is wrong with one that can't be true.
    pub(crate) fn apply(&mut self, meta: &Meta) -> Result<(), &'static str> {
        match meta {
            Meta::Place { slot, base, count } => {
                let entry = self
                    .slot_mut(*slot)
                    .ok_or("events of an unknown partition")?;
                if entry.next != *base {
                    return Err("the offsets of a partition do not follow one another");
                }
                let next = base.checked_add(u64::from(*count));
                entry.next = next.ok_or("an offset beyond all bounds")?;
            }
            Meta::Topic { first_slot, spec } => self.apply_topic(*first_slot, spec)?,
            Meta::Group { id, name } => {
                self.groups.insert(*id, name.clone());
                self.group_ids = self.group_ids.max(id.saturating_add(1));
            }
            Meta::Position {
                group,
                slot,
                offset,
            } => {
                if !self.groups.contains_key(group) || self.slot(*slot).is_none() {
                    return Err("a position of an unknown group or partition");
                }
                self.positions.insert((*group, *slot), *offset);
            }
            Meta::Bounds { slot, base, next } => {
                let entry = self
                    .slot_mut(*slot)
                    .ok_or("bounds of an unknown partition")?;
                if base > next || entry.next > *next {
                    return Err("the bounds of a partition contradict its events");
                }
                (entry.base, entry.next) = (*base, *next);
            }
            Meta::Live { segment } => {
                self.live.insert(*segment);
            }
            Meta::Retired { segment } => {
                self.live.remove(segment);
            }
            Meta::Forgotten { group } => {
                self.groups.remove(group);
                self.positions.retain(|(known, _), _| known != group);
            }
            Meta::Hole { slot, from, to } => {
                self.holes.insert((*slot, *from, *to));
            }
        }
        Ok(())
    }

    fn apply_topic(&mut self, first_slot: Slot, spec: &TopicSpec) -> Result<(), &'static str> {
        if let Some(known) = self
            .topics
            .iter_mut()
            .find(|topic| topic.spec.name == spec.name)
        {
            if known.first_slot != first_slot || known.spec.partitions != spec.partitions {
                return Err("a topic changed its partitions");
            }
            known.spec = spec.clone();
            return Ok(());
        }
        if first_slot != self.next_slot() || self.slots.len() > SLOTS_MAX {
            return Err("the partitions of a topic do not follow the ones before");
        }
        let topic = u32::try_from(self.topics.len()).map_err(|_| "too many topics")?;
        self.topics.push(TopicEntry {
            first_slot,
            spec: spec.clone(),
        });
        let slots = (0..spec.partitions).map(|_| SlotEntry {
            topic,
            base: 0,
            next: 0,
        });
        self.slots.extend(slots);
        Ok(())
    }

    /// The records that build this catalogue again, for the head of a segment.
    pub(crate) fn snapshot(&self, into: &mut Vec<u8>) {
        for topic in &self.topics {
            Meta::Topic {
                first_slot: topic.first_slot,
                spec: topic.spec.clone(),
            }
            .encode(into);
        }
        for (slot, entry) in (0..).zip(&self.slots) {
            if entry.next > 0 {
                Meta::Bounds {
                    slot,
                    base: entry.base,
                    next: entry.next,
                }
                .encode(into);
            }
        }
        for (id, name) in &self.groups {
            Meta::Group {
                id: *id,
                name: name.clone(),
            }
            .encode(into);
        }
        for ((group, slot), offset) in &self.positions {
            Meta::Position {
                group: *group,
                slot: *slot,
                offset: *offset,
            }
            .encode(into);
        }
        for segment in &self.live {
            Meta::Live { segment: *segment }.encode(into);
        }
        for (slot, from, to) in &self.holes {
            if self.slot(*slot).is_some_and(|entry| entry.base < *to) {
                Meta::Hole {
                    slot: *slot,
                    from: *from,
                    to: *to,
                }
                .encode(into);
            }
        }
    }

    /// The lowest offset of a slot that some durable group has not done; its end if there is none.
    pub(crate) fn floor(&self, slot: Slot) -> u64 {
        let next = self.slot(slot).map_or(0, |entry| entry.next);
        let positions = self
            .groups
            .keys()
            .filter_map(|id| self.positions.get(&(*id, slot)));
        positions.min().copied().unwrap_or(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Metas;

    fn topic(name: &'static str, partitions: u16) -> TopicSpec {
        TopicSpec {
            name: ByteString::from_static(name),
            partitions,
            retention: None,
            retention_bytes: None,
            groups: Vec::new(),
        }
    }

    #[test]
    fn a_snapshot_builds_the_same_catalogue() {
        let mut catalog = Catalog::default();
        for meta in [
            Meta::Topic {
                first_slot: 0,
                spec: topic("a", 2),
            },
            Meta::Topic {
                first_slot: 2,
                spec: topic("b", 1),
            },
            Meta::Place {
                slot: 2,
                base: 0,
                count: 7,
            },
            Meta::Group {
                id: 0,
                name: "g".into(),
            },
            Meta::Position {
                group: 0,
                slot: 2,
                offset: 5,
            },
            Meta::Live { segment: 1 },
        ] {
            catalog.apply(&meta).unwrap();
        }
        assert_eq!(catalog.floor(2), 5);
        assert_eq!(catalog.floor(0), 0);
        let mut bytes = Vec::new();
        catalog.snapshot(&mut bytes);
        let mut again = Catalog::default();
        for meta in Metas::new(&bytes) {
            again.apply(&meta.unwrap()).unwrap();
        }
        assert_eq!(format!("{catalog:?}"), format!("{again:?}"));
    }

    #[test]
    fn what_cannot_be_true_is_refused() {
        let mut catalog = Catalog::default();
        catalog
            .apply(&Meta::Topic {
                first_slot: 0,
                spec: topic("a", 1),
            })
            .unwrap();
        for meta in [
            Meta::Place {
                slot: 0,
                base: 1,
                count: 1,
            },
            Meta::Place {
                slot: 1,
                base: 0,
                count: 1,
            },
            Meta::Position {
                group: 9,
                slot: 0,
                offset: 0,
            },
            Meta::Topic {
                first_slot: 0,
                spec: topic("b", 1),
            },
            Meta::Topic {
                first_slot: 0,
                spec: topic("a", 2),
            },
            Meta::Bounds {
                slot: 0,
                base: 2,
                next: 1,
            },
        ] {
            assert!(catalog.apply(&meta).is_err(), "{meta:?}");
        }
    }
}
