//! What the writer is asked to do besides writing events.

use std::collections::HashMap;
use std::sync::Arc;

use trunkline_bus::TopicSpec;
use trunkline_core::{Error, Result};

use super::Writer;
use crate::catalog::Catalog;
use crate::format::BATCH_HEADER_BYTES;
use crate::group::Group;
use crate::meta::Meta;
use crate::partition::Partition;
use crate::shared::{Control, Directory, Topic};

impl Writer {
    /// Does what was asked, but for the sync. Says whether topics changed.
    pub(super) fn control(&mut self, control: Control) -> Result<bool> {
        match control {
            Control::Flush => Ok(false),
            Control::Declare(specs) => {
                let metas = self.declare(&specs)?;
                self.record(&metas)?;
                Ok(!metas.is_empty())
            }
            Control::Group(name) => {
                if self.catalog.group(&name).is_none() {
                    let id = self.catalog.next_group();
                    self.record(&[Meta::Group {
                        id,
                        name: name.clone(),
                    }])?;
                    let group = Arc::new(Group::new(Some((id, name.clone())), HashMap::new()));
                    self.shared.groups.lock().insert(name, group);
                }
                Ok(false)
            }
            Control::Forget(name) => {
                let Some(id) = self.catalog.group(&name) else {
                    return Ok(false);
                };
                let mut groups = self.shared.groups.lock();
                if groups.get(&name).is_some_and(|group| !group.is_empty()) {
                    return Err(Error::conflict("group_in_use", "the group has members")
                        .with("group", &name));
                }
                let group = groups.remove(&name);
                drop(groups);
                self.record(&[Meta::Forgotten { group: id }])?;
                group.inspect(Group::close);
                Ok(false)
            }
        }
    }

    /// Writes records as a batch of their own.
    pub(super) fn record(&mut self, metas: &[Meta]) -> Result<()> {
        if metas.is_empty() {
            return Ok(());
        }
        let mut frame = vec![0; BATCH_HEADER_BYTES];
        let written = self.append(&mut frame, metas)?;
        self.shared.files.set_end(written.segment, written.end);
        Ok(())
    }

    /// The records that make topics exist that do not.
    fn declare(&self, specs: &[TopicSpec]) -> Result<Vec<Meta>> {
        let mut next_slot = self.catalog.next_slot();
        let mut metas: Vec<Meta> = Vec::new();
        for spec in specs {
            spec.check()?;
            let in_batch = metas.iter().find_map(|meta| match meta {
                Meta::Topic {
                    first_slot,
                    spec: known,
                } if known.name == spec.name => Some((*first_slot, known)),
                _ => None,
            });
            let known = self
                .catalog
                .topic(&spec.name)
                .map(|topic| (topic.first_slot, &topic.spec));
            match in_batch.or(known) {
                Some((_, known)) if known.is_same_topic(spec) => {}
                Some((first_slot, known)) if known.partitions == spec.partitions => {
                    metas.push(Meta::Topic {
                        first_slot,
                        spec: spec.clone(),
                    });
                }
                Some((_, known)) => {
                    let message = "the topic exists with another number of partitions";
                    return Err(Error::conflict("topic_differs", message)
                        .with("topic", &spec.name)
                        .with("partitions", known.partitions));
                }
                None => {
                    metas.push(Meta::Topic {
                        first_slot: next_slot,
                        spec: spec.clone(),
                    });
                    next_slot = next_slot.saturating_add(u32::from(spec.partitions));
                }
            }
        }
        Ok(metas)
    }

    /// Makes declared topics visible.
    pub(super) fn publish_directory(&self) {
        let before = self.shared.directory.read().clone();
        let directory = build_directory(&self.catalog, &before);
        *self.shared.directory.write() = Arc::new(directory);
    }
}

/// The directory of a catalogue; partitions that are known already stay what they are.
pub(crate) fn build_directory(catalog: &Catalog, before: &Directory) -> Directory {
    let mut directory = Directory {
        partitions: before.partitions.clone(),
        ..Directory::default()
    };
    for (index, topic) in catalog.topics.iter().enumerate() {
        let first = topic.first_slot as usize;
        let count = usize::from(topic.spec.partitions);
        while directory.partitions.len() < first + count {
            let slot = u32::try_from(directory.partitions.len()).unwrap_or(u32::MAX);
            let number = u16::try_from(directory.partitions.len() - first).unwrap_or(u16::MAX);
            let (base, end) = catalog
                .slot(slot)
                .map_or((0, 0), |entry| (entry.base, entry.next));
            directory
                .partitions
                .push(Arc::new(Partition::new(slot, number, base, end)));
        }
        let partitions = directory
            .partitions
            .get(first..first + count)
            .unwrap_or_default()
            .to_vec();
        directory.names.insert(topic.spec.name.clone(), index);
        directory.topics.push(Arc::new(Topic {
            index,
            spec: topic.spec.clone(),
            partitions,
        }));
    }
    directory
}
