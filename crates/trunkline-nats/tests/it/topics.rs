use async_nats::jetstream::stream::Config;
use trunkline_core::ErrorKind;

use super::*;

#[tokio::test]
async fn topics_with_awkward_names_do_not_meet() {
    let (nats, _) = fresh().await;
    let names = ["a.b", "a..b", ".a", "a.", "a", "a.0", "a=b"];
    for name in &names[..6] {
        declare(&nats, name, 2, &["g h", "g.h"]).await;
        nats.publish(&[numbered(name, "k", 0)]).await.unwrap();
    }
    for name in &names[..6] {
        for group in ["g h", "g.h"] {
            let mut member = join(&nats, name, group).await;
            let taken = take(&mut *member, 1).await;
            assert_eq!(taken[0].envelope.topic, *name);
            quiet(&mut *member).await;
        }
    }
    let refused = nats.declare(&[topic(names[6], 1)]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn retention_may_change_and_somebody_elses_stream_is_a_conflict() {
    let (nats, prefix) = fresh().await;
    declare(&nats, "t", 2, &[]).await;
    let bare = bare(Server::shared()).await;
    let stream = format!("{}t", prefix.replace('.', "="));
    let retained = TopicSpec {
        retention: Some(Duration::from_secs(60)),
        retention_bytes: Some(1 << 20),
        ..topic("t", 2)
    };
    nats.declare(&[retained]).await.unwrap();
    let config = bare
        .get_stream(&stream)
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    assert_eq!(
        (config.max_age, config.max_bytes),
        (Duration::from_secs(60), 1 << 20)
    );
    assert!(config.duplicate_window <= config.max_age);
    let other = Config {
        name: format!("{}u", prefix.replace('.', "=")),
        subjects: vec![format!("{prefix}u.>")],
        ..Config::default()
    };
    bare.create_stream(other).await.unwrap();
    let refused = nats.declare(&[topic("u", 1)]).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Conflict, "topic_conflict")
    );
}

#[tokio::test]
async fn an_event_that_is_sent_twice_is_taken_once_within_the_window() {
    for (parameters, expected) in [("", 2), ("dedup_window_ms=0", 3)] {
        let (nats, _, _) = two(parameters).await;
        declare(&nats, "t", 1, &["g"]).await;
        publish(&nats, "k", 0..1).await;
        publish(&nats, "k", 0..1).await;
        publish(&nats, "k", 1..2).await;
        let mut member = join(&nats, "t", "g").await;
        let taken = take(&mut *member, expected).await;
        assert_eq!(ids(&taken).last().unwrap(), "k/1");
        quiet(&mut *member).await;
    }
}
