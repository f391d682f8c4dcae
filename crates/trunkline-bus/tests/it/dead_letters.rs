//! A parked key queues up in order; nothing is acknowledged before it is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use trunkline_bus::{DeadLetterQuery, Outcome};
use trunkline_core::ErrorKind;
use trunkline_testkit::{Expected, eventually};

use crate::support::{FullLot, LIMIT, Rig, config, ids_of, refused};

async fn poisoned(rig: &Rig) -> trunkline_bus::Consumer {
    rig.start(config(), |event, _| async move {
        if event.id == "bad/1" {
            refused()
        } else {
            Outcome::Done
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn later_events_queue_behind_in_order_and_other_keys_go_on() {
    let rig = Rig::new().await;
    let consumer = poisoned(&rig).await;
    rig.publish_numbered("bad", 0..5).await;
    rig.publish_numbered("good", 0..5).await;
    eventually(LIMIT, async || rig.letters().await.len() == 4).await;
    rig.publish_numbered("bad", 5..8).await;
    rig.publish_numbered("good", 5..8).await;
    eventually(LIMIT, async || rig.letters().await.len() == 7).await;
    assert_eq!(rig.letter_ids().await, ids_of("bad", 1..8));
    eventually(LIMIT, async || {
        rig.history.of_key("g", "good") == ids_of("good", 0..8)
    })
    .await;
    assert_eq!(rig.history.of_key("g", "bad"), ids_of("bad", 0..1));
    eventually(LIMIT, async || {
        consumer.status().await.unwrap().lag == Some(0)
    })
    .await;
    let status = consumer.status().await.unwrap();
    assert_eq!(
        (status.parked, status.parked_keys, status.failed),
        (7, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_stays_parked_when_the_consumer_starts_again() {
    let rig = Rig::new().await;
    let first = poisoned(&rig).await;
    rig.publish_numbered("bad", 0..3).await;
    eventually(LIMIT, async || rig.letters().await.len() == 2).await;
    first.drain(Duration::from_secs(5)).await.unwrap();
    drop(first);
    rig.publish_numbered("bad", 3..6).await;
    let second = poisoned(&rig).await;
    eventually(LIMIT, async || rig.letters().await.len() == 5).await;
    assert_eq!(rig.letter_ids().await, ids_of("bad", 1..6));
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_lot_that_is_full_loses_nothing() {
    let mut rig = Rig::new().await;
    let lot = Arc::new(FullLot::new(5));
    rig.lot = lot.clone();
    let consumer = poisoned(&rig).await;
    rig.publish_numbered("bad", 0..4).await;
    rig.publish_numbered("good", 0..4).await;
    eventually(LIMIT, async || rig.history.of_key("g", "good").len() == 4).await;
    eventually(LIMIT, async || lot.failures.load(Ordering::Relaxed) < 5).await;
    if lot.failures.load(Ordering::Relaxed) > 0 {
        assert_eq!(
            consumer.status().await.unwrap().lag,
            Some(3),
            "unacknowledged until kept"
        );
    }
    eventually(LIMIT, async || rig.letters().await.len() == 3).await;
    assert_eq!(rig.letter_ids().await, ids_of("bad", 1..4));
    eventually(LIMIT, async || {
        consumer.status().await.unwrap().lag == Some(0)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_full_lot_did_not_take_comes_again_after_a_restart() {
    let mut rig = Rig::new().await;
    rig.lot = Arc::new(FullLot::new(usize::MAX));
    let consumer = poisoned(&rig).await;
    rig.publish_numbered("bad", 0..4).await;
    eventually(LIMIT, async || consumer.status().await.unwrap().parked == 3).await;
    consumer.drain(Duration::from_secs(5)).await.unwrap();
    drop(consumer);
    rig.lot = Arc::new(FullLot::new(0));
    let healed = rig.start(config(), |_, _| async { Outcome::Done }).await;
    eventually(LIMIT, async || rig.history.handled("g") == 4).await;
    rig.history.assert(&Expected::exactly_once(&["g"]));
    drop(healed);
}

#[tokio::test(start_paused = true)]
async fn an_edited_letter_runs_with_its_new_data_and_keeps_the_old() {
    let rig = Rig::new().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let into = seen.clone();
    let consumer = rig
        .start(config(), move |event, _| {
            let data: usize = serde_json::from_slice(&event.data).unwrap();
            into.store(data, Ordering::Relaxed);
            async move { if data < 100 { refused() } else { Outcome::Done } }
        })
        .await;
    rig.publish_numbered("k", 0..1).await;
    eventually(LIMIT, async || rig.letters().await.len() == 1).await;
    let id = rig.letters().await[0].id.clone();
    let broken = consumer
        .edit(&id, Bytes::from_static(b"{"))
        .await
        .unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::InvalidInput);
    let gone = consumer
        .edit("nobody", Bytes::from_static(b"1"))
        .await
        .unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    consumer.edit(&id, Bytes::from_static(b"50")).await.unwrap();
    let edited = consumer
        .edit(&id, Bytes::from_static(b"101"))
        .await
        .unwrap();
    assert_eq!(
        edited.original.as_deref(),
        Some(&b"0"[..]),
        "the first data is kept"
    );
    let report = consumer.replay(Default::default()).await.unwrap();
    assert_eq!((report.replayed, report.freed), (1, 1));
    assert_eq!(seen.load(Ordering::Relaxed), 101);
}

#[tokio::test(start_paused = true)]
async fn discarding_a_keys_letters_frees_it() {
    let rig = Rig::new().await;
    let consumer = poisoned(&rig).await;
    rig.publish_numbered("bad", 0..4).await;
    eventually(LIMIT, async || rig.letters().await.len() == 3).await;
    let everything = consumer
        .discard(DeadLetterQuery::default())
        .await
        .unwrap_err();
    assert_eq!(everything.kind(), ErrorKind::InvalidInput);
    let first = rig.letters().await[0].id.clone();
    let one = DeadLetterQuery {
        id: Some(first),
        ..DeadLetterQuery::default()
    };
    assert_eq!(consumer.discard(one).await.unwrap(), 1);
    assert_eq!(rig.letter_ids().await, ids_of("bad", 2..4));
    assert_eq!(
        consumer.status().await.unwrap().parked_keys,
        1,
        "letters remain"
    );
    let rest = DeadLetterQuery {
        key: Some("bad".into()),
        ..DeadLetterQuery::default()
    };
    assert_eq!(consumer.discard(rest).await.unwrap(), 2);
    assert_eq!(consumer.status().await.unwrap().parked_keys, 0);
    rig.publish_numbered("bad", 4..6).await;
    eventually(LIMIT, async || rig.history.of_key("g", "bad").len() == 3).await;
    assert_eq!(rig.history.of_key("g", "bad"), ["bad/0", "bad/4", "bad/5"]);
}

#[tokio::test(start_paused = true)]
async fn letters_of_other_groups_are_not_touched() {
    let rig = Rig::new().await;
    let consumer = poisoned(&rig).await;
    let mut other = config();
    other.group = "other".into();
    let fine = rig.start(other, |_, _| async { Outcome::Done }).await;
    rig.publish_numbered("bad", 0..3).await;
    eventually(LIMIT, async || rig.letters().await.len() == 2).await;
    eventually(LIMIT, async || rig.history.handled("other") == 3).await;
    let mine = consumer
        .dead_letters(DeadLetterQuery::default())
        .await
        .unwrap();
    assert_eq!(mine.len(), 2);
    assert!(
        fine.dead_letters(DeadLetterQuery::default())
            .await
            .unwrap()
            .is_empty()
    );
    let key = DeadLetterQuery {
        key: Some("bad".into()),
        ..DeadLetterQuery::default()
    };
    assert_eq!(fine.discard(key).await.unwrap(), 0);
    assert_eq!(rig.letters().await.len(), 2);
}
