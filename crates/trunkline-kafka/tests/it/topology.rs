//! Topics from a file, on a cluster of one broker.

use trunkline_core::ErrorKind;
use trunkline_kafka::topology::{Options, Outcome, apply, plan, read};

use crate::support::{open, prefix};

const STOREFRONT: &str = include_str!("storefront-topics.yaml");

#[tokio::test]
async fn a_second_run_changes_nothing_and_a_conflict_is_left_as_it_is() {
    let prefix = prefix();
    let kafka = open(&prefix, "").await;
    let topology = read(STOREFRONT).unwrap();
    // The file wants three brokers; there is one.
    let impossible = plan(&kafka, &topology, &Options::default()).await.unwrap();
    assert_eq!((impossible.to_make(), impossible.refused()), (0, 4));
    let told = impossible.to_string();
    let line = format!(
        "! topic {prefix}order-events (line 3): expected 3 brokers to keep it; the cluster has 1 broker"
    );
    assert!(told.contains(&line), "{told}");
    assert!(told.contains("--replication"), "{told}");
    assert_eq!(apply(&kafka, &impossible).await.unwrap(), 0);

    let options = Options {
        replication: Some(1),
    };
    let first = plan(&kafka, &topology, &options).await.unwrap();
    let told = first.to_string();
    let line = format!(
        "+ topic {prefix}notification-events: 3 partitions, replication 1, retention.ms 86400000"
    );
    assert!(told.contains(&line), "{told}");
    let note = "group search-service-group reads product-events, which the file does not declare; \
                the cluster does not have it either";
    assert!(told.contains(note), "{told}");
    assert!(
        told.ends_with("4 to make, 0 as declared, 0 refused"),
        "{told}"
    );
    // A plan alone makes nothing.
    let dry = plan(&kafka, &topology, &options).await.unwrap();
    assert_eq!(dry, first);
    assert_eq!(apply(&kafka, &first).await.unwrap(), 4);

    let second = plan(&kafka, &topology, &options).await.unwrap();
    assert!(
        second
            .steps
            .iter()
            .all(|step| step.outcome == Outcome::Exists),
        "{second}"
    );
    assert_eq!(apply(&kafka, &second).await.unwrap(), 0);
    // Applied late, the first plan finds them made, and changes nothing either.
    assert_eq!(apply(&kafka, &first).await.unwrap(), 0);

    let other = STOREFRONT.replace("partitions: 3", "partitions: 5");
    let other = read(&other.replace("retention_ms: 2592000000", "retention_ms: 1000")).unwrap();
    let conflict = plan(&kafka, &other, &options).await.unwrap();
    assert_eq!((conflict.to_make(), conflict.refused()), (0, 2));
    let told = conflict.to_string();
    let line = "expected 5 partitions, replication 1, retention.ms 86400000; \
                found 3 partitions, replication 1, retention.ms 86400000; left as it is";
    assert!(told.contains(line), "{told}");
    assert_eq!(apply(&kafka, &conflict).await.unwrap(), 0);
    let third = plan(&kafka, &topology, &options).await.unwrap();
    assert_eq!(third, second, "nothing was overwritten");
}

#[tokio::test]
async fn a_topic_that_somebody_else_made_meanwhile_is_a_conflict() {
    let kafka = open(&prefix(), "").await;
    let ours = read("topics: [{name: t, partitions: 2}]").unwrap();
    let theirs = read("topics: [{name: t, partitions: 3}]").unwrap();
    let ours = plan(&kafka, &ours, &Options::default()).await.unwrap();
    let theirs = plan(&kafka, &theirs, &Options::default()).await.unwrap();
    assert_eq!(apply(&kafka, &theirs).await.unwrap(), 1);
    let error = apply(&kafka, &ours).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let text = error.to_string();
    assert!(
        text.contains("expected: 2 partitions, found: 3 partitions"),
        "{text}"
    );
}
