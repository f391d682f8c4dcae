//! Alerts: there if what they tell of is, until they are removed.

use std::time::Duration;

use serde_json::{Value, json};
use trunkline_bus::DeadLetter;
use trunkline_core::Timestamp;
use trunkline_saga::{Change, Fault, Journal, State, Write, Written};
use trunkline_store::{Alert, Store};
use trunkline_testkit::eventually;

use crate::common::{LIMIT, Place, on_both_engines};
use crate::parking::letter;
use crate::sagas::{instance, went};

on_both_engines!(
    what_happens_to_a_letter_is_told_with_it,
    what_is_undone_is_not_told,
    a_store_whose_alerts_nobody_sends_writes_none,
    a_saga_that_is_parked_is_told_once,
    what_waits_too_long_or_is_too_much_is_given_up,
    one_process_sends_at_a_time,
);

async fn open(place: &Place) -> Store {
    place.open_with(|config| config.alerts = true).await
}

/// What waits, each with its subject.
async fn waiting(store: &Store) -> Vec<(String, String)> {
    let all = store.alerts().waiting().await.unwrap().into_iter();
    all.map(|one| (one.alert.to_string(), one.subject.to_string()))
        .collect()
}

fn about(alert: &str, letter: &DeadLetter) -> (String, String) {
    (alert.to_owned(), letter.id.to_string())
}

async fn remove_all(store: &Store) -> Vec<Alert> {
    let all = store.alerts().waiting().await.unwrap();
    let seqs: Vec<_> = all.iter().map(|one| one.seq).collect();
    store.alerts().remove(&seqs).await.unwrap();
    all
}

async fn decide(store: &Store, letter: &DeadLetter, retry_at: Option<Timestamp>) -> bool {
    let mut tx = store.begin().await.unwrap();
    let is_current = tx.decide(letter, retry_at).await.unwrap();
    tx.commit().await.unwrap();
    is_current
}

async fn what_happens_to_a_letter_is_told_with_it(place: Place) {
    let store = open(&place).await;
    let lot = store.parking_lot();
    let (first, other) = (letter("g", "a", 1), letter("g", "b", 3));
    let behind = DeadLetter {
        error: None,
        ..letter("g", "a", 2)
    };
    let all = [first.clone(), behind.clone(), other.clone()];
    lot.park(&all).await.unwrap();
    // The same again is the same letter.
    lot.park(&all).await.unwrap();
    let parked = [about("dead_letter", &first), about("dead_letter", &other)];
    assert_eq!(waiting(&store).await, parked);

    // The next process finds it as it was.
    store.close().await;
    let store = open(&place).await;
    let lot = store.parking_lot();
    let told = &remove_all(&store).await[0];
    assert_eq!((&*told.about, &told.told["key"]), ("g", &json!("a")));
    assert_eq!(told.told["error"], "refused");
    assert_eq!(told.correlation_id, first.envelope.correlation_id);
    assert_eq!(waiting(&store).await, []);

    let at = Timestamp::from_second(9).unwrap();
    assert!(decide(&store, &first, Some(at)).await);
    assert!(!decide(&store, &first, None).await, "it is decided");
    assert!(decide(&store, &other, None).await);
    let decided = remove_all(&store).await;
    let said = |alert: &Alert, what: &str| alert.told[what].clone();
    assert_eq!(
        (said(&decided[0], "decision"), said(&decided[0], "retry_at")),
        (json!("retry"), json!(at))
    );
    assert_eq!(
        (said(&decided[1], "decision"), said(&decided[1], "retry_at")),
        (json!("keep"), Value::Null)
    );
    assert_eq!(decided.len(), 2);

    // One that was to be replayed by itself is told of; those that people care for are not.
    lot.handled(&first.id).await.unwrap();
    lot.handled(&behind.id).await.unwrap();
    lot.remove(&other.id).await.unwrap();
    let recovered = [about("dead_letter_recovered", &first)];
    assert_eq!(waiting(&store).await, recovered);
}

async fn what_is_undone_is_not_told(place: Place) {
    let store = open(&place).await;
    let one = letter("g", "a", 1);
    store
        .parking_lot()
        .park(std::slice::from_ref(&one))
        .await
        .unwrap();
    remove_all(&store).await;
    let mut tx = store.begin().await.unwrap();
    assert!(tx.decide(&one, None).await.unwrap());
    tx.rollback().await.unwrap();
    assert_eq!(waiting(&store).await, []);
}

async fn a_store_whose_alerts_nobody_sends_writes_none(place: Place) {
    let store = place.open().await;
    let one = letter("g", "a", 1);
    store
        .parking_lot()
        .park(std::slice::from_ref(&one))
        .await
        .unwrap();
    let at = Timestamp::from_second(9).unwrap();
    assert!(decide(&store, &one, Some(at)).await);
    store.parking_lot().handled(&one.id).await.unwrap();
    assert_eq!(waiting(&store).await, []);
}

async fn a_saga_that_is_parked_is_told_once(place: Place) {
    let store = open(&place).await;
    let one = instance(store.env(), "k", "a");
    let start = Write::Start(Box::new(one.clone()));
    let parked = Change {
        error: Some(Fault {
            kind: "unavailable".into(),
            retry: "transient".into(),
            code: "bank_closed".into(),
            message: "the bank is closed".into(),
        }),
        release: true,
        ..Change::to(State::Parked)
    };
    let park = went(one.id, Vec::new(), Some(parked));
    let written = store.sagas().write(&[start, park.clone()]).await.unwrap();
    assert_eq!(written, [Written::Done, Written::Done]);
    // It is given back, so nobody of before parks it again.
    let written = store.sagas().write(&[park]).await.unwrap();
    assert_eq!(written, [Written::Lost]);
    let told = remove_all(&store).await;
    assert_eq!(told.len(), 1);
    assert_eq!((&*told[0].alert, &*told[0].about), ("saga_parked", "order"));
    let body = &told[0].told;
    assert_eq!(
        (&body["service"], &body["key"], &body["code"]),
        (&json!("test-service"), &json!("k"), &json!("bank_closed"))
    );
}

async fn what_waits_too_long_or_is_too_much_is_given_up(place: Place) {
    let store = open(&place).await;
    let (lot, alerts) = (store.parking_lot(), store.alerts());
    let letters: Vec<_> = (0..5).map(|n| letter("g", &format!("k{n}"), n)).collect();
    lot.park(&letters).await.unwrap();
    let hour = Duration::from_secs(3_600);
    assert_eq!(alerts.give_up(hour, 5).await.unwrap(), 0);
    assert_eq!(alerts.give_up(hour, 2).await.unwrap(), 3);
    let left = [
        about("dead_letter", &letters[3]),
        about("dead_letter", &letters[4]),
    ];
    assert_eq!(waiting(&store).await, left, "the oldest go");
    let then = store.env().now();
    eventually(LIMIT, async || store.env().now() > then).await;
    assert_eq!(alerts.give_up(Duration::ZERO, 2).await.unwrap(), 2);
    assert_eq!(waiting(&store).await, []);
}

async fn one_process_sends_at_a_time(place: Place) {
    let (here, there) = (open(&place).await, open(&place).await);
    let ours = here.alerts().reserve().await.unwrap();
    assert!(ours.is_some());
    assert!(there.alerts().reserve().await.unwrap().is_none());
    drop(ours);
    let theirs = async || there.alerts().reserve().await.unwrap().is_some();
    eventually(LIMIT, theirs).await;
}
