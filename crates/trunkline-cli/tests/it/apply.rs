//! Files of topics and queues, applied to real servers by the command.

use std::process::{Command, Output};

use trunkline_testkit::{kafka, rabbitmq};

/// As the storefront's communication document prints them.
const TOPICS: &str = include_str!("../../../trunkline-kafka/tests/it/storefront-topics.yaml");
const QUEUES: &str = "\
exchanges:
  - name: order.exchange
    type: topic
    durable: true
queues:
  - name: payment.order.queue
    durable: true
    bindings:
      - exchange: order.exchange
        routing_key: order.created
";

fn apply(text: &str, url: &str, more: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    command
        .args(["topology", "apply", "--to", url, "--file"])
        .arg(&file)
        .args(more);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (status.code(), said.concat())
}

#[test]
fn topics_are_made_once_and_conflicts_are_told() {
    let server = kafka::Server::shared();
    let url = format!("{}?prefix=cli.", server.url());
    let one = ["--replication", "1"];
    let (code, said) = apply(TOPICS, &url, &["--replication", "1", "--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("order-events") && said.contains("dry run"),
        "{said}"
    );
    let (code, said) = apply(TOPICS, &url, &one);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("\n0 made"), "{said}");
    let (code, said) = apply(TOPICS, &url, &one);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("\n0 made"),
        "a second run changes nothing: {said}"
    );
    let other = "topics:\n  - name: order-events\n    partitions: 5\n";
    let (code, said) = apply(other, &url, &one);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains('5') && said.contains("stay as they are"),
        "{said}"
    );
}

#[test]
fn queues_are_made_once_and_conflicts_are_told() {
    let url = rabbitmq::Server::shared().url();
    let (code, said) = apply(QUEUES, &url, &["--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("payment.order.queue"), "{said}");
    let (code, said) = apply(QUEUES, &url, &[]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = apply(QUEUES, &url, &[]);
    assert_eq!(code, Some(0), "{said}");
    let other = QUEUES.replace("type: topic", "type: fanout");
    let (code, said) = apply(&other, &url, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("order.exchange"), "{said}");
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let url = "kafka://127.0.0.1:1";
    let (code, said) = apply("topics:\n  - name: a\n    partitons: 3\n", url, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("partitons") && said.contains("line 3"),
        "{said}"
    );
    let (code, said) = apply(TOPICS, "mqtt://localhost", &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("kafka://") && said.contains("amqp://"),
        "{said}"
    );
    let (code, said) = apply(QUEUES, "amqp://127.0.0.1:1", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
}
