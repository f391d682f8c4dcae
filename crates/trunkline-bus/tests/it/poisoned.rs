//! A thousand keys of which ten are poisoned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;
use trunkline_bus::{Consumer, Outcome, ReplayRequest};
use trunkline_core::Envelope;
use trunkline_testkit::{Expected, eventually, numbered};

use crate::support::{LIMIT, Rig, busy, config, ids_of, refused};

const KEYS: usize = 1_000;
const EVENTS: usize = 10;

/// Every hundredth key has a poisoned third event.
fn is_poisoned(event: &Envelope) -> bool {
    event.id.ends_with("00/2")
}

#[tokio::test]
async fn poisoned_keys_hold_back_nobody_and_are_whole_after_a_replay() {
    for batch_max in [1, 64] {
        let rig = Rig::new().await;
        let healed = Arc::new(AtomicBool::new(false));
        let well = healed.clone();
        let mut config = config();
        config.batch_max = batch_max;
        let consumer = rig
            .start(config, move |event, _| {
                let fails = is_poisoned(&event) && !well.load(Ordering::Relaxed);
                async move { if fails { refused() } else { Outcome::Done } }
            })
            .await;
        for n in 0..EVENTS {
            let events: Vec<_> = (0..KEYS)
                .map(|key| numbered("t", &format!("k{key:04}"), n))
                .collect();
            rig.publish(&events).await;
        }
        let sound = KEYS * EVENTS - 10 * (EVENTS - 2);
        eventually(LIMIT, async || rig.history.handled("g") == sound).await;
        eventually(LIMIT, async || {
            rig.letters().await.len() == 10 * (EVENTS - 2)
        })
        .await;
        for key in 0..KEYS {
            let name = format!("k{key:04}");
            let upto = if key % 100 == 0 { 2 } else { EVENTS };
            assert_eq!(rig.history.of_key("g", &name), ids_of(&name, 0..upto));
        }
        healed.store(true, Ordering::Relaxed);
        let report = consumer.replay(ReplayRequest::default()).await.unwrap();
        assert_eq!((report.freed, report.replayed), (10, 80));
        rig.history.assert(&Expected::exactly_once(&["g"]));
        assert_eq!(consumer.status().await.unwrap().parked_keys, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn while_poisoned_events_wait_to_be_tried_again_nobody_waits_with_them() {
    let rig = Rig::new().await;
    let began = Instant::now();
    let waited = Arc::new(AtomicBool::new(false));
    let late = waited.clone();
    let worker = rig.worker("g", move |event, _| {
        let fails = is_poisoned(&event);
        // The clock stands until nobody has anything left to do.
        late.fetch_or(!fails && Instant::now() > began, Ordering::Relaxed);
        async move { if fails { busy() } else { Outcome::Done } }
    });
    for n in 0..EVENTS {
        let events: Vec<_> = (0..KEYS)
            .map(|key| numbered("t", &format!("k{key:04}"), n))
            .collect();
        rig.publish(&events).await;
    }
    let config = config();
    let attempts = config.retry.attempts_max as usize;
    let _consumer = Consumer::start(config, rig.ports(worker.clone()))
        .await
        .unwrap();
    let behind = 10 * (EVENTS - 2);
    eventually(LIMIT, async || rig.letters().await.len() == behind).await;
    assert!(!waited.load(Ordering::Relaxed), "a sound event waited");
    let calls = worker.calls.load(Ordering::Relaxed);
    assert_eq!(calls, KEYS * EVENTS - behind + 10 * attempts);
}
