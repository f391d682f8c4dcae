//! Who a device is.

use std::process::Command;

use serde_json::json;
use trunkline::device::Refusal;
use trunkline_testkit::eventually;

use crate::machine::{Machine, mosquitto_pub};
use crate::sample::{SOON, Sample, broker, config, platform};

fn report(machine: &str, status: &str) -> String {
    json!({ "machineId": machine, "status": status }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_speaks_for_another() {
    let broker = broker(&["m1", "m2"]);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    // Without the right password, or any, nobody gets in.
    let wrong = Machine::with_password(&broker, "m1", (5, "ack"), "guessed");
    eventually(SOON, async || !wrong.said("connected").is_empty()).await;
    assert!(wrong.said("connected").iter().all(|it| it["ok"] == false));
    drop(wrong);
    assert!(!mosquitto_pub(
        &broker,
        "m3",
        &["-t", "vending/m3/status", "-m", "x"]
    ));
    // On another's topic the broker does not let a machine speak, nor listen to what another is told.
    mosquitto_pub(
        &broker,
        "m2",
        &["-t", "vending/m1/status", "-m", &report("m1", "forged")],
    );
    mosquitto_pub(
        &broker,
        "m2",
        &["-t", "vending/m1/presence", "-m", "offline"],
    );
    let mut ears = Command::new("mosquitto_sub");
    ears.args([
        "-h",
        "127.0.0.1",
        "-p",
        &broker.port().to_string(),
        "-W",
        "2",
        "-u",
        "m2",
    ]);
    ears.args([
        "-P",
        "secret-m2",
        "-t",
        "vending/+/commands",
        "-t",
        "vending/+/status",
        "-t",
        "$SYS/#",
    ]);
    let heard = std::thread::spawn(move || ears.output().unwrap());
    // On its own topic it is refused where it names another.
    let is_told = async || {
        // As often as it takes: who is not subscribed yet misses it.
        let forged = report("m1", "forged");
        mosquitto_pub(&broker, "m2", &["-t", "vending/m2/status", "-m", &forged]);
        let told = sample.told.lock();
        told.iter()
            .any(|it| it.reason == Refusal::OtherDevice && it.device.as_deref() == Some("m2"))
    };
    eventually(SOON, is_told).await;
    mosquitto_pub(
        &broker,
        "m1",
        &["-t", "vending/m1/status", "-m", &report("m1", "own")],
    );
    sample.send("m1", 1_000).await.unwrap();
    eventually(SOON, async || sample.seen("status", "m1").await == ["own"]).await;
    assert_eq!(sample.seen("presence", "m1").await, [""; 0]);
    assert!(heard.join().unwrap().stdout.is_empty());
    sample.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_its_password_says_so_and_does_not_end() {
    let broker = broker(&[]);
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &broker.url());
    config.devices.password = Some("wrong".to_owned());
    let running = platform(&Default::default()).start(config).await.unwrap();
    let sample = Sample {
        running,
        told: Default::default(),
    };
    let health = sample
        .client()
        .get("/health")
        .send::<serde_json::Value>()
        .await;
    assert!(health.is_err(), "it is not well: {health:?}");
    sample.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_anothers_session() {
    let broker = broker(&["m1", "m2"]);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    let mut own = Machine::start(&broker, "m1", 5, "ack");
    own.connected().await;
    // With its own password, by the name of another's session, as often as it likes.
    for round in 0..5 {
        let status = report("m2", &round.to_string());
        let args = ["-i", "m1", "-t", "vending/m2/status", "-m", &status];
        assert!(mosquitto_pub(&broker, "m2", &args));
    }
    eventually(SOON, async || sample.seen("status", "m2").await.len() == 5).await;
    own.report("still");
    sample.send("m1", 30_000).await.unwrap();
    eventually(SOON, async || sample.seen("settled", "m1").await.len() == 1).await;
    eventually(SOON, async || {
        sample.seen("status", "m1").await == ["still"]
    })
    .await;
    assert_eq!(own.said("connected").len(), 1, "it was thrown out");
    assert_eq!(sample.seen("presence", "m1").await, ["true Said"]);
    sample.running.shutdown().await;
}
