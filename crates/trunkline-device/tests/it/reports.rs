//! What devices report.

use std::process::Stdio;

use serde_json::json;
use trunkline::Env;
use trunkline::device::Refusal;
use trunkline_testkit::eventually;
use trunkline_testkit::mosquitto::Server;

use crate::machine::{Machine, mosquitto_pub};
use crate::sample::{SOON, Sample, broker, broker_with};

/// What is sent at random can be sent again.
const SEED: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_of_both_protocols_reach_their_handlers_and_the_bus_once() {
    let broker = broker(&["m3", "m5", "pub"]);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    let mut events = sample.running.events();
    let mut old = Machine::start(&broker, "m3", 3, "ack");
    let mut new = Machine::start(&broker, "m5", 5, "ack");
    old.report("idle");
    for sale in ["a", "b", "a", "c", "b"] {
        old.sell(&format!("old-{sale}"));
        new.sell(&format!("new-{sale}"));
    }
    let report = json!({ "machineId": "pub", "status": "from mosquitto_pub" }).to_string();
    assert!(mosquitto_pub(
        &broker,
        "pub",
        &["-V", "5", "-t", "vending/pub/status", "-m", &report]
    ));
    eventually(SOON, async || sample.sales().await.len() == 6).await;
    eventually(SOON, async || sample.seen("status", "m3").await == ["idle"]).await;
    eventually(SOON, async || {
        sample.seen("status", "pub").await == ["from mosquitto_pub"]
    })
    .await;
    let sales = sample.sales().await;
    assert!(sales.iter().all(|(_, times)| *times == 1), "{sales:?}");
    let order = sales.iter().map(|(id, _)| id.as_str());
    let of_old: Vec<_> = order.filter(|id| id.starts_with("old")).collect();
    assert_eq!(
        of_old,
        ["old-a", "old-b", "old-c"],
        "in the order of the machine"
    );
    let mut on_bus = 0;
    while on_bus < 6 {
        let event = tokio::time::timeout(SOON, events.recv())
            .await
            .unwrap()
            .unwrap();
        on_bus += usize::from(event.event_type == "vending.sale");
    }
    sample.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_floods_of_one_machine_leave_the_others_alone() {
    let broker = broker(&["bad", "good"]);
    let folder = tempfile::tempdir().unwrap();
    let told = crate::sample::Told::default();
    let mut config = crate::sample::config(folder.path(), &broker.url());
    config.devices.rate_per_second = 5;
    config.devices.burst_max = 50;
    let running = crate::sample::platform(&told).start(config).await.unwrap();
    let sample = Sample { running, told };
    let mut bad = Machine::start(&broker, "bad", 5, "ack");
    for hex in ["", "00", "fffe", "7b", "5b5b5b", "7b2273616c654964223a317d"] {
        bad.publish_hex("vending/bad/sales", hex);
    }
    bad.publish("vending/bad/presence", "perhaps");
    for _ in 0..500 {
        bad.report("flood");
    }
    // Larger than the broker takes: it ends the connection, and the machine comes back with it again and again.
    let huge = "00".repeat(300_000);
    bad.publish_hex("vending/bad/status", &huge);
    let mut good = Machine::start(&broker, "good", 3, "ack");
    for sale in 0..20 {
        good.sell(&format!("good-{sale}"));
    }
    eventually(SOON, async || sample.sales().await.len() == 20).await;
    let flood = sample.seen("status", "bad").await.len();
    assert!(flood < 200, "{flood} of 500 were handled");
    let told = sample.told.lock().clone();
    assert!(
        told.iter().any(|told| told.reason == Refusal::Payload),
        "{told:?}"
    );
    assert!(
        told.iter()
            .all(|told| told.device.as_deref() == Some("bad")),
        "{told:?}"
    );
    sample.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_can_not_be_handled_is_parked_with_those_behind_it_and_no_other() {
    let broker = broker(&["m1", "m2"]);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    let mut one = Machine::start(&broker, "m1", 3, "ack");
    let mut two = Machine::start(&broker, "m2", 3, "ack");
    one.sell_of("p1", "poison");
    one.sell("behind");
    two.sell("other");
    eventually(SOON, async || {
        sample.sales().await == [("other".to_owned(), 1)]
    })
    .await;
    let admin = sample.running.admin_address();
    let url = format!("http://{admin}/api/v1/dead-letters");
    let letters = async || {
        let mut command = std::process::Command::new("curl");
        let output = command
            .args(["-s", &url])
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    eventually(SOON, async || {
        let text = letters().await;
        text.contains("m1/vending.sale/p1") && text.contains("m1/vending.sale/behind")
    })
    .await;
    assert!(!letters().await.contains("m2/"));
    sample.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_bytes_a_machine_sends_the_gateway_goes_on() {
    const MESSAGES: usize = 1_500;
    let broker = broker(&["bad", "good"]);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    let mut bad = Machine::start(&broker, "bad", 3, "silent");
    let env = Env::seeded(SEED);
    let topics = ["sales", "status", "presence", "replies"];
    let report = json!({ "saleId": "s", "machineId": "bad", "status": "x", "commandId": "c" });
    for number in 0..MESSAGES {
        let mut bytes = [0; 200];
        env.random_bytes(&mut bytes);
        let length = usize::from(bytes[0]) % bytes.len();
        // Half is nothing at all, half is a report of which some bytes are others.
        let mut payload = match number % 2 {
            0 => bytes[..length].to_vec(),
            _ => report.to_string().into_bytes(),
        };
        for pair in bytes.chunks(2).take(number % 7) {
            let at = usize::from(pair[0]) % payload.len().max(1);
            if let Some(byte) = payload.get_mut(at) {
                *byte = pair[1];
            }
        }
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        let topic = topics[number % topics.len()];
        bad.publish_hex(&format!("vending/bad/{topic}"), &hex);
    }
    eventually(SOON, async || bad.said("acked").len() >= MESSAGES).await;
    let mut good = Machine::start(&broker, "good", 3, "ack");
    good.sell("after");
    eventually(SOON, async || {
        let sales = sample.sales().await;
        sales.iter().any(|(id, _)| id == "after")
    })
    .await;
    assert_eq!(broker_connections(&broker), 1, "seed {SEED}");
    let told = sample.told.lock().clone();
    assert!(!told.is_empty());
    sample.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_that_is_too_large_for_the_gateway_stays_at_a_broker_that_took_it() {
    let broker = broker_with(&["large", "m1"], "");
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start_linked(folder.path(), &broker).await;
    let mut large = Machine::start(&broker, "large", 5, "ack");
    let mut other = Machine::start(&broker, "m1", 3, "ack");
    let huge = "x".repeat(300_000);
    for round in 0..3 {
        large.report(&huge);
        large.sell(&format!("large-{round}"));
        other.sell(&format!("other-{round}"));
    }
    eventually(SOON, async || sample.sales().await.len() == 6).await;
    assert!(sample.seen("status", "large").await.is_empty());
    assert_eq!(broker_connections(&broker), 1);
    sample.running.shutdown().await;
}

/// How often the gateway has connected, by the broker's log.
fn broker_connections(broker: &Server) -> usize {
    let log = std::fs::read_to_string(broker.folder().join("server.log")).unwrap();
    let came = |line: &&str| line.contains("New client connected") && line.contains(" as gateway ");
    log.lines().filter(came).count()
}
