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
    ids.push(sample.send("elsewhere", 60_000).await.unwrap());
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
    assert!(sample.seen("settled", "elsewhere").await.is_empty());
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_makes_it_come_again_by_the_same_id_and_repeated_answers_end_it_once() {
    let broker = broker(&["m3", "m5"]);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    for (name, version) in [("m3", 3), ("m5", 5)] {
        let machine = Machine::start(&broker, name, version, "lossy");
        machine.connected().await;
        let id = sample.send(name, 60_000).await.unwrap();
        let next = sample.send(name, 60_000).await.unwrap();
        eventually(SOON, async || sample.seen("settled", name).await.len() == 2).await;
        let once = ["set_price Acknowledged"; 2];
        assert_eq!(sample.seen("settled", name).await, once);
        let acted = machine.said("acted");
        let acted: Vec<_> = acted.iter().map(|it| &it["commandId"]).collect();
        assert_eq!(acted, [&id, &next], "each once");
        assert!(machine.said("command").len() >= 4, "each came again");
        for id in [id, next] {
            let got: Option<Outcome> = sample.get(&format!("/commands/{id}")).await;
            assert_eq!(got, Some(Outcome::Acknowledged));
        }
    }
    sample.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_dies_with_a_command_gets_it_again_and_it_ends_once() {
    let broker = broker(&["m1"]);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    let dies = Machine::start(&broker, "m1", 3, "silent");
    dies.connected().await;
    let id = sample.send("m1", 600_000).await.unwrap();
    eventually(SOON, async || !dies.said("command").is_empty()).await;
    dies.kill();
    // Its session has what came meanwhile, and the gateway sends it again too.
    let comes = Machine::start(&broker, "m1", 3, "ack");
    eventually(SOON, async || {
        sample.seen("settled", "m1").await == ["set_price Acknowledged"]
    })
    .await;
    let last = sample.send("m1", 600_000).await.unwrap();
    eventually(SOON, async || {
        sample.seen("settled", "m1").await == ["set_price Acknowledged"; 2]
    })
    .await;
    let commands = comes.said("command");
    let known = |it: &serde_json::Value| it["commandId"] == id || it["commandId"] == last;
    assert!(commands.iter().all(known), "{commands:?}");
    sample.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_not_told_to_a_machine_that_comes_back_to_its_session() {
    let broker = broker(&["m1"]);
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::sample::config(folder.path(), &broker.url());
    // It is not known to be gone: the broker keeps for it what is sent.
    config.devices.offline_after_ms = 600_000;
    let told = crate::sample::Told::default();
    let running = crate::sample::platform(&told).start(config).await.unwrap();
    let sample = Sample { running, told };
    let gone = Machine::start(&broker, "m1", 3, "ack");
    gone.connected().await;
    eventually(SOON, async || {
        sample.seen("presence", "m1").await.len() == 1
    })
    .await;
    gone.kill();
    let first = sample.send("m1", 1_000).await.unwrap();
    eventually(SOON, async || {
        sample.seen("settled", "m1").await == ["set_price Expired"]
    })
    .await;
    // The broker counts whole seconds, rounded up: they pass while another one waits.
    let second = sample.send("m1", 3_000).await.unwrap();
    eventually(SOON, async || {
        sample.seen("settled", "m1").await == ["set_price Expired"; 2]
    })
    .await;
    let comes = Machine::start(&broker, "m1", 3, "ack");
    let third = sample.send("m1", 60_000).await.unwrap();
    eventually(SOON, async || sample.seen("settled", "m1").await.len() == 3).await;
    assert_eq!(
        sample.seen("settled", "m1").await[2],
        "set_price Acknowledged"
    );
    let commands = comes.said("command");
    assert!(commands.iter().all(|it| it["commandId"] != first));
    assert!(commands.iter().any(|it| it["commandId"] == third));
    let _ = second;
    sample.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_stands_for_many_gets_no_command() {
    let broker = broker(&[]);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    for name in ["%2B", "%23", "%24SYS", "m1%2Fstatus", "m%201"] {
        let refused = sample.send(name, 1_000).await.unwrap_err();
        assert_eq!(refused.code(), "device_name_invalid", "{name}");
    }
    sample.running.shutdown().await;
}
