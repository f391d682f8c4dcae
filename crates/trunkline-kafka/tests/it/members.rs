//! Members of a group that come and go while events are handled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use trunkline_bus::{Start, Transport as _};
use trunkline_kafka::Kafka;
use trunkline_testkit::{Expected, History, eventually, numbered, topic};

use crate::support::{COMES, group, ids, open, prefix, spec, take};

/// Handles events until it is told to stop; then it finishes what it has begun and leaves.
async fn work(kafka: Kafka, history: Arc<History>, stops: Arc<AtomicBool>) {
    let mut member = group(&kafka, "t").await;
    while !stops.load(Ordering::SeqCst) {
        let next = tokio::time::timeout(Duration::from_millis(20), member.next(8)).await;
        let Ok(deliveries) = next else { continue };
        for delivery in deliveries.expect("deliveries come") {
            if !delivery.receipt.begin() {
                continue;
            }
            history.began("g", &delivery.envelope);
            // Long enough for others to come meanwhile.
            tokio::time::sleep(Duration::from_millis(1)).await;
            history.ended("g", &delivery.envelope, true);
            delivery.receipt.ack();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_move_without_loss_overlap_or_a_second_handling() {
    const KEYS: usize = 12;
    const EACH: usize = 60;
    let kafka = open(&prefix(), "").await;
    kafka.declare(&[topic("t", 6)]).await.unwrap();
    let history = Arc::new(History::new());
    for n in 0..EACH {
        let batch: Vec<_> = (0..KEYS)
            .map(|key| numbered("t", &format!("k{key}"), n))
            .collect();
        kafka.publish(&batch).await.unwrap();
        batch.iter().for_each(|event| history.published(event));
    }
    let mut members = JoinSet::new();
    let mut stops = Vec::new();
    let come = |members: &mut JoinSet<()>| {
        let stop = Arc::new(AtomicBool::new(false));
        members.spawn(work(kafka.clone(), history.clone(), stop.clone()));
        stop
    };
    stops.push(come(&mut members));
    for share in [80, 200, 320] {
        eventually(COMES, async || history.handled("g") >= share).await;
        stops.push(come(&mut members));
    }
    eventually(COMES, async || history.handled("g") >= 420).await;
    stops[0].store(true, Ordering::SeqCst);
    eventually(COMES, async || history.handled("g") == KEYS * EACH).await;
    stops
        .iter()
        .for_each(|stop| stop.store(true, Ordering::SeqCst));
    while let Some(ended) = members.join_next().await {
        ended.expect("a member ends well");
    }
    // What was begun is waited for and what was done is committed before a partition moves.
    history.assert(&Expected::exactly_once(&["g"]));
    kafka.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_waits_for_what_has_begun_and_gives_away_what_has_not() {
    let kafka = open(&prefix(), "").await;
    kafka.declare(&[topic("t", 2)]).await.unwrap();
    for key in 0..8 {
        kafka
            .publish(&[numbered("t", &format!("k{key}"), 0)])
            .await
            .unwrap();
    }
    let mut first = group(&kafka, "t").await;
    let taken = take(&mut *first, 8).await;
    let (mut begun, mut idle) = (Vec::new(), Vec::new());
    for delivery in taken {
        // The first of each partition is being handled.
        let is_first = begun
            .iter()
            .all(|other: &trunkline_bus::Delivery| other.partition != delivery.partition);
        if is_first {
            assert!(delivery.receipt.begin());
            begun.push(delivery);
        } else {
            idle.push(delivery);
        }
    }
    assert_eq!(begun.len(), 2, "both partitions have events");
    let joining = {
        let kafka = kafka.clone();
        tokio::spawn(async move {
            let mut second = group(&kafka, "t").await;
            let delivery = take(&mut *second, 1).await.pop().unwrap();
            (second, delivery)
        })
    };
    // The move begins when nothing of one of the partitions may begin any more.
    let mut moving = None;
    let until = tokio::time::Instant::now() + COMES;
    while moving.is_none() {
        assert!(tokio::time::Instant::now() < until, "no partition moves");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let gone = idle.iter().position(|delivery| !delivery.receipt.begin());
        moving = gone.map(|at| idle.swap_remove(at).partition);
        if moving.is_none() {
            // They all began: their partitions wait for them until they are given back.
            let back: Vec<_> = std::mem::take(&mut idle);
            let count = back.len();
            drop(back);
            let again = tokio::time::timeout(COMES, take_again(&mut *first, count)).await;
            idle = again.unwrap();
        }
    }
    let moving = moving.unwrap();
    assert!(!joining.is_finished(), "what has begun there is not done");
    for delivery in begun {
        delivery.receipt.ack();
    }
    drop(idle);
    let (second, delivery) = tokio::time::timeout(COMES, joining).await.unwrap().unwrap();
    assert_eq!(delivery.partition, moving);
    assert_eq!(delivery.redeliveries, 0);
    drop((first, second));
}

/// Those that were given back, as far as they still come.
async fn take_again(
    member: &mut dyn trunkline_bus::Subscription,
    count: usize,
) -> Vec<trunkline_bus::Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(Duration::from_millis(200), member.next(count)).await;
        match next {
            Ok(got) => taken.extend(got.unwrap()),
            Err(_) => break,
        }
    }
    taken
}

#[tokio::test]
async fn a_group_that_nobody_is_in_moves_and_a_busy_one_does_not() {
    let kafka = open(&prefix(), "").await;
    kafka.declare(&[topic("t", 1)]).await.unwrap();
    let batch: Vec<_> = (0..4).map(|n| numbered("t", "k", n)).collect();
    kafka.publish(&batch).await.unwrap();
    let mut busy = group(&kafka, "t").await;
    for delivery in take(&mut *busy, 4).await {
        delivery.receipt.ack();
    }
    busy.flush().await.unwrap();
    // Another process asks, which knows nothing of the first.
    let other = open(&kafka_prefix(&kafka), "").await;
    let earliest = spec("t", Some("g"), Start::Earliest);
    let second = other.subscribe(&earliest).await.unwrap();
    assert_eq!(busy.lag().await.unwrap(), 0, "the group stays where it is");
    drop((busy, second));
    kafka.close().await.unwrap();
    other.close().await.unwrap();
    let kafka = open(&kafka_prefix(&other), "").await;
    let mut member = kafka
        .subscribe(&spec("t", Some("g"), Start::Offset(2)))
        .await
        .unwrap();
    assert_eq!(ids(&take(&mut *member, 2).await), ["k/2", "k/3"]);
}

/// The prefix, which `Debug` shows.
fn kafka_prefix(kafka: &Kafka) -> String {
    let text = format!("{kafka:?}");
    let (_, rest) = text.split_once("prefix: \"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}
