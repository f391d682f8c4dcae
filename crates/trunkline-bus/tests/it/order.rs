//! A key is serial; others run side by side; work is bounded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::{Barrier, Notify, Semaphore};
use trunkline_bus::{Consumer, ConsumerConfig, Outcome};
use trunkline_core::Priority;
use trunkline_testkit::{Expected, event, eventually, numbered};

use crate::support::{LIMIT, Rig, config, ids_of};

#[tokio::test]
async fn a_key_is_serial_while_others_go_on() {
    let rig = Rig::new().await;
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let consumer = rig
        .start(config(), move |event, _| {
            let held = held.clone();
            async move {
                if event.id == "slow/0" {
                    held.notified().await;
                }
                Outcome::Done
            }
        })
        .await;
    rig.publish_numbered("slow", 0..5).await;
    for key in 0..20 {
        rig.publish_numbered(&format!("k{key}"), 0..10).await;
    }
    eventually(LIMIT, async || rig.history.handled("g") == 200).await;
    assert!(
        rig.history.of_key("g", "slow").is_empty(),
        "its first event is still being handled"
    );
    gate.notify_one();
    eventually(LIMIT, async || rig.history.handled("g") == 205).await;
    rig.history.assert(&Expected::exactly_once(&["g"]));
    eventually(LIMIT, async || {
        consumer.status().await.unwrap().lag == Some(0)
    })
    .await;
    assert_eq!(consumer.status().await.unwrap().handled, 205);
}

#[tokio::test]
async fn calls_are_bounded() {
    let rig = Rig::new().await;
    let mut config = config();
    config.handlers_max = 3;
    let worker = rig.worker("g", |_, _| async {
        tokio::task::yield_now().await;
        Outcome::Done
    });
    let consumer = Consumer::start(config, rig.ports(worker.clone()))
        .await
        .unwrap();
    for key in 0..50 {
        rig.publish_numbered(&format!("k{key}"), 0..4).await;
    }
    eventually(LIMIT, async || rig.history.handled("g") == 200).await;
    assert_eq!(worker.running_max.load(Ordering::Relaxed), 3);
    rig.history.assert(&Expected::exactly_once(&["g"]));
    drop(consumer);
}

#[tokio::test]
async fn held_deliveries_are_bounded() {
    let rig = Rig::new().await;
    let mut config = config();
    (config.in_flight_max, config.held_max, config.handlers_max) = (8, 4, 2);
    let permits = Arc::new(Semaphore::new(0));
    let gate = permits.clone();
    let consumer = rig
        .start(config, move |_, _| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Outcome::Done
            }
        })
        .await;
    for key in 0..100 {
        rig.publish_numbered(&format!("k{key}"), 0..1).await;
    }
    // Two are being handled; no more than the bound is held, and it stays so when some have ended.
    for ended in [0_u64, 5, 10] {
        eventually(LIMIT, async || {
            let status = consumer.status().await.unwrap();
            status.handled == ended && status.in_flight == 2 && status.queued == 6
        })
        .await;
        permits.add_permits(5);
    }
    permits.add_permits(100);
    eventually(LIMIT, async || rig.history.handled("g") == 100).await;
}

#[tokio::test]
async fn a_batch_holds_several_events_and_keeps_each_keys_order() {
    let rig = Rig::new().await;
    let mut config = config();
    config.batch_max = 16;
    let worker = rig.worker("g", |_, _| async { Outcome::Done });
    for key in 0..8 {
        rig.publish_numbered(&format!("k{key}"), 0..20).await;
    }
    let consumer = Consumer::start(config, rig.ports(worker.clone()))
        .await
        .unwrap();
    eventually(LIMIT, async || rig.history.handled("g") == 160).await;
    rig.history.assert(&Expected::exactly_once(&["g"]));
    assert!(
        worker.calls.load(Ordering::Relaxed) < 80,
        "events come in batches"
    );
    drop(consumer);
}

#[tokio::test]
async fn batches_run_side_by_side_on_different_keys() {
    let rig = Rig::new().await;
    let mut config = config();
    config.batch_max = 4;
    // Both keys must be handled at the same time, or neither gets past the barrier.
    let barrier = Arc::new(Barrier::new(2));
    let meet = barrier.clone();
    rig.publish_numbered("a", 0..4).await;
    rig.publish_numbered("b", 0..4).await;
    let consumer = rig
        .start(config, move |event, _| {
            let meet = meet.clone();
            async move {
                if event.id.ends_with("/0") {
                    meet.wait().await;
                }
                Outcome::Done
            }
        })
        .await;
    eventually(LIMIT, async || rig.history.handled("g") == 8).await;
    rig.history.assert(&Expected::exactly_once(&["g"]));
    drop(consumer);
}

#[tokio::test]
async fn events_without_a_key_run_side_by_side() {
    let rig = Rig::new().await;
    let barrier = Arc::new(Barrier::new(3));
    let meet = barrier.clone();
    let consumer = rig
        .start(config(), move |_, _| {
            let meet = meet.clone();
            async move {
                meet.wait().await;
                Outcome::Done
            }
        })
        .await;
    for id in ["x", "y", "z"] {
        let mut keyless = event("t", "", id, "1");
        keyless.key = None;
        rig.publish(&[keyless]).await;
    }
    eventually(LIMIT, async || rig.history.handled("g") == 3).await;
    drop(consumer);
}

#[tokio::test]
async fn the_handler_sees_the_declared_topic() {
    let rig = Rig::new().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = seen.clone();
    let config = ConsumerConfig::new("g").topic("t", &[Priority::High, Priority::Low]);
    let consumer = rig
        .start(config, move |event, _| {
            into.lock().push(event.topic.to_string());
            async { Outcome::Done }
        })
        .await;
    rig.publish(&[numbered("t.high", "a", 0), numbered("t.low", "b", 0)])
        .await;
    eventually(LIMIT, async || seen.lock().len() == 2).await;
    assert_eq!(*seen.lock(), ["t", "t"]);
    assert_eq!(consumer.status().await.unwrap().topics, ["t.high", "t.low"]);
    assert_eq!(ids_of("a", 0..1), ["a/0"]);
}
