//! Priority lanes: where an event of a topic travels, by its priority.

use bytestring::ByteString;
use trunkline_core::Priority;

use crate::TopicSpec;

/// All priorities, the most urgent first.
pub(crate) const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Medium, Priority::Low];

/// The name on the transport of `topic`'s lane for `priority`: the topic itself for medium,
/// `{topic}.high` and `{topic}.low` for the others.
///
/// # Guarantees
/// Order per key holds within a lane, not between lanes.
pub fn lane(topic: &str, priority: Priority) -> ByteString {
    match priority {
        Priority::Low => format!("{topic}.low").into(),
        Priority::Medium => topic.into(),
        Priority::High => format!("{topic}.high").into(),
    }
}

/// The topic that a lane belongs to.
pub(crate) fn base(lane: &str) -> &str {
    let urgent = lane.strip_suffix(".high");
    let either = urgent.or_else(|| lane.strip_suffix(".low"));
    either.unwrap_or(lane)
}

/// A topic's three lanes, each of the topic's own shape: what a platform declares for it.
pub fn lanes(topic: &TopicSpec) -> Vec<TopicSpec> {
    PRIORITIES
        .iter()
        .map(|priority| TopicSpec {
            name: lane(&topic.name, *priority),
            ..topic.clone()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medium_travels_on_the_topic_itself() {
        assert_eq!(lane("orders", Priority::Medium), "orders");
        assert_eq!(lane("orders", Priority::High), "orders.high");
        assert_eq!(lane("orders", Priority::Low), "orders.low");
    }

    #[test]
    fn a_topic_has_three_lanes_of_its_own_shape() {
        let topic = TopicSpec {
            name: "orders".into(),
            partitions: 7,
            retention: None,
            retention_bytes: None,
            groups: Vec::new(),
        };
        let all = lanes(&topic);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|lane| lane.partitions == 7));
    }
}
