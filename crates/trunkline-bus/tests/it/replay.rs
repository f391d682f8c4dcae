//! Dead letters replayed: in order, limited, interruptible, never in a loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use trunkline_bus::{Consumer, DeadLetterQuery, Outcome, ReplayOutcome, ReplayRequest};
use trunkline_core::ErrorKind;
use trunkline_testkit::{Expected, eventually};

use crate::support::{LIMIT, Rig, config, ids_of, refused};

/// A consumer that refuses `*/1` until it is healed; each key of `keys` has three events parked.
async fn parked(keys: &[&str]) -> (Rig, Consumer, Arc<AtomicBool>) {
    let rig = Rig::new().await;
    let healed = Arc::new(AtomicBool::new(false));
    let well = healed.clone();
    let consumer = rig
        .start(config(), move |event, _| {
            let well = well.load(Ordering::Relaxed);
            async move {
                if event.id.ends_with("/1") && !well {
                    refused()
                } else {
                    Outcome::Done
                }
            }
        })
        .await;
    for key in keys {
        rig.publish_numbered(key, 0..4).await;
    }
    eventually(LIMIT, async || rig.letters().await.len() == 3 * keys.len()).await;
    (rig, consumer, healed)
}

#[tokio::test(start_paused = true)]
async fn a_replay_keeps_each_keys_order_and_frees_it() {
    let (rig, consumer, healed) = parked(&["a", "b", "c"]).await;
    healed.store(true, Ordering::Relaxed);
    let report = consumer.replay(ReplayRequest::default()).await.unwrap();
    assert_eq!(
        (report.keys, report.freed, report.replayed, report.failed),
        (3, 3, 9, 0)
    );
    assert!(rig.letters().await.is_empty());
    for key in ["a", "b", "c"] {
        rig.publish_numbered(key, 4..6).await;
    }
    eventually(LIMIT, async || rig.history.handled("g") == 18).await;
    rig.history.assert(&Expected::exactly_once(&["g"]));
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_fails_again_keeps_its_key_parked_and_the_others_go_on() {
    let (rig, consumer, _) = parked(&["a", "b"]).await;
    let report = consumer.replay(ReplayRequest::default()).await.unwrap();
    assert_eq!((report.keys, report.freed, report.failed), (2, 0, 2));
    let letters = rig.letters().await;
    assert_eq!(letters.len(), 6);
    let first = letters
        .iter()
        .find(|letter| letter.envelope.id == "a/1")
        .unwrap();
    assert_eq!((first.replays, first.attempts), (1, 2));
    assert_eq!(rig.history.of_key("g", "a"), ids_of("a", 0..1));
}

#[tokio::test(start_paused = true)]
async fn the_filter_chooses_keys() {
    let (rig, consumer, healed) = parked(&["a", "b", "c"]).await;
    healed.store(true, Ordering::Relaxed);
    let key = ReplayRequest {
        key: Some("b".into()),
        ..ReplayRequest::default()
    };
    assert_eq!(consumer.replay(key).await.unwrap().freed, 1);
    let of_c = rig
        .letters()
        .await
        .into_iter()
        .rfind(|l| l.key == "c")
        .unwrap();
    let id = ReplayRequest {
        id: Some(of_c.id),
        ..ReplayRequest::default()
    };
    let report = consumer.replay(id).await.unwrap();
    assert_eq!(
        (report.freed, report.replayed),
        (1, 3),
        "its key runs from its first letter on"
    );
    let unknown = ReplayRequest {
        event_type: Some("none".into()),
        ..ReplayRequest::default()
    };
    assert_eq!(consumer.replay(unknown).await.unwrap().keys, 0);
    assert_eq!(rig.letter_ids().await, ids_of("a", 1..4));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_nothing() {
    let (rig, consumer, healed) = parked(&["a"]).await;
    healed.store(true, Ordering::Relaxed);
    let request = ReplayRequest {
        dry_run: true,
        ..ReplayRequest::default()
    };
    let report = consumer.replay(request).await.unwrap();
    assert!(report.dry_run);
    assert_eq!((report.keys, report.freed, report.replayed), (1, 0, 3));
    let would: Vec<_> = report
        .letters
        .iter()
        .map(|letter| letter.event_id.to_string())
        .collect();
    assert_eq!(would, ids_of("a", 1..4));
    assert!(
        report
            .letters
            .iter()
            .all(|letter| letter.outcome == ReplayOutcome::WouldRun)
    );
    assert_eq!(rig.letters().await.len(), 3);
    assert_eq!(rig.history.handled("g"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_limited() {
    let (_, consumer, healed) = parked(&["a", "b", "c", "d"]).await;
    healed.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let request = ReplayRequest {
        rate_per_second: Some(2),
        ..ReplayRequest::default()
    };
    assert_eq!(consumer.replay(request).await.unwrap().replayed, 12);
    // The clock is virtual: eleven pauses of half a second, to the millisecond.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(5_500), "took {took:?}");
    assert!(took < Duration::from_millis(5_600), "took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_replay_goes_on_where_it_was() {
    let (rig, consumer, healed) = parked(&["a", "b", "c"]).await;
    healed.store(true, Ordering::Relaxed);
    let slow = ReplayRequest {
        rate_per_second: Some(1),
        ..ReplayRequest::default()
    };
    let interrupted = tokio::time::timeout(Duration::from_millis(3_500), consumer.replay(slow));
    assert!(interrupted.await.is_err());
    assert_eq!(rig.letters().await.len(), 5, "four letters were replayed");
    let report = consumer.replay(ReplayRequest::default()).await.unwrap();
    assert_eq!((report.replayed, report.freed), (5, 2));
    rig.history.assert(&Expected::exactly_once(&["g"]));
}

#[tokio::test(start_paused = true)]
async fn draining_interrupts_a_replay() {
    let (rig, consumer, healed) = parked(&["a", "b"]).await;
    healed.store(true, Ordering::Relaxed);
    let slow = ReplayRequest {
        rate_per_second: Some(1),
        ..ReplayRequest::default()
    };
    let (report, drained) = tokio::join!(consumer.replay(slow), async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        consumer.drain(Duration::from_secs(5)).await
    });
    drained.unwrap();
    let report = report.unwrap();
    assert!(report.interrupted);
    assert_eq!(rig.letters().await.len() + report.replayed, 6);
}

#[tokio::test(start_paused = true)]
async fn replays_in_vain_are_bounded() {
    let (rig, consumer, healed) = parked(&["a"]).await;
    for _ in 0..5 {
        assert_eq!(
            consumer
                .replay(ReplayRequest::default())
                .await
                .unwrap()
                .failed,
            1
        );
    }
    let report = consumer.replay(ReplayRequest::default()).await.unwrap();
    assert_eq!((report.failed, report.refused), (0, 1));
    assert_eq!(report.letters[0].outcome, ReplayOutcome::Refused);
    healed.store(true, Ordering::Relaxed);
    let report = consumer.replay(ReplayRequest::default()).await.unwrap();
    assert_eq!(
        report.refused, 1,
        "the guard does not know that it is healed"
    );
    let force = ReplayRequest {
        force: true,
        ..ReplayRequest::default()
    };
    assert_eq!(consumer.replay(force).await.unwrap().freed, 1);
    assert!(rig.letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_that_come_during_a_replay_queue_behind() {
    let rig = Rig::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let replaying = Arc::new(AtomicBool::new(false));
    let well = replaying.clone();
    let consumer = rig
        .start(config(), move |event, _| {
            let (held, well) = (held.clone(), well.load(Ordering::Relaxed));
            async move {
                if !well {
                    return if event.id == "k/0" {
                        refused()
                    } else {
                        Outcome::Done
                    };
                }
                held.acquire().await.unwrap().forget();
                Outcome::Done
            }
        })
        .await;
    rig.publish_numbered("k", 0..3).await;
    eventually(LIMIT, async || rig.letters().await.len() == 3).await;
    replaying.store(true, Ordering::Relaxed);
    let publish = async {
        // One letter is being replayed: what comes now must not overtake the two behind it.
        rig.publish_numbered("k", 3..6).await;
        eventually(LIMIT, async || rig.letters().await.len() == 6).await;
        gate.add_permits(4);
        eventually(LIMIT, async || rig.letters().await.len() == 2).await;
        rig.publish_numbered("k", 6..9).await;
        gate.add_permits(100);
    };
    let (report, ()) = tokio::join!(consumer.replay(ReplayRequest::default()), publish);
    assert_eq!(report.unwrap().freed, 1);
    eventually(LIMIT, async || rig.history.handled("g") == 9).await;
    rig.history.assert(&Expected::exactly_once(&["g"]));
    assert!(rig.letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_replays_do_not_run_at_once() {
    let (_, consumer, healed) = parked(&["a"]).await;
    healed.store(true, Ordering::Relaxed);
    let slow = ReplayRequest {
        rate_per_second: Some(1),
        ..ReplayRequest::default()
    };
    let discard = DeadLetterQuery {
        key: Some("a".into()),
        ..DeadLetterQuery::default()
    };
    let second = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        (
            consumer.replay(ReplayRequest::default()).await,
            consumer.discard(discard).await,
        )
    };
    let (first, (second, discarded)) = tokio::join!(consumer.replay(slow), second);
    assert_eq!(first.unwrap().freed, 1);
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(discarded.unwrap_err().kind(), ErrorKind::Conflict);
}
