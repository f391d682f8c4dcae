//! Starting somewhere else than where the group was.
#![expect(clippy::indexing_slicing, reason = "a case fails by panicking")]

use trunkline_bus::{Start, Subscribe};
use trunkline_core::{Env, ErrorKind};

use super::bench::{Bench, consume, ids, ids_of, quiet, spec, take};
use super::{Case, case};
use crate::numbered;

pub(super) fn all() -> Vec<Case> {
    vec![
        case!(earliest_starts_with_what_is_kept, needs replay),
        case!(latest_starts_with_what_comes),
        case!(an_offset_starts_there, needs replay),
        case!(an_offset_out_of_range_starts_at_the_nearest, needs replay),
        case!(a_time_starts_with_what_came_then, needs replay),
        case!(a_group_may_start_elsewhere, needs replay),
        case!(a_second_member_does_not_move_its_group, needs replay),
        case!(a_new_group_starts_at_the_earliest, needs replay),
        case!(a_reader_remembers_nothing, needs replay),
        case!(replay_is_refused, lacks replay),
    ]
}

async fn replay_is_refused(bench: Bench) {
    bench.declare("t", 1).await;
    let time = Start::Time(Env::system().now());
    for start in [Start::Earliest, Start::Offset(0), time] {
        let refused = bench.transport.subscribe(&spec("t", None, start)).await;
        let kind = refused.expect_err("it has no replay").kind();
        assert_eq!(kind, ErrorKind::Unsupported, "{start:?}");
    }
}

async fn a_new_group_starts_at_the_earliest(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..3).await;
    let mut member = bench.group("t", "undeclared").await;
    assert_eq!(ids(&consume(&mut *member, 3).await), ids_of("k", 0..3));
}

async fn a_reader_remembers_nothing(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..3).await;
    for _ in 0..2 {
        let mut reader = bench.reader_from("t", Start::Earliest).await;
        assert_eq!(ids(&consume(&mut *reader, 3).await), ids_of("k", 0..3));
    }
}

async fn earliest_starts_with_what_is_kept(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..5).await;
    let mut reader = bench.reader_from("t", Start::Earliest).await;
    assert_eq!(ids(&consume(&mut *reader, 5).await), ids_of("k", 0..5));
}

async fn latest_starts_with_what_comes(bench: Bench) {
    bench.declare("t", 3).await;
    bench.publish_numbered("t", "k", 0..5).await;
    let mut reader = bench.reader_from("t", Start::Latest).await;
    bench.publish_numbered("t", "k", 5..8).await;
    assert_eq!(ids(&consume(&mut *reader, 3).await), ids_of("k", 5..8));
    quiet(&mut *reader).await;
}

async fn an_offset_starts_there(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..10).await;
    let mut reader = bench.reader_from("t", Start::Earliest).await;
    let all = take(&mut *reader, 10).await;
    let from = all[6].offset;
    let mut later = bench.reader_from("t", Start::Offset(from)).await;
    let got = take(&mut *later, 4).await;
    assert_eq!(got[0].offset, from);
    assert_eq!(
        ids(got.iter().map(|delivery| &delivery.envelope)),
        ids_of("k", 6..10)
    );
}

async fn an_offset_out_of_range_starts_at_the_nearest(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..3).await;
    let mut reader = bench.reader_from("t", Start::Offset(u64::MAX)).await;
    quiet(&mut *reader).await;
    bench.publish_numbered("t", "k", 3..4).await;
    assert_eq!(ids(&consume(&mut *reader, 1).await), ids_of("k", 3..4));
}

async fn a_time_starts_with_what_came_then(bench: Bench) {
    bench.declare("t", 1).await;
    let env = Env::system();
    bench.publish_numbered("t", "k", 0..3).await;
    // Publishing has returned, so a later time lies behind it; wait until the clock has moved on.
    let published = env.now();
    let later = loop {
        let now = env.now();
        if now.as_millisecond() > published.as_millisecond() {
            break now;
        }
        tokio::task::yield_now().await;
    };
    bench.publish_numbered("t", "k", 3..6).await;
    let mut reader = bench.reader_from("t", Start::Time(later)).await;
    assert_eq!(ids(&consume(&mut *reader, 3).await), ids_of("k", 3..6));
    let long_ago = later
        .checked_sub(std::time::Duration::from_secs(3_600))
        .expect("a time");
    let mut reader = bench.reader_from("t", Start::Time(long_ago)).await;
    assert_eq!(ids(&consume(&mut *reader, 6).await), ids_of("k", 0..6));
    let to_come = later
        .checked_add(std::time::Duration::from_secs(3_600))
        .expect("a time");
    let mut reader = bench.reader_from("t", Start::Time(to_come)).await;
    quiet(&mut *reader).await;
}

async fn a_group_may_start_elsewhere(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..5).await;
    let mut member = bench.group("t", "g").await;
    consume(&mut *member, 5).await;
    member.flush().await.expect("it flushes");
    drop(member);
    // Nobody else is in the group, so the start moves it, and it goes on from there.
    let mut member = bench.join(&spec("t", Some("g"), Start::Earliest)).await;
    assert_eq!(ids(&consume(&mut *member, 3).await), ids_of("k", 0..3));
    member.flush().await.expect("it flushes");
    drop(member);
    let mut member = bench.group("t", "g").await;
    assert_eq!(ids(&consume(&mut *member, 2).await), ids_of("k", 3..5));
    drop(member);
    let mut member = bench.join(&spec("t", Some("g"), Start::Latest)).await;
    bench.publish(&[numbered("t", "k", 5)]).await;
    assert_eq!(ids(&consume(&mut *member, 1).await), ids_of("k", 5..6));
}

async fn a_second_member_does_not_move_its_group(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish_numbered("t", "k", 0..5).await;
    let mut first = bench.group("t", "g").await;
    consume(&mut *first, 5).await;
    first.flush().await.expect("it flushes");
    let second = Subscribe {
        start: Start::Earliest,
        ..spec("t", Some("g"), Start::Earliest)
    };
    let mut second = bench.join(&second).await;
    quiet(&mut *second).await;
    quiet(&mut *first).await;
}
