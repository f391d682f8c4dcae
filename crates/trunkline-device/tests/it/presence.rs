//! Who is there and who is not.

use trunkline_testkit::eventually;

use crate::machine::Machine;
use crate::sample::{SOON, Sample, broker};

const ON: &str = "true Said";
const OFF: &str = "false Said";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_plug_is_pulled_is_told_offline_once_also_over_restarts() {
    let broker = broker(&["m1"]);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    let mut events = sample.running.events();
    let machine = Machine::start(&broker, "m1", 3, "ack");
    eventually(SOON, async || sample.seen("presence", "m1").await == [ON]).await;
    machine.kill();
    eventually(SOON, async || {
        sample.seen("presence", "m1").await == [ON, OFF]
    })
    .await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = tokio::time::timeout(SOON, events.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(event.event_type, "device.presence_changed");
        told.push(String::from_utf8_lossy(&event.data).contains(r#""online":true"#));
    }
    assert_eq!(told, [true, false]);
    // The broker remembers, and the store does: neither a new gateway nor a new broker tells it again.
    sample.running.shutdown().await;
    let sample = Sample::start(folder.path(), &broker).await;
    let machine = Machine::start(&broker, "m1", 5, "ack");
    eventually(SOON, async || {
        sample.seen("presence", "m1").await == [ON, OFF, ON]
    })
    .await;
    // It goes while nobody listens.
    sample.running.shutdown().await;
    machine.kill();
    let sample = Sample::start(folder.path(), &broker).await;
    eventually(SOON, async || {
        sample.seen("presence", "m1").await == [ON, OFF, ON, OFF]
    })
    .await;
    sample.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_dies_with_its_broker_is_found_out_by_its_silence() {
    let broker = broker(&["m1", "m2"]);
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::sample::config(folder.path(), &broker.url());
    config.devices.silence_max_seconds = 4;
    let told = crate::sample::Told::default();
    let running = crate::sample::platform(&told).start(config).await.unwrap();
    let sample = Sample { running, told };
    let dies = Machine::start(&broker, "m1", 3, "ack");
    let mut lives = Machine::start(&broker, "m2", 3, "ack");
    eventually(SOON, async || sample.seen("presence", "m1").await == [ON]).await;
    eventually(SOON, async || sample.seen("presence", "m2").await == [ON]).await;
    broker.kill();
    dies.kill();
    broker.restart();
    eventually(SOON, async || {
        lives.report("idle");
        sample.seen("presence", "m1").await == [ON, "false Silent"]
    })
    .await;
    assert_eq!(sample.seen("presence", "m2").await.last().unwrap(), ON);
    sample.running.shutdown().await;
}
