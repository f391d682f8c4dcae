//! Dead letters: durable, in order, once each.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trunkline_bus::{Change, DeadLetter, DeadLetterQuery, ParkingLot};
use trunkline_core::{Env, ErrorKind};
use trunkline_store::Engine;
use trunkline_testkit::numbered;

use crate::common::{Place, on_both_engines};

on_both_engines!(
    letters_keep_what_they_are,
    the_same_letter_is_kept_once,
    pages_follow_the_order_of_parking,
    a_letter_that_is_gone_is_not_found,
    a_decision_is_about_one_failure,
    the_first_letter_of_a_key_is_recovered_before_the_others,
);

pub(crate) fn letter(group: &str, key: &str, n: usize) -> DeadLetter {
    let env = Env::system();
    DeadLetter {
        id: env.id().to_string().into(),
        group: group.into(),
        key: key.into(),
        envelope: numbered("t", key, n),
        original: None,
        error: Some("refused".to_owned()),
        code: None,
        retry: None,
        attempts: 0,
        replays: 0,
        recoveries: 0,
        parked_at: at(7),
        failed_at: None,
        decided_at: None,
        retry_at: None,
    }
}

fn at(second: i64) -> trunkline_core::Timestamp {
    trunkline_core::Timestamp::from_second(second).unwrap()
}

fn of_key(group: &str, key: &str) -> DeadLetterQuery {
    DeadLetterQuery {
        group: Some(group.into()),
        key: Some(key.into()),
        limit: 1000,
        ..DeadLetterQuery::default()
    }
}

async fn letters_keep_what_they_are(place: Place) {
    let lot = place.open().await.parking_lot();
    let mut first = letter("g", "a", 0);
    first.error = Some("no such product: 7".to_owned());
    first.code = Some("product_missing".to_owned());
    (first.attempts, first.failed_at) = (3, Some(at(8)));
    let second = letter("g", "a", 1);
    lot.park(&[first.clone(), second.clone()]).await.unwrap();
    lot.park(&[letter("g", "b", 0), letter("h", "c", 0)])
        .await
        .unwrap();
    assert_eq!(
        lot.list(&of_key("g", "a")).await.unwrap(),
        [first.clone(), second.clone()]
    );
    assert_eq!(lot.parked_keys("g", None).await.unwrap(), ["a", "b"]);

    first.original = Some(first.envelope.data.clone());
    first.envelope.data = "42".into();
    (first.replays, first.error) = (1, Some("still missing".to_owned()));
    lot.update(&first).await.unwrap();
    // At the next start it is all there, and in the same order.
    let lot = place.open().await.parking_lot();
    assert_eq!(
        lot.list(&of_key("g", "a")).await.unwrap(),
        [first.clone(), second.clone()]
    );
    lot.remove(&first.id).await.unwrap();
    assert_eq!(lot.parked_keys("g", None).await.unwrap(), ["a", "b"]);
    lot.remove(&second.id).await.unwrap();
    assert_eq!(lot.parked_keys("g", None).await.unwrap(), ["b"]);
}

async fn the_same_letter_is_kept_once(place: Place) {
    let lot = place.open().await.parking_lot();
    lot.park(&[letter("g", "a", 0), letter("g", "a", 1)])
        .await
        .unwrap();
    lot.park(&[letter("g", "a", 0), letter("g", "a", 2)])
        .await
        .unwrap();
    lot.park(&[letter("h", "a", 0)]).await.unwrap();
    let listed = lot.list(&of_key("g", "a")).await.unwrap();
    let ids: Vec<_> = listed
        .iter()
        .map(|letter| letter.envelope.id.to_string())
        .collect();
    assert_eq!(ids, ["a/0", "a/1", "a/2"]);
    assert_eq!(lot.list(&of_key("h", "a")).await.unwrap().len(), 1);
}

async fn pages_follow_the_order_of_parking(place: Place) {
    let lot = place.open().await.parking_lot();
    let letters: Vec<_> = (0..57).map(|n| letter("g", "a", n)).collect();
    lot.park(&letters).await.unwrap();
    for removes in [false, true] {
        let (mut seen, mut after) = (0, None);
        loop {
            let query = DeadLetterQuery {
                after,
                limit: 10,
                ..DeadLetterQuery::default()
            };
            let page = lot.list(&query).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            seen += page.len();
            if removes {
                for letter in &page {
                    lot.remove(&letter.id).await.unwrap();
                }
            }
        }
        assert_eq!(seen, 57);
    }
    let by_type = DeadLetterQuery {
        event_type: Some("no".into()),
        ..DeadLetterQuery::default()
    };
    assert!(lot.list(&by_type).await.unwrap().is_empty());
}

async fn a_letter_that_is_gone_is_not_found(place: Place) {
    let lot = place.open().await.parking_lot();
    let gone = letter("g", "a", 0);
    assert_eq!(
        lot.remove(&gone.id).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        lot.update(&gone).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

/// What may be done to a lot.
#[derive(Debug, Clone)]
enum Step {
    Park(Vec<(usize, usize)>),
    RemoveFirst(usize),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec((0..3_usize, 0..12_usize), 1..5).prop_map(Step::Park),
        3 => (0..3_usize).prop_map(Step::RemoveFirst),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..30)
}

/// Whatever is parked and removed, each key's letters are what a list in memory would hold.
async fn follows_the_model(engine: Engine, steps: Vec<Step>) {
    let place = Place::new(engine);
    let mut lot = place.open().await.parking_lot();
    let mut model: BTreeMap<usize, Vec<DeadLetter>> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Park(letters) => {
                let letters: Vec<_> = letters
                    .into_iter()
                    .map(|(key, n)| (key, letter("g", &format!("k{key}"), n)))
                    .collect();
                let batch: Vec<_> = letters.iter().map(|(_, letter)| letter.clone()).collect();
                lot.park(&batch).await.unwrap();
                for (key, letter) in letters {
                    let of_key = model.entry(key).or_default();
                    if !of_key
                        .iter()
                        .any(|known| known.envelope.id == letter.envelope.id)
                    {
                        of_key.push(letter);
                    }
                }
            }
            Step::RemoveFirst(key) => {
                let of_key = model.entry(key).or_default();
                if !of_key.is_empty() {
                    lot.remove(&of_key.remove(0).id).await.unwrap();
                }
            }
            Step::Reopen => lot = place.open().await.parking_lot(),
        }
        check(&*lot, &mut model).await;
    }
}

async fn check(lot: &dyn ParkingLot, model: &mut BTreeMap<usize, Vec<DeadLetter>>) {
    model.retain(|_, letters| !letters.is_empty());
    let keys: Vec<_> = model.keys().map(|key| format!("k{key}")).collect();
    assert_eq!(lot.parked_keys("g", None).await.unwrap(), keys);
    for (key, letters) in model {
        assert_eq!(
            lot.list(&of_key("g", &format!("k{key}"))).await.unwrap(),
            *letters
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn order_is_kept_on_sqlite(steps in steps()) {
        run(follows_the_model(Engine::Sqlite, steps));
    }

    #[test]
    fn order_is_kept_on_postgres(steps in steps()) {
        run(follows_the_model(Engine::Postgres, steps));
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

async fn a_decision_is_about_one_failure(place: Place) {
    let store = place.open().await;
    let (lot, letters) = (store.parking_lot(), store.recoveries());
    lot.park(&[letter("g", "a", 1), letter("h", "a", 2)])
        .await
        .unwrap();
    let found = letters.undecided("g").await.unwrap();
    let [first] = &found[..] else {
        panic!("{found:?}")
    };
    let decide = async |letter: &DeadLetter, retry_at| {
        let mut tx = store.begin().await.unwrap();
        let is_current = tx.decide(letter, retry_at).await.unwrap();
        tx.commit().await.unwrap();
        is_current
    };
    assert!(decide(first, Some(at(9))).await);
    assert!(!decide(first, None).await, "another has decided");
    assert_eq!(letters.undecided("g").await.unwrap(), []);
    let scheduled = letters.scheduled("g").await.unwrap().unwrap();
    assert_eq!((scheduled.retry_at, scheduled.recoveries), (Some(at(9)), 1));
    assert!(scheduled.decided_at.is_some());
    assert_eq!(letters.scheduled("h").await.unwrap(), None);

    // It fails once more, which whoever replayed it writes; how often it was recovered stays.
    let failed = DeadLetter {
        attempts: 1,
        ..first.clone()
    };
    lot.update(&failed).await.unwrap();
    assert!(!decide(first, Some(at(9))).await, "of the failure before");
    let found = letters.undecided("g").await.unwrap();
    assert_eq!((found[0].attempts, found[0].recoveries), (1, 1));
    assert!(decide(&found[0], Some(at(10))).await);
    let scheduled = letters.scheduled("g").await.unwrap().unwrap();
    assert_eq!(scheduled.recoveries, 2);
    letters.keep(&failed).await.unwrap();
    assert_eq!(
        letters.scheduled("g").await.unwrap(),
        Some(scheduled.clone()),
        "another time"
    );
    letters.keep(&scheduled).await.unwrap();
    assert_eq!(letters.scheduled("g").await.unwrap(), None);
    lot.remove(&scheduled.id).await.unwrap();
    assert!(!decide(&found[0], None).await, "it is gone");
}

async fn the_first_letter_of_a_key_is_recovered_before_the_others(place: Place) {
    let store = place.open().await;
    let (lot, letters) = (store.parking_lot(), store.recoveries());
    let behind = DeadLetter {
        error: None,
        ..letter("g", "a", 3)
    };
    let all = [
        letter("g", "a", 1),
        letter("g", "a", 2),
        behind,
        letter("g", "b", 4),
    ];
    lot.park(&all).await.unwrap();
    let undecided = letters.undecided("g").await.unwrap();
    let ids: Vec<_> = undecided.iter().map(|letter| &letter.id).collect();
    assert_eq!(ids, [&all[0].id, &all[1].id, &all[3].id]);
    let mut tx = store.begin().await.unwrap();
    for (letter, second) in undecided.iter().zip([30, 10, 20]) {
        let retry_at = Some(at(second)).filter(|_| letter.id != all[0].id);
        assert!(tx.decide(letter, retry_at).await.unwrap());
    }
    tx.commit().await.unwrap();
    let next = async || letters.scheduled("g").await.unwrap().unwrap().id;
    assert_eq!(
        next().await,
        all[3].id,
        "the second of a waits for the first"
    );
    let mut changes = lot.changes();
    lot.remove(&all[0].id).await.unwrap();
    let key = "a".into();
    let group = "g".into();
    let mut told = async || {
        loop {
            if let changed @ (Change::Parked { .. } | Change::Freed { .. }) = changes.next().await {
                return changed;
            }
        }
    };
    assert_eq!(told().await, Change::Parked { group, key });
    assert_eq!(next().await, all[1].id);
}
