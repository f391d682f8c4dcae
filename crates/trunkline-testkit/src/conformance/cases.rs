//! What every transport does.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a case fails by panicking"
)]

use std::collections::HashMap;

use trunkline_bus::{Start, Subscribe, TopicSpec};
use trunkline_core::{ErrorKind, Kind, Priority, Retry, TraceContext, Version};

use super::bench::{Bench, consume, ids, ids_of, quiet, spec, take};
use super::{Case, case};
use crate::{event, numbered, topic};

pub(super) fn all() -> Vec<Case> {
    vec![
        case!(an_event_comes_as_it_was_published),
        case!(empty_and_large_data_come_whole),
        case!(an_event_without_a_key_is_delivered),
        case!(an_empty_batch_is_published),
        case!(a_batch_keeps_its_order),
        case!(a_key_keeps_its_order_over_many_batches, needs ordered_by_key),
        case!(a_key_always_takes_the_same_partition, needs ordered_by_key),
        case!(concurrent_publishers_lose_nothing),
        case!(several_topics_come_through_one_subscription),
        case!(an_undeclared_topic_is_refused),
        case!(a_batch_with_a_bad_event_keeps_its_prefix, lacks atomic_batch),
        case!(a_batch_with_a_bad_event_is_not_published, needs atomic_batch),
        case!(declaring_again_changes_nothing),
        case!(declaring_another_shape_is_a_conflict),
        case!(bad_topics_are_refused),
        case!(a_bad_subscription_is_refused),
        case!(closing_wakes_who_waits),
        case!(closing_twice_is_fine_and_ends_everything),
        case!(next_is_cancel_safe),
        case!(next_gives_no_more_than_asked),
    ]
}

async fn an_event_comes_as_it_was_published(bench: Bench) {
    bench.declare("t", 1).await;
    let mut reader = bench.reader("t").await;
    let mut rich = event("t", "key ü", "id-1", r#"{"a":1.10}"#);
    rich.version = Version::new(2, 7);
    rich.causation_id = Some("cause".into());
    rich.user_id = Some("user".into());
    rich.trace = Some(TraceContext {
        trace_id: 7,
        span_id: 9,
        sampled: true,
    });
    rich.kind = Kind::Command;
    rich.priority = Priority::High;
    rich.extensions = vec![
        ("x".into(), "\"y\"".into()),
        ("empty".into(), "\"\"".into()),
    ];
    bench.publish(std::slice::from_ref(&rich)).await;
    let got = take(&mut *reader, 1).await;
    assert_eq!(got[0].envelope, rich);
    assert_eq!(got[0].redeliveries, 0);
}

async fn empty_and_large_data_come_whole(bench: Bench) {
    bench.declare("t", 1).await;
    let mut reader = bench.reader("t").await;
    let large: Vec<u8> = (0..1_000_000_u32)
        .map(|n| u8::try_from(n % 251).unwrap_or(0))
        .collect();
    let batch = [
        event("t", "k", "empty", ""),
        event("t", "k", "large", large.clone()),
    ];
    bench.publish(&batch).await;
    let got = consume(&mut *reader, 2).await;
    assert!(got[0].data.is_empty());
    assert_eq!(got[1].data, large);
}

async fn an_event_without_a_key_is_delivered(bench: Bench) {
    bench.declare("t", 3).await;
    let mut reader = bench.reader("t").await;
    let mut keyless = event("t", "", "id-1", "1");
    keyless.key = None;
    bench.publish(std::slice::from_ref(&keyless)).await;
    assert_eq!(consume(&mut *reader, 1).await, [keyless]);
}

async fn an_empty_batch_is_published(bench: Bench) {
    bench.declare("t", 1).await;
    bench.publish(&[]).await;
}

async fn a_batch_keeps_its_order(bench: Bench) {
    bench.declare("t", 1).await;
    let mut reader = bench.reader("t").await;
    bench.publish_numbered("t", "k", 0..100).await;
    let got = take(&mut *reader, 100).await;
    assert!(
        got.windows(2).all(|pair| pair[0].offset < pair[1].offset),
        "offsets rise"
    );
    assert_eq!(
        ids(got.iter().map(|delivery| &delivery.envelope)),
        ids_of("k", 0..100)
    );
}

async fn a_key_keeps_its_order_over_many_batches(bench: Bench) {
    bench.declare("t", 8).await;
    let mut reader = bench.reader("t").await;
    for round in 0..20 {
        let keys = (0..10).map(|key| format!("k{key}"));
        let batch: Vec<_> = keys
            .flat_map(|key| {
                [
                    numbered("t", &key, round * 2),
                    numbered("t", &key, round * 2 + 1),
                ]
            })
            .collect();
        bench.publish(&batch).await;
    }
    let mut by_key: HashMap<String, Vec<String>> = HashMap::new();
    for event in consume(&mut *reader, 400).await {
        let key = event.key.clone().unwrap_or_default().to_string();
        by_key.entry(key).or_default().push(event.id.to_string());
    }
    assert_eq!(by_key.len(), 10);
    for (key, got) in by_key {
        assert_eq!(got, ids_of(&key, 0..40));
    }
}

async fn a_key_always_takes_the_same_partition(bench: Bench) {
    bench.declare("t", 5).await;
    let mut reader = bench.reader("t").await;
    for n in 0..20 {
        let batch: Vec<_> = (0..10)
            .map(|key| numbered("t", &format!("k{key}"), n))
            .collect();
        bench.publish(&batch).await;
    }
    let mut partitions = HashMap::new();
    for delivery in take(&mut *reader, 200).await {
        assert!(delivery.partition < 5);
        let key = delivery.envelope.key.clone();
        let first = *partitions.entry(key).or_insert(delivery.partition);
        assert_eq!(first, delivery.partition);
    }
    let used: std::collections::HashSet<_> = partitions.values().collect();
    assert!(
        used.len() > 1,
        "ten keys should not all take one of five partitions"
    );
}

async fn concurrent_publishers_lose_nothing(bench: Bench) {
    bench.declare("t", 4).await;
    let mut reader = bench.reader("t").await;
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..8 {
        let transport = bench.transport.clone();
        publishers.spawn(async move {
            let key = format!("p{publisher}");
            for n in 0..50 {
                let event = numbered("t", &key, n);
                transport
                    .publish(&[event])
                    .await
                    .expect("an event is published");
            }
        });
    }
    let got = consume(&mut *reader, 400).await;
    publishers.join_all().await;
    for publisher in 0..8 {
        let key = format!("p{publisher}");
        let of_key = got
            .iter()
            .filter(|event| event.key.as_deref() == Some(&key));
        assert_eq!(ids(of_key), ids_of(&key, 0..50));
    }
}

async fn several_topics_come_through_one_subscription(bench: Bench) {
    bench.declare("a", 2).await;
    bench.declare("b.high", 1).await;
    let spec = Subscribe {
        topics: vec!["a".into(), "b.high".into()],
        ..spec("", None, Start::Latest)
    };
    let mut reader = bench.join(&spec).await;
    bench
        .publish(&[numbered("a", "k", 0), numbered("b.high", "k", 1)])
        .await;
    let mut got = consume(&mut *reader, 2).await;
    got.sort_by(|x, y| x.id.cmp(&y.id));
    assert_eq!(got[0].topic, "a");
    assert_eq!(got[1].topic, "b.high");
}

async fn an_undeclared_topic_is_refused(bench: Bench) {
    let refused = bench
        .transport
        .publish(&[numbered("nowhere", "k", 0)])
        .await
        .unwrap_err();
    assert_eq!(refused.accepted, 0);
    assert_eq!(refused.error.kind(), ErrorKind::NotFound);
    assert_eq!(refused.error.retry(), Retry::Permanent);
    let refused = bench
        .transport
        .subscribe(&spec("nowhere", Some("g"), Start::Committed))
        .await;
    assert_eq!(
        refused.expect_err("it is refused").kind(),
        ErrorKind::NotFound
    );
}

async fn a_batch_with_a_bad_event_keeps_its_prefix(bench: Bench) {
    bench.declare("t", 1).await;
    let mut reader = bench.reader("t").await;
    let batch = [
        numbered("t", "k", 0),
        numbered("nowhere", "k", 1),
        numbered("t", "k", 2),
    ];
    let refused = bench.transport.publish(&batch).await.unwrap_err();
    assert_eq!(
        refused.accepted, 1,
        "the error is about the event after the prefix"
    );
    assert_eq!(refused.error.retry(), Retry::Permanent);
    bench.publish(&[numbered("t", "k", 3)]).await;
    assert_eq!(ids(&consume(&mut *reader, 2).await), ["k/0", "k/3"]);
}

async fn a_batch_with_a_bad_event_is_not_published(bench: Bench) {
    bench.declare("t", 1).await;
    let mut reader = bench.reader("t").await;
    let batch = [
        numbered("t", "k", 0),
        numbered("nowhere", "k", 1),
        numbered("t", "k", 2),
    ];
    let refused = bench.transport.publish(&batch).await.unwrap_err();
    assert_eq!(refused.accepted, 0);
    bench.publish(&[numbered("t", "k", 3)]).await;
    assert_eq!(ids(&consume(&mut *reader, 1).await), ["k/3"]);
}

async fn declaring_again_changes_nothing(bench: Bench) {
    bench.declare("t", 3).await;
    let mut reader = bench.reader("t").await;
    bench.publish_numbered("t", "k", 0..3).await;
    bench.declare("t", 3).await;
    assert_eq!(ids(&consume(&mut *reader, 3).await), ids_of("k", 0..3));
}

async fn declaring_another_shape_is_a_conflict(bench: Bench) {
    bench.declare("t", 3).await;
    let refused = bench.transport.declare(&[topic("t", 4)]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    bench.publish_numbered("t", "k", 0..1).await;
}

async fn bad_topics_are_refused(bench: Bench) {
    let long = "x".repeat(201);
    for name in ["", "with space", "slash/", "ümlaut", long.as_str()] {
        let refused = bench.transport.declare(&[topic(name, 1)]).await;
        let kind = refused.expect_err("a bad name is refused").kind();
        assert_eq!(kind, ErrorKind::InvalidInput, "{name:?}");
    }
    let none = TopicSpec {
        partitions: 0,
        ..topic("t", 1)
    };
    let refused = bench.transport.declare(&[none]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    bench.declare(&"x".repeat(200), 1).await;
    bench.declare("A-z_0.9", 1).await;
}

async fn a_bad_subscription_is_refused(bench: Bench) {
    bench.declare("t", 1).await;
    let good = spec("t", None, Start::Latest);
    let nothing = Subscribe {
        topics: Vec::new(),
        ..good.clone()
    };
    let idle = Subscribe {
        in_flight_max: 0,
        ..good
    };
    for bad in [nothing, idle] {
        let refused = bench
            .transport
            .subscribe(&bad)
            .await
            .expect_err("it is refused");
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
}

async fn closing_wakes_who_waits(bench: Bench) {
    bench.declare("t", 1).await;
    let mut reader = bench.reader("t").await;
    let transport = bench.transport.clone();
    // `next` is polled first and blocks; then the transport is closed.
    let (next, closed) = futures::join!(reader.next(10), transport.close());
    closed.expect("it closes");
    match next {
        Ok(got) => assert!(got.is_empty(), "a closed transport delivers an empty batch"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
    }
}

async fn closing_twice_is_fine_and_ends_everything(bench: Bench) {
    bench.declare("t", 1).await;
    bench.transport.close().await.expect("it closes");
    bench.transport.close().await.expect("it closes again");
    let refused = bench
        .transport
        .publish(&[numbered("t", "k", 0)])
        .await
        .unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Unavailable);
    assert_eq!(refused.accepted, 0);
    let refused = bench
        .transport
        .subscribe(&spec("t", None, Start::Latest))
        .await;
    assert_eq!(
        refused.expect_err("it is closed").kind(),
        ErrorKind::Unavailable
    );
    let refused = bench.transport.declare(&[topic("u", 1)]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
}

async fn next_is_cancel_safe(bench: Bench) {
    bench.declare("t", 1).await;
    let mut reader = bench.reader("t").await;
    let transport = bench.transport.clone();
    let publisher = async move {
        for n in 0..200 {
            transport
                .publish(&[numbered("t", "k", n)])
                .await
                .expect("an event is published");
            tokio::task::yield_now().await;
        }
    };
    let consumer = async {
        let mut got = Vec::new();
        while got.len() < 200 {
            // A future that is dropped after one poll must not take deliveries with it.
            let once = futures::FutureExt::now_or_never(reader.next(3));
            for delivery in once
                .into_iter()
                .flat_map(|next| next.expect("deliveries come"))
            {
                got.push(super::bench::ack(delivery));
            }
            tokio::task::yield_now().await;
        }
        got
    };
    let (got, ()) = futures::join!(consumer, publisher);
    assert_eq!(ids(&got), ids_of("k", 0..200));
    quiet(&mut *reader).await;
}

async fn next_gives_no_more_than_asked(bench: Bench) {
    bench.declare("t", 2).await;
    let mut reader = bench.reader("t").await;
    bench.publish_numbered("t", "k", 0..10).await;
    for _ in 0..10 {
        let got = reader.next(1).await.expect("a delivery comes");
        assert_eq!(got.len(), 1);
    }
}
