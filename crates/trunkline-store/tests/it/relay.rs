//! The relay sends what is committed, in order, whatever fails.

use std::sync::atomic::Ordering;
use std::time::Duration;

use trunkline_bus::memory::Memory;
use trunkline_core::{Env, ErrorKind, Priority};
use trunkline_store::Store;
use trunkline_telemetry::Check;
use trunkline_testkit::{eventually, numbered};

use crate::common::{LIMIT, Place, bus, on_both_engines, relay, sent, sent_ids};
use crate::moody::Moody;

on_both_engines!(
    what_is_committed_is_sent_on_its_lane,
    what_was_there_before_is_sent_at_the_start,
    later_means_later_and_can_be_taken_back,
    an_unsendable_event_holds_its_key_alone,
    a_held_key_goes_on_in_order_after_a_discard,
    a_bus_that_is_down_is_tried_again,
    an_event_that_fails_alone_is_set_aside_in_the_end,
    damaged_rows_are_set_aside,
    of_two_relays_one_sends_and_the_other_takes_over,
    a_stopped_relay_leaves_the_rest,
    odd_keys_are_sent_and_held_like_others,
    long_transactions_do_not_hold_up_the_relay,
);

async fn publish(store: &Store, key: &str, numbers: impl IntoIterator<Item = usize>) {
    let mut tx = store.begin().await.unwrap();
    for n in numbers {
        tx.publish(numbered("t", key, n)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// The ids of one key that are on the bus, each once, in the order of its first time.
async fn of_key(bus: &Memory, key: &str) -> Vec<String> {
    let mut ids = sent_ids(bus).await;
    ids.retain(|id| id.starts_with(&format!("{key}/")));
    ids
}

fn range(key: &str, upto: usize) -> Vec<String> {
    (0..upto).map(|n| format!("{key}/{n}")).collect()
}

async fn what_is_committed_is_sent_on_its_lane(place: Place) {
    let store = place.open().await;
    let bus = bus().await;
    let relay = relay(&store, bus.clone());
    for n in 0..100 {
        let mut tx = store.begin().await.unwrap();
        let mut high = numbered("t", "h", n);
        high.priority = Priority::High;
        tx.publish(high).await.unwrap();
        tx.publish(numbered("t", "m", n)).await.unwrap();
        tx.commit().await.unwrap();
    }
    let mut unkeyed = numbered("t", "none", 0);
    unkeyed.key = None;
    let mut tx = store.begin().await.unwrap();
    tx.publish(unkeyed).await.unwrap();
    tx.commit().await.unwrap();
    assert!(relay.drain(LIMIT).await);
    assert_eq!(of_key(&bus, "h").await, range("h", 100));
    assert_eq!(of_key(&bus, "m").await, range("m", 100));
    let sent = sent(&bus).await;
    assert_eq!(sent.len(), 201, "nothing is sent twice without need");
    let on = |key: &str, topic: &str| {
        sent.iter()
            .filter(|e| e.id.starts_with(key))
            .all(|e| e.topic == topic)
    };
    assert!(on("h/", "t.high") && on("m/", "t"));
    let none = sent.iter().find(|event| event.id == "none/0").unwrap();
    assert_eq!(none.key, None);
    assert!(none.trace.is_some(), "it is part of a trace");
}

async fn what_was_there_before_is_sent_at_the_start(place: Place) {
    let store = place.open().await;
    for n in 0..1000 {
        publish(&store, &format!("k{}", n % 7), [n / 7]).await;
        if n == 300 {
            break;
        }
    }
    publish(&store, "bulk", 0..2000).await;
    drop(store);
    let store = place.open().await;
    let bus = bus().await;
    let relay = relay(&store, bus.clone());
    assert!(relay.drain(LIMIT).await);
    assert_eq!(of_key(&bus, "k3").await, range("k3", 43));
    assert_eq!(of_key(&bus, "bulk").await, range("bulk", 2000));
    assert_eq!(relay.status().await.unwrap().pending, 0);
}

async fn later_means_later_and_can_be_taken_back(place: Place) {
    let store = place.open().await;
    let bus = bus().await;
    let relay = relay(&store, bus.clone());
    let now = Env::system().now();
    let at = |millis: i64| {
        now.checked_add(jiff::SignedDuration::from_millis(millis))
            .unwrap()
    };
    let mut tx = store.begin().await.unwrap();
    tx.publish_at(numbered("t", "k", 1), at(500)).await.unwrap();
    tx.publish_at(numbered("t", "k", 0), at(300)).await.unwrap();
    tx.publish_at(numbered("t", "k", 2), at(400)).await.unwrap();
    tx.publish_at(numbered("t", "k", 3), at(3_600_000))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert!(tx.cancel_scheduled("k/2").await.unwrap());
    assert!(!tx.cancel_scheduled("k/2").await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(relay.status().await.unwrap().scheduled, 3);
    eventually(LIMIT, async || of_key(&bus, "k").await.len() == 2).await;
    assert!(Env::system().now() >= at(500), "none is early");
    assert_eq!(
        of_key(&bus, "k").await,
        ["k/0", "k/1"],
        "in the order of their times"
    );
    let mut tx = store.begin().await.unwrap();
    assert!(!tx.cancel_scheduled("k/0").await.unwrap(), "too late");
    tx.commit().await.unwrap();
    assert_eq!(relay.status().await.unwrap().scheduled, 1);
}

async fn an_unsendable_event_holds_its_key_alone(place: Place) {
    let store = place.open().await;
    let bus = Moody::new().await;
    bus.unsendable.lock().push("a/3".to_owned());
    let relay = relay(&store, bus.clone());
    publish(&store, "a", 0..6).await;
    publish(&store, "b", 0..6).await;
    publish(&store, "a", 6..8).await;
    assert!(relay.drain(LIMIT).await);
    assert_eq!(of_key(&bus.bus, "a").await, range("a", 3));
    assert_eq!(of_key(&bus.bus, "b").await, range("b", 6));
    let status = relay.status().await.unwrap();
    assert_eq!((status.stuck, status.held, status.pending), (1, 4, 0));
    let stuck = relay.stuck(10).await.unwrap();
    assert_eq!((stuck.len(), stuck[0].held), (1, 4));
    assert_eq!(stuck[0].event_id, "a/3");
    assert!(
        stuck[0].error.contains("the event is too large"),
        "{}",
        stuck[0].error
    );
    assert_eq!(stuck[0].envelope.as_ref().unwrap().data, "3");
    assert_eq!(
        Check::check(&relay).await.unwrap_err().code(),
        "outbox_stuck"
    );

    let other = relay.retry_stuck("b/0").await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::NotFound);
    relay.retry_stuck("a/3").await.unwrap();
    eventually(LIMIT, async || relay.status().await.unwrap().stuck == 1).await;
    assert_eq!(
        of_key(&bus.bus, "a").await,
        range("a", 3),
        "it still can't be sent"
    );
    bus.unsendable.lock().clear();
    relay.retry_stuck("a/3").await.unwrap();
    publish(&store, "a", 8..10).await;
    eventually(LIMIT, async || of_key(&bus.bus, "a").await.len() == 10).await;
    assert_eq!(of_key(&bus.bus, "a").await, range("a", 10));
    Check::check(&relay).await.unwrap();
}

async fn a_held_key_goes_on_in_order_after_a_discard(place: Place) {
    let store = place.open().await;
    let bus = Moody::new().await;
    bus.unsendable
        .lock()
        .extend(["a/0".to_owned(), "a/600".to_owned()]);
    publish(&store, "a", 0..1000).await;
    let first = relay(&store, bus.clone());
    assert!(first.drain(LIMIT).await);
    assert!(of_key(&bus.bus, "a").await.is_empty());
    // What is held outlives the relay and the process.
    drop((first, store));
    let store = place.open().await;
    let relay = relay(&store, bus.clone());
    relay.discard_stuck("a/0").await.unwrap();
    eventually(LIMIT, async || of_key(&bus.bus, "a").await.len() == 599).await;
    assert_eq!(relay.stuck(1).await.unwrap()[0].event_id, "a/600");
    relay.discard_stuck("a/600").await.unwrap();
    eventually(LIMIT, async || of_key(&bus.bus, "a").await.len() == 998).await;
    let kept = range("a", 1000)
        .into_iter()
        .filter(|id| id != "a/0" && id != "a/600");
    assert_eq!(of_key(&bus.bus, "a").await, kept.collect::<Vec<_>>());
    assert_eq!(relay.status().await.unwrap().held, 0);
}

async fn a_bus_that_is_down_is_tried_again(place: Place) {
    let store = place.open().await;
    let bus = Moody::new().await;
    bus.down.store(true, Ordering::SeqCst);
    let relay = relay(&store, bus.clone());
    publish(&store, "a", 0..50).await;
    eventually(LIMIT, async || {
        relay.status().await.unwrap().last_error.is_some()
    })
    .await;
    let status = relay.status().await.unwrap();
    assert!(status.last_error.unwrap().contains("the bus is down"));
    assert_eq!((status.pending, status.stuck), (50, 0));
    assert_eq!(
        Check::check(&relay).await.unwrap_err().code(),
        "outbox_blocked"
    );
    assert!(!relay.drain(Duration::from_millis(50)).await);
    bus.down.store(false, Ordering::SeqCst);
    assert!(relay.drain(LIMIT).await);
    assert_eq!(of_key(&bus.bus, "a").await, range("a", 50));
    assert_eq!(relay.status().await.unwrap().last_error, None);
}

async fn an_event_that_fails_alone_is_set_aside_in_the_end(place: Place) {
    let store = place.open().await;
    let bus = Moody::new().await;
    bus.flaky.lock().push("a/0".to_owned());
    publish(&store, "a", 0..3).await;
    publish(&store, "b", 0..3).await;
    let relay = relay(&store, bus.clone());
    assert!(relay.drain(LIMIT).await);
    assert_eq!(of_key(&bus.bus, "b").await, range("b", 3));
    assert_eq!(relay.stuck(10).await.unwrap()[0].event_id, "a/0");
    assert_eq!(relay.status().await.unwrap().held, 2);
}

async fn damaged_rows_are_set_aside(place: Place) {
    let store = place.open().await;
    publish(&store, "a", 0..3).await;
    publish(&store, "b", 0..3).await;
    let mut tx = store.begin().await.unwrap();
    trunkline_store::sqlx::query(
        "UPDATE trunkline_outbox SET envelope = $1 WHERE event_id = 'a/1'",
    )
    .bind(&b"rubbish"[..])
    .execute(tx.conn())
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let bus = bus().await;
    let relay = relay(&store, bus.clone());
    assert!(relay.drain(LIMIT).await);
    assert_eq!(of_key(&bus, "a").await, range("a", 1));
    assert_eq!(of_key(&bus, "b").await, range("b", 3));
    let stuck = relay.stuck(10).await.unwrap();
    assert_eq!((stuck[0].event_id.as_ref(), stuck[0].held), ("a/1", 1));
    assert_eq!(stuck[0].envelope, None);
    relay.retry_stuck("a/1").await.unwrap();
    eventually(LIMIT, async || relay.status().await.unwrap().stuck == 1).await;
    relay.discard_stuck("a/1").await.unwrap();
    eventually(LIMIT, async || of_key(&bus, "a").await == ["a/0", "a/2"]).await;
}

async fn of_two_relays_one_sends_and_the_other_takes_over(place: Place) {
    let (first, second) = (place.open().await, place.open().await);
    let bus = bus().await;
    let leader = relay(&first, bus.clone());
    eventually(LIMIT, async || leader.status().await.unwrap().leading).await;
    let standby = relay(&second, bus.clone());
    publish(&first, "a", 0..10).await;
    assert!(leader.drain(LIMIT).await);
    if first.engine() == trunkline_store::Engine::Postgres {
        // A commit in another process wakes the leader.
        publish(&second, "a", 10..20).await;
        assert!(standby.drain(LIMIT).await);
        assert_eq!(of_key(&bus, "a").await, range("a", 20));
    }
    assert!(!standby.status().await.unwrap().leading);
    drop(leader);
    publish(&second, "b", 0..10).await;
    assert!(standby.drain(LIMIT).await);
    assert!(standby.status().await.unwrap().leading);
    assert_eq!(of_key(&bus, "b").await, range("b", 10));
}

async fn a_stopped_relay_leaves_the_rest(place: Place) {
    let store = place.open().await;
    let bus = bus().await;
    let stopped = relay(&store, bus.clone());
    publish(&store, "a", 0..5).await;
    assert!(stopped.drain(LIMIT).await);
    stopped.stop().await;
    stopped.stop().await;
    publish(&store, "a", 5..10).await;
    assert_eq!(stopped.status().await.unwrap().pending, 5);
    assert_eq!(of_key(&bus, "a").await, range("a", 5));
    let relay = relay(&store, bus.clone());
    assert!(relay.drain(LIMIT).await);
    assert_eq!(of_key(&bus, "a").await, range("a", 10));
}

async fn odd_keys_are_sent_and_held_like_others(place: Place) {
    let store = place.open().await;
    let bus = Moody::new().await;
    let odd = "nul\0 and \u{E000}";
    bus.unsendable.lock().push(format!("{odd}/0"));
    let relay = relay(&store, bus.clone());
    publish(&store, odd, 0..3).await;
    publish(&store, "", 0..3).await;
    assert!(relay.drain(LIMIT).await);
    assert_eq!(of_key(&bus.bus, "").await, range("", 3));
    assert_eq!(relay.stuck(10).await.unwrap()[0].key, odd);
    bus.unsendable.lock().clear();
    relay.retry_stuck(&format!("{odd}/0")).await.unwrap();
    eventually(LIMIT, async || of_key(&bus.bus, odd).await == range(odd, 3)).await;
}

async fn long_transactions_do_not_hold_up_the_relay(mut place: Place) {
    place.url = place.url.replace("pool=70", "pool=2");
    let store = place.open().await;
    if store.engine() == trunkline_store::Engine::Sqlite {
        return; // One writer at a time: while it is held, nothing is committed that could be sent.
    }
    let bus = bus().await;
    publish(&store, "a", 0..1000).await;
    let (_first, _second) = (store.begin().await.unwrap(), store.begin().await.unwrap());
    let relay = relay(&store, bus.clone());
    assert!(relay.drain(LIMIT).await);
}
