//! Groups: they share the work, remember where they were, and lose nothing.
#![expect(clippy::indexing_slicing, reason = "a case fails by panicking")]

use std::time::Duration;

use tokio::time::Instant;
use trunkline_bus::{Start, Subscribe, Subscription};
use trunkline_core::ErrorKind;

use super::bench::{Bench, ack, comes, consume, ids, ids_of, quiet, spec, take};
use super::{Case, case};
use crate::{Expected, History, numbered};

pub(super) fn all() -> Vec<Case> {
    vec![
        case!(a_declared_group_misses_nothing, needs groups),
        case!(groups_each_get_everything, needs groups),
        case!(readers_without_a_group_each_get_everything),
        case!(members_share_and_exclude_each_other, needs groups),
        case!(a_member_that_leaves_gives_its_share_back, needs groups),
        case!(a_group_goes_on_where_it_was, needs groups),
        case!(a_dropped_receipt_is_delivered_again, needs groups),
        case!(dropped_receipts_come_again_in_order, needs groups),
        case!(a_retry_comes_after_its_pause, needs groups),
        case!(a_retry_holds_back_nobody_else, needs groups),
        case!(in_flight_is_bounded, needs groups),
        case!(flush_waits_for_settlements, needs groups),
        case!(lag_counts_what_is_not_settled, needs groups),
        case!(a_late_settlement_is_ignored, needs groups),
        case!(groups_are_refused, lacks groups),
    ]
}

async fn groups_are_refused(bench: Bench) {
    bench.declare("t", 1).await;
    let refused = bench
        .transport
        .subscribe(&spec("t", Some("g"), Start::Committed))
        .await;
    assert_eq!(
        refused.expect_err("it has no groups").kind(),
        ErrorKind::Unsupported
    );
}

async fn a_declared_group_misses_nothing(bench: Bench) {
    bench.declare_for("t", 3, &["g"]).await;
    bench.publish_numbered("t", "k", 0..3).await;
    bench.declare_for("t", 3, &["later", "g"]).await;
    bench.publish_numbered("t", "k", 3..6).await;
    // Naming fewer takes none away.
    bench.declare_for("t", 3, &[]).await;
    let mut member = bench.group("t", "g").await;
    assert_eq!(ids(&consume(&mut *member, 6).await), ids_of("k", 0..6));
    quiet(&mut *member).await;
    let mut later = bench.group("t", "later").await;
    let got = ids(&take(&mut *later, 3)
        .await
        .into_iter()
        .map(ack)
        .collect::<Vec<_>>());
    // What was published before it was declared comes too, where the engine still has it.
    assert!(
        got == ids_of("k", 0..3) || got == ids_of("k", 3..6),
        "{got:?}"
    );
}

async fn groups_each_get_everything(bench: Bench) {
    bench.declare("t", 2).await;
    let mut first = bench.group("t", "first").await;
    bench.publish_numbered("t", "k", 0..10).await;
    let mut second = bench.group("t", "second").await;
    assert_eq!(ids(&consume(&mut *first, 10).await), ids_of("k", 0..10));
    assert_eq!(ids(&consume(&mut *second, 10).await), ids_of("k", 0..10));
}

async fn readers_without_a_group_each_get_everything(bench: Bench) {
    bench.declare("t", 1).await;
    let mut first = bench.reader("t").await;
    let mut second = bench.reader("t").await;
    bench.publish_numbered("t", "k", 0..5).await;
    assert_eq!(ids(&consume(&mut *first, 5).await), ids_of("k", 0..5));
    assert_eq!(ids(&consume(&mut *second, 5).await), ids_of("k", 0..5));
}

async fn members_share_and_exclude_each_other(bench: Bench) {
    const KEYS: usize = 16;
    bench.declare("t", 8).await;
    let history = std::sync::Arc::new(History::new());
    let members = [bench.group("t", "g").await, bench.group("t", "g").await];
    for n in 0..20 {
        let batch: Vec<_> = (0..KEYS)
            .map(|key| numbered("t", &format!("k{key}"), n))
            .collect();
        bench.publish(&batch).await;
        batch.iter().for_each(|event| history.published(event));
    }
    let mut work = tokio::task::JoinSet::new();
    for mut member in members {
        let history = history.clone();
        work.spawn(async move {
            let mut count = 0_usize;
            loop {
                for delivery in member.next(5).await.expect("deliveries come") {
                    history.began("g", &delivery.envelope);
                    tokio::task::yield_now().await;
                    history.ended("g", &delivery.envelope, true);
                    delivery.receipt.ack();
                    count += 1;
                }
                if history.handled("g") == KEYS * 20 {
                    return (count, member);
                }
                if count > KEYS * 20 {
                    panic!("more was delivered than was published");
                }
            }
        });
    }
    // The member that gets the last event ends; the other waits for more, and is woken by it.
    let (count, member) = work
        .join_next()
        .await
        .expect("two members")
        .expect("one ends");
    assert!(count < KEYS * 20, "one member got everything");
    drop(member);
    history.assert(&Expected::exactly_once(&["g"]));
    work.shutdown().await;
}

async fn a_member_that_leaves_gives_its_share_back(bench: Bench) {
    bench.declare("t", 4).await;
    let mut stays = bench.group("t", "g").await;
    let mut leaves = bench.group("t", "g").await;
    for key in 0..20 {
        bench.publish_numbered("t", &format!("k{key}"), 0..1).await;
    }
    let held = leaves.next(3).await.expect("deliveries come");
    assert!(!held.is_empty());
    drop(leaves);
    drop(held);
    let mut got = ids(&consume(&mut *stays, 20).await);
    got.sort();
    got.dedup();
    assert_eq!(
        got.len(),
        20,
        "all come, those that the other held included"
    );
}

async fn a_group_goes_on_where_it_was(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..4).await;
    let mut member = bench.group("t", "g").await;
    consume(&mut *member, 2).await;
    member.flush().await.expect("it flushes");
    drop(member);
    let mut member = bench.group("t", "g").await;
    bench.publish_numbered("t", "k", 4..6).await;
    assert_eq!(ids(&consume(&mut *member, 4).await), ids_of("k", 2..6));
    quiet(&mut *member).await;
}

async fn a_dropped_receipt_is_delivered_again(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..1).await;
    let mut member = bench.group("t", "g").await;
    drop(take(&mut *member, 1).await);
    let again = take(&mut *member, 1).await;
    assert_eq!(
        ids(again.iter().map(|delivery| &delivery.envelope)),
        ["k/0"]
    );
    assert!(again[0].redeliveries >= 1, "it says that it came before");
    again
        .into_iter()
        .for_each(|delivery| delivery.receipt.ack());
    quiet(&mut *member).await;
}

async fn dropped_receipts_come_again_in_order(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..6).await;
    let mut member = bench.group("t", "g").await;
    let taken = take(&mut *member, 5).await;
    drop(member);
    drop(taken);
    let mut member = bench.group("t", "g").await;
    assert_eq!(ids(&consume(&mut *member, 6).await), ids_of("k", 0..6));
}

async fn a_retry_comes_after_its_pause(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..1).await;
    let mut member = bench.group("t", "g").await;
    let taken = take(&mut *member, 1).await;
    let pause = Duration::from_millis(150);
    let began = Instant::now();
    taken
        .into_iter()
        .for_each(|delivery| delivery.receipt.retry(pause));
    assert_eq!(ids(&consume(&mut *member, 1).await), ["k/0"]);
    assert!(
        began.elapsed() >= pause,
        "it came after {:?}",
        began.elapsed()
    );
}

async fn a_retry_holds_back_nobody_else(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..1).await;
    let mut member = bench.group("t", "g").await;
    let taken = take(&mut *member, 1).await;
    taken
        .into_iter()
        .for_each(|delivery| delivery.receipt.retry(Duration::from_secs(3_600)));
    bench.publish_numbered("t", "other", 0..3).await;
    assert_eq!(ids(&consume(&mut *member, 3).await), ids_of("other", 0..3));
}

async fn in_flight_is_bounded(bench: Bench) {
    bench.declare("t", 3).await;
    for key in 0..10 {
        bench.publish_numbered("t", &format!("k{key}"), 0..1).await;
    }
    let spec = Subscribe {
        in_flight_max: 3,
        ..spec("t", Some("g"), Start::Committed)
    };
    let mut member = bench.join(&spec).await;
    let mut held = Vec::new();
    while held.len() < 3 {
        held.extend(member.next(100).await.expect("deliveries come"));
    }
    assert_eq!(held.len(), 3);
    quiet(&mut *member).await;
    held.pop()
        .into_iter()
        .for_each(|delivery| delivery.receipt.ack());
    let more = take(&mut *member, 1).await;
    quiet(&mut *member).await;
    held.into_iter()
        .chain(more)
        .for_each(|delivery| drop(ack(delivery)));
    assert_eq!(consume(&mut *member, 3).await.len(), 3);
}

async fn flush_waits_for_settlements(bench: Bench) {
    bench.declare("t", 2).await;
    for key in 0..10 {
        bench.publish_numbered("t", &format!("k{key}"), 0..1).await;
    }
    let mut member = bench.group("t", "g").await;
    consume(&mut *member, 10).await;
    member.flush().await.expect("it flushes");
    drop(member);
    let mut member = bench.group("t", "g").await;
    quiet(&mut *member).await;
}

async fn lag_counts_what_is_not_settled(bench: Bench) {
    bench.declare("t", 2).await;
    let mut member = bench.group("t", "g").await;
    lag_becomes(&mut *member, 0).await;
    for key in 0..10 {
        bench.publish_numbered("t", &format!("k{key}"), 0..1).await;
    }
    lag_becomes(&mut *member, 10).await;
    let taken = take(&mut *member, 10).await;
    lag_becomes(&mut *member, 10).await;
    let mut taken = taken.into_iter();
    taken
        .by_ref()
        .take(4)
        .for_each(|delivery| drop(ack(delivery)));
    lag_becomes(&mut *member, 6).await;
    taken.for_each(|delivery| drop(ack(delivery)));
    lag_becomes(&mut *member, 0).await;
}

async fn lag_becomes(member: &mut dyn Subscription, expected: u64) {
    let until = Instant::now() + comes();
    loop {
        let lag = member.lag().await.expect("it tells its lag");
        if lag == expected {
            return;
        }
        assert!(
            Instant::now() < until,
            "the lag is {lag} and does not become {expected}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn a_late_settlement_is_ignored(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..1).await;
    let mut first = bench.group("t", "g").await;
    let late = take(&mut *first, 1).await;
    drop(first);
    let mut second = bench.group("t", "g").await;
    let again = take(&mut *second, 1).await;
    // The delivery is the second member's now: the first one's nack must not give it out once more.
    drop(late);
    quiet(&mut *second).await;
    assert_eq!(
        ids(&again.into_iter().map(ack).collect::<Vec<_>>()),
        ["k/0"]
    );
}
