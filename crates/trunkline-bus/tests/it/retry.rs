//! What fails is tried again; only its key waits.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use trunkline_bus::{Outcome, RetryPolicy};
use trunkline_core::Error;
use trunkline_testkit::{Expected, eventually};

use crate::support::{LIMIT, Rig, busy, config, ids_of, refused};

#[tokio::test(start_paused = true)]
async fn a_failed_event_is_tried_again_with_growing_pauses_and_keeps_its_place() {
    let rig = Rig::new().await;
    let mut config = config();
    config.retry = RetryPolicy {
        jitter: false,
        ..RetryPolicy::default()
    };
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let into = attempts.clone();
    let consumer = rig
        .start(config, move |event, attempt| {
            let into = into.clone();
            async move {
                if event.id != "k/0" {
                    return Outcome::Done;
                }
                into.lock().push((attempt, Instant::now()));
                if attempt < 3 { busy() } else { Outcome::Done }
            }
        })
        .await;
    rig.publish_numbered("k", 0..3).await;
    rig.publish_numbered("other", 0..3).await;
    eventually(Duration::from_millis(500), async || {
        rig.history.of_key("g", "other") == ids_of("other", 0..3)
    })
    .await;
    assert_eq!(consumer.status().await.unwrap().retrying_keys, 1);
    assert!(rig.history.of_key("g", "k").is_empty(), "its key waits");
    eventually(LIMIT, async || rig.history.handled("g") == 6).await;
    assert_eq!(rig.history.of_key("g", "k"), ids_of("k", 0..3));
    let attempts = attempts.lock().clone();
    let numbers: Vec<u32> = attempts.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let pauses = attempts
        .windows(2)
        .map(|pair| (pair[1].1 - pair[0].1).as_secs_f64().round());
    assert_eq!(pauses.collect::<Vec<_>>(), [1.0, 2.0]);
    assert!(rig.letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_not_the_events_fault_never_parks_it() {
    let rig = Rig::new().await;
    let mut config = config();
    config.blameless = |error| error.code() == "store_away";
    let consumer = rig
        .start(config, |_, attempt| async move {
            match attempt {
                1..10 => Outcome::Failed(Error::unavailable("store_away", "the store is away")),
                _ => Outcome::Done,
            }
        })
        .await;
    rig.publish_numbered("k", 0..2).await;
    eventually(LIMIT, async || rig.history.handled("g") == 2).await;
    assert_eq!(rig.history.of_key("g", "k"), ids_of("k", 0..2));
    assert_eq!(consumer.status().await.unwrap().failed, 18);
    assert!(rig.letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_parks_at_once() {
    let rig = Rig::new().await;
    let began = Instant::now();
    let consumer = rig.start(config(), |_, _| async { refused() }).await;
    rig.publish_numbered("k", 0..1).await;
    eventually(LIMIT, async || rig.letters().await.len() == 1).await;
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "there was nothing to wait for"
    );
    let letter = &rig.letters().await[0];
    assert_eq!((letter.attempts, letter.replays), (1, 0));
    assert_eq!(letter.code.as_deref(), Some("poisoned"));
    assert_eq!(letter.key, "k");
    assert!(
        letter
            .error
            .as_deref()
            .unwrap()
            .contains("the event is poisoned")
    );
    assert_eq!(consumer.status().await.unwrap().parked_keys, 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_too_often_is_parked() {
    let rig = Rig::new().await;
    let consumer = rig.start(config(), |_, _| async { busy() }).await;
    rig.publish_numbered("k", 0..2).await;
    eventually(LIMIT, async || rig.letters().await.len() == 2).await;
    let letters = rig.letters().await;
    assert_eq!(letters[0].attempts, 3);
    assert_eq!(letters[0].code.as_deref(), Some("busy"));
    assert!(letters[0].failed_at.is_some());
    assert_eq!(letters[1].attempts, 0, "the second was never tried");
    assert_eq!(letters[1].error, None);
    eventually(LIMIT, async || {
        consumer.status().await.unwrap().lag == Some(0)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_hanging_handler_become_letters() {
    let rig = Rig::new().await;
    let consumer = rig
        .start(config(), |event, _| async move {
            match event.key.as_deref() {
                Some("panics") => panic!("I can't"),
                Some("hangs") => std::future::pending().await,
                _ => Outcome::Done,
            }
        })
        .await;
    rig.publish_numbered("panics", 0..1).await;
    rig.publish_numbered("hangs", 0..1).await;
    rig.publish_numbered("works", 0..1).await;
    eventually(Duration::from_secs(300), async || {
        rig.letters().await.len() == 2
    })
    .await;
    let letters = rig.letters().await;
    let of = |key: &str| letters.iter().find(|letter| letter.key == key).unwrap();
    assert_eq!(of("panics").code.as_deref(), Some("internal"));
    assert!(of("panics").error.as_deref().unwrap().contains("I can't"));
    assert_eq!(of("panics").attempts, 3);
    assert_eq!(of("hangs").code.as_deref(), Some("handler_timeout"));
    assert_eq!(rig.history.of_key("g", "works"), ids_of("works", 0..1));
    drop(consumer);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_panics_is_taken_apart() {
    let rig = Rig::new().await;
    let mut config = config();
    config.batch_max = 64;
    for key in 0..10 {
        rig.publish_numbered(&format!("k{key}"), 0..3).await;
    }
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let into = attempts.clone();
    let consumer = rig
        .start(config, move |event, attempt| {
            let into = into.clone();
            async move {
                assert!(event.id != "k5/1", "this one breaks the whole batch");
                into.lock().push(attempt);
                Outcome::Done
            }
        })
        .await;
    eventually(LIMIT, async || rig.letters().await.len() == 2).await;
    assert_eq!(rig.letter_ids().await, ["k5/1", "k5/2"]);
    eventually(LIMIT, async || {
        consumer.status().await.unwrap().lag == Some(0)
    })
    .await;
    assert!(
        attempts.lock().iter().all(|attempt| *attempt == 1),
        "no one else was at fault"
    );
    for key in (0..10).filter(|key| *key != 5) {
        let key = format!("k{key}");
        // In the batch that broke its effects were rolled back, so it was handled once more.
        let mut handled = rig.history.of_key("g", &key);
        handled.reverse();
        handled.truncate(3);
        handled.reverse();
        assert_eq!(handled, ids_of(&key, 0..3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_a_batch_blocks_its_own_key_alone() {
    let rig = Rig::new().await;
    let mut config = config();
    config.batch_max = 64;
    for key in ["a", "b", "c"] {
        rig.publish_numbered(key, 0..4).await;
    }
    let consumer = rig
        .start(config, move |event, attempt| async move {
            if event.id == "b/1" && attempt < 3 {
                busy()
            } else {
                Outcome::Done
            }
        })
        .await;
    eventually(LIMIT, async || rig.history.handled("g") == 12).await;
    rig.history.assert(&Expected::exactly_once(&["g"]));
    assert_eq!(consumer.status().await.unwrap().failed, 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_failed_event_holds_back_nobody() {
    let rig = Rig::new().await;
    let mut config = config();
    (config.in_flight_max, config.held_max) = (8, 64);
    config.retry.initial = Duration::from_secs(3_600);
    config.retry.max = Duration::from_secs(3_600);
    config.retry.jitter = false;
    let consumer = rig
        .start(config, move |event, _| async move {
            if event.key.as_deref() == Some("sick") {
                busy()
            } else {
                Outcome::Done
            }
        })
        .await;
    // More events of the sick key than may be held at all: it is parked before its next attempt.
    for round in 0..100 {
        rig.publish_numbered("sick", round * 4..round * 4 + 4).await;
        rig.publish_numbered(&format!("k{round}"), 0..2).await;
    }
    eventually(Duration::from_secs(60), async || {
        rig.history.handled("g") == 200
    })
    .await;
    eventually(Duration::from_secs(60), async || {
        rig.letters().await.len() == 400
    })
    .await;
    assert_eq!(rig.letter_ids().await, ids_of("sick", 0..400));
    let first = &rig.letters().await[0];
    assert_eq!((first.attempts, first.code.as_deref()), (1, Some("busy")));
    drop(consumer);
}

#[tokio::test(start_paused = true)]
async fn when_everything_fails_nothing_is_parked_early() {
    let rig = Rig::new().await;
    let mut config = config();
    (config.in_flight_max, config.held_max) = (8, 16);
    config.retry.initial = Duration::from_secs(60);
    config.retry.jitter = false;
    let recovered = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let up = recovered.clone();
    let consumer = rig
        .start(config, move |_, _| {
            let up = up.load(std::sync::atomic::Ordering::Relaxed);
            async move { if up { Outcome::Done } else { busy() } }
        })
        .await;
    for key in 0..40 {
        rig.publish_numbered(&format!("k{key}"), 0..2).await;
    }
    // As many keys wait as may be held; then nothing more is taken up.
    eventually(LIMIT, async || {
        let status = consumer.status().await.unwrap();
        status.queued == 24 && status.in_flight == 0
    })
    .await;
    recovered.store(true, std::sync::atomic::Ordering::Relaxed);
    eventually(Duration::from_secs(600), async || {
        rig.history.handled("g") == 80
    })
    .await;
    rig.history.assert(&Expected::exactly_once(&["g"]));
    assert!(rig.letters().await.is_empty());
}
