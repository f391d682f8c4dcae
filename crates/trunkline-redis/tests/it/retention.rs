use trunkline_bus::Transport;
use trunkline_testkit::redis::Server;
use trunkline_testkit::{event, eventually, topic};

use super::*;

const EVENTS: usize = 2000;

async fn publish(bus: &Redis) {
    let batch: Vec<_> = (0..EVENTS)
        .map(|n| event("t", "k", &n.to_string(), "x".repeat(200)))
        .collect();
    bus.publish(&batch).await.unwrap();
}

fn length(prefix: &str) -> usize {
    cli(Server::shared(), &["XLEN", &format!("{prefix}{{t}}:0")])
        .parse()
        .unwrap()
}

async fn settle(bus: &Redis, count: usize) {
    let mut member = join(bus, "t", "g").await;
    let taken = take(&mut *member, count).await;
    taken.into_iter().for_each(|delivery| drop(ack(delivery)));
    member.flush().await.unwrap();
}

#[tokio::test]
async fn size_drops_the_oldest_but_nothing_that_a_group_has_yet_to_do() {
    let (bus, prefix) = fresh().await;
    let limited = TopicSpec {
        retention_bytes: Some(100_000),
        groups: vec!["g".into()],
        ..topic("t", 1)
    };
    bus.declare(&[limited]).await.unwrap();
    publish(&bus).await;
    bus.trim().await.unwrap();
    assert_eq!(length(&prefix), EVENTS, "the group has seen nothing of it");
    settle(&bus, 100).await;
    settle(&bus, 100).await;
    settle(&bus, 100).await;
    bus.trim().await.unwrap();
    let left = length(&prefix);
    // Blocks of entries go as a whole, so a little more may stay.
    assert!((EVENTS - 300..EVENTS - 100).contains(&left), "{left}");
    let mut member = join(&bus, "t", "g").await;
    assert_eq!(
        ids(&take(&mut *member, 1).await),
        ["300"],
        "nothing of the rest is gone"
    );
    cli(
        Server::shared(),
        &["XGROUP", "DESTROY", &format!("{prefix}{{t}}:0"), "g"],
    );
    bus.trim().await.unwrap();
    let left = length(&prefix);
    assert!(
        (50..600).contains(&left),
        "about what the bytes allow: {left}"
    );
}

#[tokio::test]
async fn age_drops_what_is_older_and_another_age_may_be_declared() {
    let (bus, prefix) = fresh().await;
    let aged = |age| TopicSpec {
        retention: Some(age),
        groups: vec!["g".into()],
        ..topic("t", 1)
    };
    bus.declare(&[aged(Duration::from_secs(3600))])
        .await
        .unwrap();
    publish(&bus).await;
    for _ in 0..EVENTS / 100 {
        settle(&bus, 100).await;
    }
    bus.trim().await.unwrap();
    assert_eq!(length(&prefix), EVENTS);
    bus.declare(&[aged(Duration::from_millis(1))])
        .await
        .unwrap();
    eventually(COMES, async || {
        bus.trim().await.unwrap();
        length(&prefix) <= 100
    })
    .await;
}
