//! The topics of a platform, and who reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trunkline_bus::{TopicSpec, lane};
use trunkline_core::{ByteString, EventDecl, Priority};

use crate::events::Reaction;
use crate::trail::GROUP;
use crate::{Config, Service};

/// How long events are kept for whoever reads them again.
const RETENTION: Duration = Duration::from_secs(7 * 86_400);
/// All lanes of a topic.
pub(super) const LANES: [Priority; 3] = [Priority::High, Priority::Medium, Priority::Low];

/// The groups of a service: one for events that are handled one by one, one for those that share transactions, one for those that
/// rooms are told of, and one for each saga that events wake.
pub(super) fn groups(service: &str, reactions: &[Reaction]) -> BTreeMap<ByteString, Vec<Reaction>> {
    let mut groups: BTreeMap<ByteString, Vec<Reaction>> = BTreeMap::new();
    for reaction in reactions {
        let group = match (&reaction.saga, reaction.batch_max) {
            _ if reaction.rooms.is_some() => format!("{service}.rooms").into(),
            (Some(saga), _) => format!("{service}.saga.{saga}").into(),
            (None, Some(_)) => format!("{service}.batch").into(),
            (None, None) => ByteString::from(service),
        };
        groups.entry(group).or_default().push(reaction.clone());
    }
    groups
}

/// The topics of a group's events, each with the lanes that these take.
pub(super) fn read_by(reactions: &[Reaction]) -> BTreeMap<&'static str, Vec<Priority>> {
    let mut topics: BTreeMap<&'static str, Vec<Priority>> = BTreeMap::new();
    for decl in reactions.iter().map(|reaction| &reaction.decl) {
        let lanes = topics.entry(decl.topic).or_default();
        if !lanes.contains(&decl.priority) {
            lanes.push(decl.priority);
        }
    }
    topics
}

/// The names of all topics.
pub(super) fn names(events: &[EventDecl]) -> BTreeSet<&'static str> {
    events.iter().map(|decl| decl.topic).collect()
}

/// Every lane of every topic, with the groups that will read it, in this process or another: whoever starts first
/// declares for all, so that nothing is published before its readers are known.
///
/// The processes of a service share the events that rooms are told of only where they have a backbone; without one each reads
/// all of them, and remembers nothing.
pub(super) fn all(services: &[Service], events: &[EventDecl], config: &Config) -> Vec<TopicSpec> {
    let is_kept = |reactions: &[Reaction]| {
        config.realtime.backbone.is_some() || reactions.iter().all(|one| one.rooms.is_none())
    };
    let mut readers: BTreeMap<(&str, Priority), Vec<ByteString>> = BTreeMap::new();
    for service in services {
        let groups = groups(&service.name, &service.reactions).into_iter();
        for (group, reactions) in groups.filter(|(_, reactions)| is_kept(reactions)) {
            for (topic, lanes) in read_by(&reactions) {
                for lane in lanes {
                    readers
                        .entry((topic, lane))
                        .or_default()
                        .push(group.clone());
                }
            }
        }
    }
    let specs = names(events).into_iter().flat_map(|topic| {
        let readers = &mut readers;
        LANES.map(|priority| {
            let mut groups = readers.remove(&(topic, priority)).unwrap_or_default();
            groups.push(ByteString::from_static(GROUP));
            TopicSpec {
                name: lane(topic, priority),
                partitions: config.events.partitions,
                retention: Some(RETENTION),
                retention_bytes: None,
                groups,
            }
        })
    });
    specs.collect()
}
