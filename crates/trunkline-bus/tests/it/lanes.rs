//! High never waits behind low, and low is not starved.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use trunkline_bus::{Bus, ConsumerConfig, Outcome};
use trunkline_core::{Envelope, Priority};
use trunkline_testkit::{Expected, eventually, numbered};

use crate::support::{LIMIT, Rig, refused};

const ALL: [Priority; 3] = [Priority::High, Priority::Medium, Priority::Low];

fn config(handlers_max: usize) -> ConsumerConfig {
    let mut config = ConsumerConfig::new("g").topic("t", &ALL);
    config.handlers_max = handlers_max;
    config
}

fn flood(lane: &str, count: usize) -> Vec<Envelope> {
    (0..count)
        .map(|n| numbered(lane, &format!("{lane}-{n}"), 0))
        .collect()
}

#[tokio::test]
async fn high_has_a_slot_when_low_and_medium_take_all_they_can() {
    for handlers_max in [1, 3, 4, 16] {
        let rig = Rig::new().await;
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let consumer = rig
            .start(config(handlers_max), move |event, _| {
                let held = held.clone();
                async move {
                    if !event.key.as_deref().unwrap().contains("high") {
                        held.acquire().await.unwrap().forget();
                    }
                    Outcome::Done
                }
            })
            .await;
        rig.publish(&flood("t.low", 200)).await;
        rig.publish(&flood("t", 200)).await;
        // All slots that low and medium may have are taken, and none of their handlers ends.
        let taken = handlers_max.max(3) - 1.max(handlers_max / 8);
        eventually(LIMIT, async || {
            consumer.status().await.unwrap().in_flight == taken
        })
        .await;
        rig.publish(&flood("t.high", 50)).await;
        eventually(LIMIT, async || rig.history.handled("g") == 50).await;
        gate.add_permits(400);
        eventually(LIMIT, async || rig.history.handled("g") == 450).await;
        rig.history.assert(&Expected::exactly_once(&["g"]));
    }
}

#[tokio::test]
async fn low_gets_at_least_one_turn_in_sixteen() {
    for handlers_max in [1, 4, 16] {
        let rig = Rig::new().await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let into = order.clone();
        let consumer = rig
            .start(config(handlers_max), move |event, _| {
                into.lock()
                    .push(event.key.as_deref().unwrap().contains("low"));
                async { Outcome::Done }
            })
            .await;
        consumer.pause().await.unwrap();
        rig.publish(&flood("t.high", 800)).await;
        rig.publish(&flood("t.low", 60)).await;
        consumer.resume().await.unwrap();
        eventually(LIMIT, async || order.lock().len() == 860).await;
        let order = order.lock();
        let first = order.iter().position(|low| *low).unwrap();
        assert!(first < 100, "low began only after {first}");
        // While both lanes have something to do, each sixteen starts have one of low. Starts that run at
        // the same time may swap their places in the record.
        let both = &order[first..700];
        let fewest = both
            .windows(16 + handlers_max.max(3))
            .map(|w| w.iter().filter(|l| **l).count());
        assert!(
            fewest.min().unwrap() >= 1,
            "low was starved with {handlers_max} handlers"
        );
        let low = both.iter().filter(|low| **low).count();
        assert!(
            low < both.len() / 8,
            "high was held back: {low} of {}",
            both.len()
        );
        drop(consumer);
    }
}

#[tokio::test]
async fn a_consumer_of_one_lane_reads_only_that() {
    let rig = Rig::new().await;
    let only_low = ConsumerConfig::new("g").topic("t", &[Priority::Low]);
    let consumer = rig.start(only_low, |_, _| async { Outcome::Done }).await;
    rig.transport.publish(&flood("t.high", 1)).await.unwrap();
    rig.publish(&flood("t.low", 3)).await;
    eventually(LIMIT, async || rig.history.handled("g") == 3).await;
    rig.history.assert(&Expected::exactly_once(&["g"]));
    assert_eq!(consumer.status().await.unwrap().topics, ["t.low"]);
}

#[tokio::test]
async fn the_bus_publishes_each_event_on_the_lane_of_its_priority() {
    let rig = Rig::new().await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let into = order.clone();
    let config = ConsumerConfig::new("g").topic("t", &[Priority::High]);
    let consumer = rig
        .start(config, move |event, _| {
            into.lock().push(event.id.to_string());
            async { Outcome::Done }
        })
        .await;
    let events = ALL.map(|priority| Envelope {
        priority,
        ..numbered("t", &format!("{priority:?}"), 0)
    });
    Bus::new(rig.transport.clone())
        .publish(&events)
        .await
        .unwrap();
    Bus::new(rig.transport.clone())
        .publish(&events[1..2])
        .await
        .unwrap();
    eventually(LIMIT, async || order.lock().len() == 1).await;
    assert_eq!(*order.lock(), ["High/0"]);
    assert_eq!(consumer.status().await.unwrap().lag, Some(0));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_while_another_lane_parks_its_key_comes_before_those_behind_it() {
    let rig = Rig::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let consumer = rig
        .start(config(8), move |event, _| {
            let held = held.clone();
            async move {
                if event.id == "m0" {
                    held.acquire().await.unwrap().forget();
                }
                refused()
            }
        })
        .await;
    let event = |lane: &str, id: &str| trunkline_testkit::event(lane, "k", id, "1");
    rig.transport.publish(&[event("t", "m0")]).await.unwrap();
    eventually(LIMIT, async || {
        consumer.status().await.unwrap().in_flight == 1
    })
    .await;
    rig.transport
        .publish(&[event("t.high", "h0")])
        .await
        .unwrap();
    eventually(LIMIT, async || rig.letters().await.len() == 1).await;
    rig.transport.publish(&[event("t", "m1")]).await.unwrap();
    eventually(LIMIT, async || consumer.status().await.unwrap().queued == 1).await;
    gate.add_permits(1);
    eventually(LIMIT, async || rig.letters().await.len() == 3).await;
    assert_eq!(rig.letter_ids().await, ["h0", "m0", "m1"]);
}
