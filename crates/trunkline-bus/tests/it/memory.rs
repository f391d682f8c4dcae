//! The transport in memory, beyond what the conformance suite asks.

use std::time::Duration;

use trunkline_bus::memory::{Memory, MemoryLimits, MemoryLot};
use trunkline_bus::{
    Change, DeadLetter, DeadLetterQuery, ParkingLot, Start, Subscribe, Subscription, TopicSpec,
    Transport,
};
use trunkline_core::{ByteString, Env, ErrorKind, Retry, Timestamp};
use trunkline_testkit::{numbered, topic};

async fn join(memory: &Memory, group: Option<&str>, start: Start) -> Box<dyn Subscription> {
    let group = group.map(Into::into);
    let spec = Subscribe {
        topics: vec!["t".into()],
        group,
        start,
        in_flight_max: 1_000,
    };
    memory.subscribe(&spec).await.unwrap()
}

async fn take(member: &mut dyn Subscription, max: usize) -> Vec<String> {
    let taken = member.next(max).await.unwrap();
    let ids = taken
        .iter()
        .map(|delivery| delivery.envelope.id.to_string())
        .collect();
    taken
        .into_iter()
        .for_each(|delivery| delivery.receipt.ack());
    ids
}

#[tokio::test]
async fn settled_events_are_kept_up_to_a_bound() {
    let limits = MemoryLimits {
        retained_max: 10,
        unsettled_max: 50,
    };
    let memory = Memory::with_limits(Env::system(), limits);
    memory.declare(&[topic("t", 1)]).await.unwrap();
    let mut member = join(&memory, Some("g"), Start::Committed).await;
    for n in 0..100 {
        memory.publish(&[numbered("t", "k", n)]).await.unwrap();
        take(&mut *member, 1).await;
    }
    let mut reader = join(&memory, None, Start::Earliest).await;
    let first = take(&mut *reader, 1).await;
    assert_eq!(
        first,
        ["k/89"],
        "ten settled ones, and the one published after"
    );
}

#[tokio::test]
async fn one_unsettled_event_does_not_keep_all_that_came_after_it() {
    let limits = MemoryLimits {
        retained_max: 10,
        unsettled_max: 1_000,
    };
    let memory = Memory::with_limits(Env::system(), limits);
    memory.declare(&[topic("t", 1)]).await.unwrap();
    let mut member = join(&memory, Some("g"), Start::Committed).await;
    memory
        .publish(&[numbered("t", "poisoned", 0)])
        .await
        .unwrap();
    let waits = member.next(1).await.unwrap().pop().unwrap();
    for n in 0..100 {
        memory.publish(&[numbered("t", "k", n)]).await.unwrap();
        take(&mut *member, 1).await;
    }
    let mut reader = join(&memory, None, Start::Earliest).await;
    let kept = take(&mut *reader, 200).await;
    assert_eq!(kept.first().unwrap(), "poisoned/0");
    assert_eq!(kept.get(1).unwrap(), "k/89", "of the settled the newest");
    assert_eq!(kept.len(), 12);
    waits.receipt.retry(Duration::ZERO);
    assert_eq!(take(&mut *member, 1).await, ["poisoned/0"]);
}

#[tokio::test]
async fn unsettled_events_are_never_dropped_but_publishing_is_refused() {
    let limits = MemoryLimits {
        retained_max: 10,
        unsettled_max: 50,
    };
    let memory = Memory::with_limits(Env::system(), limits);
    memory.declare(&[topic("t", 1)]).await.unwrap();
    let mut member = join(&memory, Some("slow"), Start::Committed).await;
    let batch: Vec<_> = (0..60).map(|n| numbered("t", "k", n)).collect();
    let refused = memory.publish(&batch).await.unwrap_err();
    assert_eq!(refused.accepted, 50);
    assert_eq!(refused.error.kind(), ErrorKind::Overloaded);
    assert_eq!(refused.error.retry(), Retry::Transient);
    assert_eq!(take(&mut *member, 50).await.len(), 50);
    memory.publish(&batch[50..]).await.unwrap();
    assert_eq!(take(&mut *member, 50).await.len(), 10);
}

#[tokio::test]
async fn retention_drops_by_age_and_size() {
    let (env, clock) = Env::manual(1);
    let memory = Memory::new(env);
    let hour = Duration::from_secs(3_600);
    let aged = TopicSpec {
        retention: Some(hour),
        ..topic("t", 1)
    };
    let small = TopicSpec {
        retention_bytes: Some(10),
        ..topic("small", 1)
    };
    memory.declare(&[aged, small]).await.unwrap();
    memory.publish(&[numbered("t", "k", 0)]).await.unwrap();
    clock.advance(2 * hour);
    for n in 1..3 {
        memory.publish(&[numbered("t", "k", n)]).await.unwrap();
    }
    let mut reader = join(&memory, None, Start::Earliest).await;
    assert_eq!(take(&mut *reader, 10).await, ["k/1", "k/2"]);
    for n in 0..30 {
        memory.publish(&[numbered("small", "k", n)]).await.unwrap();
    }
    let spec = Subscribe {
        topics: vec!["small".into()],
        group: None,
        start: Start::Earliest,
        in_flight_max: 1_000,
    };
    let kept = take(&mut *memory.subscribe(&spec).await.unwrap(), 100).await;
    assert!(
        kept.len() <= 6,
        "two bytes each, ten bytes kept and the newest: {kept:?}"
    );
}

#[tokio::test]
async fn members_that_come_and_go_share_all_partitions() {
    let memory = Memory::new(Env::system());
    memory.declare(&[topic("t", 6)]).await.unwrap();
    let mut members = Vec::new();
    let mut published = 0;
    let mut got = 0;
    // Joining and leaving in many orders, always with something out while partitions move.
    for round in 0..60 {
        match round % 5 {
            0..=2 => members.push(join(&memory, Some("g"), Start::Committed).await),
            _ => drop(members.swap_remove(round % members.len())),
        }
        let batch: Vec<_> = (0..12)
            .map(|key| numbered("t", &format!("k{key}"), round))
            .collect();
        memory.publish(&batch).await.unwrap();
        published += batch.len();
        for member in &mut members {
            let next = futures::FutureExt::now_or_never(member.next(3));
            for delivery in next.into_iter().flat_map(Result::unwrap) {
                if got % 4 == 3 {
                    drop(delivery.receipt);
                } else {
                    delivery.receipt.ack();
                }
                got += 1;
            }
        }
    }
    while members.len() > 1 {
        members.pop();
    }
    let last = &mut members[0];
    let mut settled = 0;
    while last.lag().await.unwrap() > 0 {
        settled += take(&mut **last, 1_000).await.len();
    }
    assert!(settled > 0 && settled < published);
}

fn letter(id: &str, group: &str, key: &str, number: usize) -> DeadLetter {
    DeadLetter {
        id: id.into(),
        group: group.into(),
        key: key.into(),
        envelope: numbered("t", key, number),
        original: None,
        error: Some("refused".into()),
        code: None,
        retry: None,
        attempts: 1,
        replays: 0,
        recoveries: 0,
        parked_at: Timestamp::UNIX_EPOCH,
        failed_at: None,
        decided_at: None,
        retry_at: None,
    }
}

/// One that only waits behind another.
fn behind(id: &str, key: &str, number: usize) -> DeadLetter {
    DeadLetter {
        error: None,
        ..letter(id, "g", key, number)
    }
}

#[tokio::test]
async fn a_lot_keeps_nothing_behind_nothing() {
    let lot = MemoryLot::new(100);
    let free = lot.park(&[behind("0", "a", 0), behind("1", "b", 0)]).await;
    assert_eq!(free.unwrap(), ["a", "b"]);
    assert!(lot.parked_keys("g", None).await.unwrap().is_empty());
    let mixed = [
        letter("2", "g", "a", 1),
        behind("3", "a", 2),
        behind("4", "b", 1),
        letter("5", "g", "b", 2),
        behind("6", "b", 3),
    ];
    assert_eq!(lot.park(&mixed).await.unwrap(), ["b"]);
    let all = lot.list(&DeadLetterQuery::default()).await.unwrap();
    let ids: Vec<_> = all.iter().map(|letter| &*letter.id).collect();
    assert_eq!(
        ids,
        ["2", "3", "5"],
        "behind what was refused nothing is kept"
    );
    // The same again is there, and is no news.
    assert!(lot.park(&mixed[..2]).await.unwrap().is_empty());
    assert_eq!(lot.parked_keys("h", None).await.unwrap().len(), 0);
    let among = ["b".into(), "z".into()];
    assert_eq!(lot.parked_keys("g", Some(&among)).await.unwrap(), ["b"]);
}

#[tokio::test]
async fn a_lot_tells_of_changes_and_is_reserved_by_one() {
    let lot = MemoryLot::new(100);
    let mut changes = lot.changes();
    lot.park(&[letter("0", "g", "a", 0), behind("1", "a", 1)])
        .await
        .unwrap();
    lot.remove("0").await.unwrap();
    lot.remove("1").await.unwrap();
    let (group, key): (ByteString, ByteString) = ("g".into(), "a".into());
    let (other_group, other_key) = (group.clone(), key.clone());
    assert_eq!(changes.heard(), Some(Change::Parked { group, key }));
    let freed = Change::Freed {
        group: other_group,
        key: other_key,
    };
    assert_eq!(changes.heard(), Some(freed), "once, when the last is gone");
    assert_eq!(changes.heard(), None);

    let first = lot.reserve("g").await.unwrap();
    assert!(first.is_some());
    assert!(lot.reserve("g").await.unwrap().is_none());
    assert!(lot.reserve("h").await.unwrap().is_some());
    drop(first);
    assert!(lot.reserve("g").await.unwrap().is_some());
}

#[tokio::test]
async fn a_lot_keeps_order_filters_and_pages() {
    let lot = MemoryLot::new(5);
    let letters: Vec<_> = (0..4)
        .map(|n| letter(&format!("{n}"), "g", "a", n))
        .collect();
    lot.park(&letters).await.unwrap();
    lot.park(&letters).await.unwrap();
    lot.park(&[letter("4", "other", "b", 0)]).await.unwrap();
    let full = lot.park(&[letter("5", "g", "c", 0)]).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Overloaded);
    assert_eq!(lot.parked_keys("g", None).await.unwrap(), ["a"]);
    let query = DeadLetterQuery {
        group: Some("g".into()),
        limit: 2,
        ..Default::default()
    };
    let page = lot.list(&query).await.unwrap();
    assert_eq!(page.iter().map(|l| &*l.id).collect::<Vec<_>>(), ["0", "1"]);
    lot.remove("1").await.unwrap();
    assert_eq!(
        lot.remove("1").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let rest = lot
        .list(&DeadLetterQuery {
            after: Some("1".into()),
            ..query
        })
        .await
        .unwrap();
    assert_eq!(rest.iter().map(|l| &*l.id).collect::<Vec<_>>(), ["2", "3"]);
    assert_eq!(
        lot.update(&letter("1", "g", "a", 1))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
}
