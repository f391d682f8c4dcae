use super::*;

/// The storefront's file, as it stands.
const STOREFRONT: &str = include_str!("../../tests/it/storefront-topics.yaml");

#[test]
fn the_storefronts_file_is_read_as_it_stands() {
    let topology = read(STOREFRONT).unwrap();
    let told: Vec<_> = topology
        .topics
        .iter()
        .map(|topic| {
            (
                &*topic.name,
                topic.partitions,
                topic.replication,
                topic.retention_ms,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("order-events", 6, Some(3), Some(604_800_000)),
            ("payment-events", 6, Some(3), Some(2_592_000_000)),
            ("inventory-events", 6, Some(3), Some(604_800_000)),
            ("notification-events", 3, Some(3), Some(86_400_000)),
        ]
    );
    let group = &topology.groups[1];
    assert_eq!(group.name, "notification-service-group");
    assert_eq!(
        group.topics,
        ["order-events", "payment-events", "inventory-events"]
    );
    assert_eq!(topology.groups.len(), 3);
}

#[test]
fn all_mistakes_are_told_at_once_with_their_lines() {
    let text = "\
topics:
  - name: a
    partitons: 6
    partitions: 0
  - partitions: many
    name: not a name
  - just a text
  - name: a
    partitions: 1
    retention_ms: 1.5
    replication_factor: 99999
  - name: b
consumer_groups:
  name: g
queues: []
";
    let error = read(text).unwrap_err();
    assert_eq!(error.code(), "topology_invalid");
    let told: Vec<&str> = error.message().lines().collect();
    let expected = [
        (3, "unknown field \"partitons\" in a topic"),
        (
            4,
            "partitions: expected a whole number from 1 to 65535, found 0",
        ),
        (
            5,
            "partitions: expected a whole number from 1 to 65535, found \"many\"",
        ),
        (7, "a topic: expected a mapping"),
        (10, "retention_ms: expected a whole number"),
        (12, "a topic has no field `partitions`"),
        (14, "consumer_groups: expected a list, found a mapping"),
        (15, "unknown field \"queues\" in the file"),
    ];
    for (line, text) in expected {
        let begins = format!("line {line}: {text}");
        assert!(
            told.iter().any(|told| told.starts_with(&begins)),
            "{begins}\n{told:#?}"
        );
    }
    let error = read("topics:\n  - {name: a, partitions: 1}\n  - {name: a, partitions: 1}\n");
    assert_eq!(
        error.unwrap_err().message(),
        "line 3: topic \"a\" is declared twice"
    );
    assert!(
        read("")
            .unwrap_err()
            .message()
            .contains("a mapping with topics")
    );
    assert!(read("topics: [").is_err());
    assert_eq!(read("topics: []").unwrap(), Topology::default());
}
