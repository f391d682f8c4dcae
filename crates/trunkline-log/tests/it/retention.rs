//! Retention: what is dropped, what is not, and that the rest goes on.

use std::time::Duration;

use trunkline_bus::{Start, TopicSpec, Transport};
use trunkline_core::Env;
use trunkline_log::Log;
use trunkline_testkit::{eventually, topic};

use crate::support::{drain, padded, read_all, segments, small, spec};

const LIMIT: Duration = Duration::from_secs(20);

async fn publish(log: &Log, range: std::ops::Range<usize>) {
    for n in range {
        log.publish(&[padded("k", n)]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn size_bounds_a_topic_and_a_restart_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(small(dir.path()), Env::system()).unwrap();
    let bounded = TopicSpec {
        retention_bytes: Some(100_000),
        ..topic("t", 1)
    };
    log.declare(&[bounded]).await.unwrap();
    publish(&log, 0..2000).await;
    eventually(LIMIT, async || segments(dir.path()).len() <= 5).await;
    let (all, error) = read_all(&log).await;
    assert!(error.is_none(), "{error:?}");
    let first = all.first().unwrap().1;
    assert!(
        first > 1000 && all.len() >= 100_000 / 400,
        "{first} {}",
        all.len()
    );
    assert!((first..2000).eq(all.iter().map(|(_, offset, _)| *offset)));
    drop(log);
    let log = Log::open(small(dir.path()), Env::system()).unwrap();
    let (again, error) = read_all(&log).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(again.len(), all.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn age_drops_segments_but_nothing_that_a_group_has_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (env, clock) = Env::manual(1);
    let log = Log::open(small(dir.path()), env).unwrap();
    let bounded = TopicSpec {
        retention: Some(Duration::from_secs(60)),
        ..topic("t", 1)
    };
    log.declare(&[bounded]).await.unwrap();
    let mut member = log
        .subscribe(&spec(Some("g"), Start::Committed))
        .await
        .unwrap();
    let member_of_gone = log
        .subscribe(&spec(Some("gone"), Start::Committed))
        .await
        .unwrap();
    drop(member_of_gone);
    publish(&log, 0..1000).await;
    clock.advance(Duration::from_secs(3600));
    publish(&log, 1000..1400).await;
    let before = segments(dir.path()).len();
    let (taken, error) = drain(&mut *member).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(taken.len(), 1400, "all is there for who has not had it");
    member.flush().await.unwrap();
    publish(&log, 1400..1800).await;
    assert!(
        segments(dir.path()).len() >= before,
        "another group has it all to do"
    );
    log.forget_group("gone").await.unwrap();
    publish(&log, 1800..2200).await;
    eventually(LIMIT, async || segments(dir.path()).len() < before).await;
    // What is left is whole, and the group goes on where it was.
    drop(member);
    drop(log);
    let log = Log::open(small(dir.path()), Env::system()).unwrap();
    let (all, error) = read_all(&log).await;
    assert!(error.is_none(), "{error:?}");
    assert!(all.first().unwrap().1 > 500);
    assert_eq!(all.last().unwrap().1, 2199);
    let member = log
        .subscribe(&spec(Some("g"), Start::Committed))
        .await
        .unwrap();
    assert_eq!(member.lag().await.unwrap(), 800);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_keeps_everything_keeps_it_beside_one_that_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(small(dir.path()), Env::system()).unwrap();
    let bounded = TopicSpec {
        retention_bytes: Some(0),
        ..topic("short", 1)
    };
    log.declare(&[bounded, topic("t", 1)]).await.unwrap();
    for n in 0..1000 {
        let mut other = padded("k", n);
        other.topic = "short".into();
        // Only the first and the last hundred events are of the topic that keeps everything.
        let is_kept = !(100..900).contains(&n);
        let batch = if is_kept {
            vec![padded("k", n), other]
        } else {
            vec![other]
        };
        log.publish(&batch).await.unwrap();
    }
    eventually(LIMIT, async || segments(dir.path()).len() < 5).await;
    drop(log);
    let log = Log::open(small(dir.path()), Env::system()).unwrap();
    let (all, error) = read_all(&log).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(all.len(), 200);
}
