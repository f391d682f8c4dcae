use async_nats::jetstream::consumer::PullConsumer;
use trunkline_testkit::eventually;

use super::*;

#[tokio::test]
async fn who_dies_without_a_word_is_replaced_and_nothing_is_out_of_order() {
    let (nats, _, prefix) = two("").await;
    declare(&nats, "t", 2, &["g"]).await;
    for key in ["a", "b", "c", "d"] {
        publish(&nats, key, 0..10).await;
    }
    // A runtime that ends takes all its tasks and connections along, as a process that is killed does.
    let dying = tokio::runtime::Runtime::new().unwrap();
    let parameters = format!("prefix={prefix}&lease_ms=1000");
    let dead = dying.spawn(async move {
        let nats = open(Server::shared(), &parameters).await;
        let mut member = join(&nats, "t", "g").await;
        let taken = take(&mut *member, 20).await;
        let mut taken = taken.into_iter();
        taken
            .by_ref()
            .take(5)
            .for_each(|delivery| delivery.receipt.ack());
        member.flush().await.unwrap();
        (nats, member, taken.collect::<Vec<_>>())
    });
    let (dead_nats, mut dead_member, left) = dead.await.unwrap();
    dying.shutdown_background();
    let mut heir = join(&nats, "t", "g").await;
    let taken = take(&mut *heir, 35).await;
    for key in ["a", "b", "c", "d"] {
        let of_key: Vec<_> = ids(&taken)
            .into_iter()
            .filter(|id| id.starts_with(key))
            .collect();
        let first = 10 - of_key.len();
        let expected: Vec<_> = (first..10).map(|n| format!("{key}/{n}")).collect();
        assert_eq!(of_key, expected, "nothing is skipped, nothing comes twice");
    }
    let begun = left
        .iter()
        .filter(|delivery| delivery.receipt.begin())
        .count();
    assert_eq!(begun, 0, "they are another member's by now");
    drop(left);
    assert!(dead_member.next(1).await.is_err());
    drop((dead_member, dead_nats));
    quiet(&mut *heir).await;
}

#[tokio::test]
async fn a_long_pause_is_left_to_the_server_and_holds_back_nobody() {
    let (nats, _, prefix) = two("ack_wait_ms=300").await;
    declare(&nats, "t", 1, &["g"]).await;
    publish(&nats, "k", 0..1).await;
    let mut member = join(&nats, "t", "g").await;
    let began = tokio::time::Instant::now();
    let pause = Duration::from_millis(900);
    for delivery in take(&mut *member, 1).await {
        delivery.receipt.retry(pause);
    }
    member.flush().await.unwrap();
    publish(&nats, "other", 0..3).await;
    let others = take(&mut *member, 3).await;
    assert!(ids(&others).iter().all(|id| id.starts_with("other")));
    ack(others);
    let again = take(&mut *member, 1).await;
    assert_eq!(ids(&again), ["k/0"]);
    assert!(began.elapsed() >= pause);
    assert!(again[0].redeliveries >= 1);
    ack(again);
    member.flush().await.unwrap();
    assert_eq!(member.lag().await.unwrap(), 0);
    // The others, settled behind it, were not taken for lost meanwhile.
    let stream = format!("{}t", prefix.replace('.', "="));
    let bare = bare(Server::shared()).await;
    let mut consumer: PullConsumer = bare.get_consumer_from_stream("g-0", &stream).await.unwrap();
    assert_eq!(
        consumer.info().await.unwrap().delivered.consumer_sequence,
        5
    );
}

#[tokio::test]
async fn the_server_does_not_think_lost_what_takes_long() {
    let (nats, _, prefix) = two("ack_wait_ms=600").await;
    declare(&nats, "t", 1, &["g"]).await;
    publish(&nats, "k", 0..3).await;
    let mut member = join(&nats, "t", "g").await;
    let taken = take(&mut *member, 3).await;
    // Handling takes three times as long as the server waits.
    assert!(
        tokio::time::timeout(Duration::from_millis(1_800), member.next(1))
            .await
            .is_err()
    );
    let stream = format!("{}t", prefix.replace('.', "="));
    let bare = bare(Server::shared()).await;
    let mut consumer: PullConsumer = bare.get_consumer_from_stream("g-0", &stream).await.unwrap();
    assert_eq!(consumer.info().await.unwrap().num_ack_pending, 3);
    assert_eq!(consumer.info().await.unwrap().num_redelivered, 0);
    ack(taken);
    member.flush().await.unwrap();
    assert_eq!(consumer.info().await.unwrap().num_ack_pending, 0);
}

#[tokio::test]
async fn what_has_begun_keeps_its_partition_until_it_is_settled() {
    let (one, two, _) = two("").await;
    declare(&one, "t", 2, &["g"]).await;
    for key in 0..8 {
        publish(&one, &format!("k{key}"), 0..1).await;
    }
    let mut first = join(&one, "t", "g").await;
    let taken = take(&mut *first, 8).await;
    let (begun, rest): (Vec<_>, Vec<_>) = taken
        .into_iter()
        .partition(|delivery| delivery.partition == 1);
    assert!(!begun.is_empty() && !rest.is_empty());
    assert!(begun.iter().all(|delivery| delivery.receipt.begin()));
    let mut second = join(&two, "t", "g").await;
    // The other partition's deliveries are settled; the one that moves has work that has begun.
    ack(rest);
    first.flush().await.unwrap();
    quiet(&mut *second).await;
    let expected = ids(&begun);
    drop(begun);
    let moved = take(&mut *second, expected.len()).await;
    assert_eq!(ids(&moved), expected);
    assert!(moved.iter().all(|delivery| delivery.partition == 1));
    quiet(&mut *first).await;
}

#[tokio::test]
async fn a_group_is_moved_only_when_nobody_lives_in_it() {
    let (one, two, _) = two("").await;
    declare(&one, "t", 1, &["g"]).await;
    publish(&one, "k", 0..3).await;
    let mut first = join(&one, "t", "g").await;
    ack(take(&mut *first, 3).await);
    first.flush().await.unwrap();
    let earliest = Subscribe {
        start: Start::Earliest,
        ..spec("t", Some("g"))
    };
    let mut second = two.subscribe(&earliest).await.unwrap();
    drop(first);
    quiet(&mut *second).await;
    drop(second);
    let mut third = two.subscribe(&earliest).await.unwrap();
    assert_eq!(ids(&take(&mut *third, 3).await), ["k/0", "k/1", "k/2"]);
}

#[tokio::test]
async fn a_lost_connection_ends_the_subscription_and_the_next_one_goes_on() {
    let server = Server::start();
    let nats = open(&server, "lease_ms=1000&timeout_ms=2000").await;
    declare(&nats, "t", 1, &["g"]).await;
    publish(&nats, "k", 0..5).await;
    let mut member = join(&nats, "t", "g").await;
    let taken = take(&mut *member, 5).await;
    let mut taken = taken.into_iter();
    ack(taken.by_ref().take(2).collect());
    member.flush().await.unwrap();
    server.kill();
    let lost = tokio::time::timeout(COMES, member.next(1)).await.unwrap();
    assert_eq!(
        lost.unwrap_err().kind(),
        trunkline_core::ErrorKind::Unavailable
    );
    assert!(member.flush().await.is_err());
    let refused = nats.publish(&[numbered("t", "k", 5)]).await.unwrap_err();
    assert_eq!(refused.accepted, 0);
    server.restart();
    eventually(COMES, async || {
        nats.publish(&[numbered("t", "k", 5)]).await.is_ok()
    })
    .await;
    drop(member);
    // The server writes down what is settled a little later: the first two may come again.
    let mut member = join(&nats, "t", "g").await;
    let mut came = take(&mut *member, 4).await;
    if came[0].envelope.id == "k/0" {
        came.extend(take(&mut *member, 2).await);
        came.drain(..2).for_each(|delivery| delivery.receipt.ack());
    }
    assert_eq!(ids(&came), ["k/2", "k/3", "k/4", "k/5"]);
}
