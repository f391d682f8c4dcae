//! What outlives the process, and what does not.
#![expect(clippy::indexing_slicing, reason = "a case fails by panicking")]

use trunkline_bus::Start;

use super::bench::{Bench, ack, consume, ids, ids_of, quiet, take};
use super::{Case, case};
use crate::numbered;

pub(super) fn all() -> Vec<Case> {
    vec![
        case!(events_outlive_a_restart, needs durable),
        case!(topics_outlive_a_restart, needs durable),
        case!(a_group_resumes_after_a_restart, needs durable),
        case!(a_group_resumes_at_its_lowest_unfinished_event, needs durable),
        case!(a_retry_outlives_a_restart, needs durable),
        case!(events_do_not_outlive_a_restart, lacks durable),
    ]
}

async fn events_outlive_a_restart(mut bench: Bench) {
    bench.declare("t", 3).await;
    bench.publish_numbered("t", "k", 0..10).await;
    bench.reopen().await;
    bench.declare("t", 3).await;
    bench.publish_numbered("t", "k", 10..12).await;
    let mut member = bench.group("t", "g").await;
    assert_eq!(ids(&consume(&mut *member, 12).await), ids_of("k", 0..12));
}

async fn topics_outlive_a_restart(mut bench: Bench) {
    bench.declare("t", 3).await;
    bench.reopen().await;
    let refused = bench.transport.declare(&[crate::topic("t", 4)]).await;
    assert!(refused.is_err(), "the topic is there with its shape");
    bench.publish_numbered("t", "k", 0..1).await;
}

async fn a_group_resumes_after_a_restart(mut bench: Bench) {
    bench.declare("t", 4).await;
    for key in 0..10 {
        bench.publish_numbered("t", &format!("k{key}"), 0..1).await;
    }
    let mut member = bench.group("t", "g").await;
    consume(&mut *member, 10).await;
    member.flush().await.expect("it flushes");
    drop(member);
    bench.reopen().await;
    bench.publish(&[numbered("t", "new", 0)]).await;
    let mut member = bench.group("t", "g").await;
    assert_eq!(ids(&consume(&mut *member, 1).await), ["new/0"]);
    quiet(&mut *member).await;
}

async fn a_group_resumes_at_its_lowest_unfinished_event(mut bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..10).await;
    let mut member = bench.group("t", "g").await;
    let mut left = Vec::new();
    for (n, delivery) in take(&mut *member, 10).await.into_iter().enumerate() {
        if n < 3 || n == 5 {
            ack(delivery);
        } else {
            left.push(delivery);
        }
    }
    member.flush().await.expect("it flushes");
    drop(member);
    drop(left);
    bench.reopen().await;
    let mut member = bench.group("t", "g").await;
    let first = take(&mut *member, 6).await;
    let mut got = ids(first.iter().map(|delivery| &delivery.envelope));
    assert_eq!(
        got[0], "k/3",
        "the lowest unfinished event comes first, and nothing before it"
    );
    // What was acknowledged beyond it may come again or not; what was not must.
    if got.contains(&"k/5".to_owned()) {
        got.extend(ids(&consume(&mut *member, 1).await));
    }
    got.retain(|id| id != "k/5");
    assert_eq!(got, ["k/3", "k/4", "k/6", "k/7", "k/8", "k/9"]);
}

async fn a_retry_outlives_a_restart(mut bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..1).await;
    let mut member = bench.group("t", "g").await;
    let pause = std::time::Duration::from_secs(3_600);
    take(&mut *member, 1)
        .await
        .into_iter()
        .for_each(|delivery| delivery.receipt.retry(pause));
    member.flush().await.expect("it flushes");
    drop(member);
    bench.reopen().await;
    let mut member = bench.group("t", "g").await;
    // The pause itself need not outlive the restart; the event must. Another one shows which.
    bench.publish_numbered("t", "k", 1..2).await;
    let first = consume(&mut *member, 1).await;
    if ids(&first) == ["k/1"] {
        assert_eq!(
            member.lag().await.expect("it tells its lag"),
            1,
            "the event still waits"
        );
    } else {
        assert_eq!(ids(&first), ["k/0"]);
    }
}

async fn events_do_not_outlive_a_restart(mut bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..3).await;
    bench.reopen().await;
    bench.declare("t", 1).await;
    let replays = bench.transport.capabilities().replay;
    let start = if replays {
        Start::Earliest
    } else {
        Start::Latest
    };
    let mut reader = bench.reader_from("t", start).await;
    bench.publish_numbered("t", "k", 3..4).await;
    assert_eq!(ids(&consume(&mut *reader, 1).await), ids_of("k", 3..4));
}
