//! What devices report.

use std::process::Stdio;

use serde_json::json;
use trunkline::device::Refusal;
use trunkline_testkit::eventually;

use crate::machine::{Machine, mosquitto_pub};
use crate::sample::{SOON, Sample, broker};

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
