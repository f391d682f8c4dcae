//! What devices are told to do.

use trunkline::device::Outcome;
use trunkline_testkit::eventually;

use crate::machine::{Machine, mosquitto_pub};
use crate::sample::{SOON, Sample, broker};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_acknowledged_refused_or_expire_and_each_is_told_once() {
    let broker = broker(&["acks", "refuses", "silent"]);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    let acks = Machine::start(&broker, "acks", 5, "ack");
    let refuses = Machine::start(&broker, "refuses", 3, "refuse");
    let silent = Machine::start(&broker, "silent", 3, "silent");
    for machine in [&acks, &refuses, &silent] {
        machine.connected().await;
    }
    let mut ids = Vec::new();
    for machine in ["acks", "refuses", "silent"] {
        ids.push(sample.send(machine, 3_000).await.unwrap());
    }
    let wanted = [Outcome::Acknowledged, Outcome::Refused, Outcome::Expired];
    for (id, wanted) in ids.iter().zip(wanted) {
        let got: Option<Outcome> = sample.get(&format!("/commands/{id}")).await;
        assert_eq!(got, Some(wanted));
    }
    for (machine, word) in [
        ("acks", "set_price Acknowledged"),
        ("refuses", "set_price Refused"),
        ("silent", "set_price Expired"),
    ] {
        assert_eq!(sample.seen("settled", machine).await, [word]);
    }
    let again = silent.said("command");
    assert!(again.len() >= 2, "it was asked again");
    assert!(
        again
            .iter()
            .all(|it| it["commandId"] == *ids[2] && it["data"]["cents"] == 250)
    );
    // An answer that is late, and one to another's command, change nothing.
    for id in &ids {
        let reply = format!(r#"{{"commandId":"{id}","status":"acknowledged"}}"#);
        assert!(mosquitto_pub(
            &broker,
            "silent",
            &["-t", "vending/silent/replies", "-m", &reply]
        ));
    }
    let sale = r#"{"machineId":"silent","status":"after"}"#;
    assert!(mosquitto_pub(
        &broker,
        "silent",
        &["-t", "vending/silent/status", "-m", sale]
    ));
    eventually(SOON, async || {
        sample.seen("status", "silent").await == ["after"]
    })
    .await;
    assert_eq!(
        sample.seen("settled", "silent").await,
        ["set_price Expired"]
    );
    assert_eq!(
        sample.seen("settled", "refuses").await,
        ["set_price Refused"]
    );
    sample.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_to_one_that_is_away_wait_in_a_bounded_queue_and_outlive_the_gateway() {
    let broker = broker(&["m1"]);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    let machine = Machine::start(&broker, "m1", 3, "ack");
    eventually(SOON, async || {
        sample.seen("presence", "m1").await.len() == 1
    })
    .await;
    machine.kill();
    eventually(SOON, async || {
        sample.seen("presence", "m1").await.len() == 2
    })
    .await;
    let mut ids = Vec::new();
    for _ in 0..64 {
        ids.push(sample.send("m1", 600_000).await.unwrap());
    }
    let full = sample.send("m1", 600_000).await.unwrap_err();
    assert_eq!(full.code(), "device_queue_full");
    sample.running.shutdown().await;
    let sample = Sample::start(folder.path(), &broker).await;
    let machine = Machine::start(&broker, "m1", 5, "ack");
    eventually(SOON, async || {
        sample.seen("settled", "m1").await.len() == 64
    })
    .await;
    let commands = machine.said("command");
    let order: Vec<_> = commands
        .iter()
        .map(|it| it["commandId"].as_str().unwrap())
        .collect();
    assert_eq!(order, ids, "each once and in order");
    sample.running.shutdown().await;
}
