//! What a cluster of several brokers may answer, by the client library's mock of one.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Answer};
use trunkline_bus::{Delivery, Start, Subscribe, Transport as _};
use trunkline_core::{Env, ErrorKind, Retry};
use trunkline_kafka::{Kafka, KafkaConfig, connect};
use trunkline_testkit::{event, numbered};

use crate::support::{group, ids, spec, take};

type Mock = MockCluster<'static, DefaultProducerContext>;

async fn cluster(more: &str) -> (Mock, Kafka) {
    let mock = MockCluster::new(3).unwrap();
    mock.create_topic("t", 4, 3).unwrap();
    let settings = "session_ms=6000&heartbeat_ms=100&commit_ms=20";
    let url = format!("kafka://{}?{settings}&{more}", mock.bootstrap_servers());
    let kafka = connect(KafkaConfig::from_url(&url).unwrap(), Env::system());
    (mock, kafka.await.expect("it connects"))
}

fn batch(range: std::ops::Range<usize>) -> Vec<trunkline_core::Envelope> {
    range.map(|n| numbered("t", "k", n)).collect()
}

#[tokio::test]
async fn what_brokers_refuse_for_now_is_sent_again_once_and_in_order() {
    let (mock, kafka) = cluster("").await;
    kafka.publish(&batch(0..10)).await.unwrap();
    let answers = [
        Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Answer::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Answer::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        // The connection is cut in the middle.
        Answer::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    mock.request_errors(Api::Produce, &answers);
    kafka.publish(&batch(10..30)).await.unwrap();
    kafka.publish(&batch(30..40)).await.unwrap();
    let mut reader = kafka
        .subscribe(&spec("t", None, Start::Earliest))
        .await
        .unwrap();
    let expected: Vec<String> = (0..40).map(|n| format!("k/{n}")).collect();
    assert_eq!(ids(&take(&mut *reader, 40).await), expected);
}

#[tokio::test]
async fn what_brokers_refuse_for_good_is_told() {
    let (mock, kafka) = cluster("").await;
    kafka.publish(&batch(0..1)).await.unwrap();
    let denied = Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    mock.request_errors(Api::Produce, &[denied]);
    let refused = kafka.publish(&batch(1..3)).await.unwrap_err();
    assert_eq!(
        (refused.accepted, refused.error.kind()),
        (0, ErrorKind::PermissionDenied)
    );
    assert_eq!(refused.error.retry(), Retry::Permanent);
    kafka.publish(&batch(1..3)).await.unwrap();
}

#[tokio::test]
async fn one_event_that_is_too_large_for_a_broker_does_not_refuse_its_whole_batch() {
    let (mock, kafka) = cluster("linger_us=100000").await;
    kafka.publish(&batch(0..1)).await.unwrap();
    let large = Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    mock.request_errors(Api::Produce, &[large]);
    kafka
        .publish(&batch(1..5))
        .await
        .expect("each is taken by itself");
    let mut reader = kafka
        .subscribe(&spec("t", None, Start::Earliest))
        .await
        .unwrap();
    assert_eq!(
        ids(&take(&mut *reader, 5).await),
        ["k/0", "k/1", "k/2", "k/3", "k/4"]
    );
}

#[tokio::test]
async fn a_producer_whose_queue_is_full_is_waited_for() {
    let (mock, kafka) = cluster("").await;
    // Slow enough that 64 MiB are waiting before much has left.
    for broker in 1..=3 {
        let trip = Duration::from_millis(100);
        mock.broker_round_trip_time(broker, trip).unwrap();
    }
    let large = |n: usize| event("t", "k", &format!("k/{n}"), vec![b'x'; 1_000_000]);
    let batch: Vec<_> = (0..80).map(large).collect();
    kafka.publish(&batch).await.expect("it is taken bit by bit");
    let mut reader = kafka
        .subscribe(&spec("t", None, Start::Earliest))
        .await
        .unwrap();
    // The mock keeps the last of them.
    let mut kept = take(&mut *reader, 1).await;
    while kept.last().unwrap().envelope.id != "k/79" {
        kept.extend(take(&mut *reader, 1).await);
    }
}

#[tokio::test]
async fn a_batch_of_many_events_keeps_order_and_topics_and_ends_at_its_first_mistake() {
    let (mock, kafka) = cluster("event_bytes_max=5000").await;
    mock.create_topic("u", 1, 3).unwrap();
    let mut many: Vec<_> = (0..700)
        .map(|n| numbered(if n % 3 == 0 { "u" } else { "t" }, "k", n))
        .collect();
    many[600].data = vec![b'x'; 6_000].into();
    let refused = kafka.publish(&many).await.unwrap_err();
    assert_eq!(
        (refused.accepted, refused.error.kind()),
        (600, ErrorKind::TooLarge)
    );
    for (topic, is_its) in [("u", true), ("t", false)] {
        let numbers = (0..600).filter(|n| (n % 3 == 0) == is_its);
        let expected: Vec<_> = numbers.map(|n| format!("k/{n}")).collect();
        let spec = spec(topic, None, Start::Earliest);
        let mut reader = kafka.subscribe(&spec).await.unwrap();
        let got = ids(&take(&mut *reader, expected.len()).await);
        assert_eq!(got, expected, "{topic}");
    }
}

#[tokio::test]
async fn brokers_that_are_down_end_a_publish_within_the_limit_and_the_next_goes_on() {
    let (mock, kafka) = cluster("limit_ms=1500").await;
    kafka.publish(&batch(0..1)).await.unwrap();
    (1..=3).for_each(|broker| mock.broker_down(broker).unwrap());
    let publishing = tokio::time::timeout(Duration::from_secs(20), async {
        kafka.publish(&batch(1..4)).await
    });
    let refused = publishing.await.expect("it has a limit").unwrap_err();
    assert_eq!(
        (refused.accepted, refused.error.kind()),
        (0, ErrorKind::Unavailable)
    );
    assert_ne!(refused.error.retry(), Retry::Permanent);
    (1..=3).for_each(|broker| mock.broker_up(broker).unwrap());
    trunkline_testkit::eventually(Duration::from_secs(20), async || {
        kafka.publish(&batch(1..4)).await.is_ok()
    })
    .await;
    let mut reader = kafka
        .subscribe(&spec("t", None, Start::Earliest))
        .await
        .unwrap();
    let got = ids(&take(&mut *reader, 4).await);
    assert_eq!(
        got,
        ["k/0", "k/1", "k/2", "k/3"],
        "what was given up did not come before"
    );
}

#[tokio::test]
async fn a_member_that_is_thrown_out_comes_back_and_late_settlements_are_void() {
    let (mock, kafka) = cluster("").await;
    kafka.publish(&batch(0..4)).await.unwrap();
    let mut member = group(&kafka, "t").await;
    let mut taken = take(&mut *member, 4).await;
    let late = taken.split_off(1);
    taken
        .into_iter()
        .for_each(|delivery| delivery.receipt.ack());
    member.flush().await.unwrap();
    mock.request_errors(
        Api::Heartbeat,
        &[Answer::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID],
    );
    // What was out comes again, to whoever has the partition now: here the same member, as new.
    let again = take(&mut *member, 3).await;
    assert_eq!(ids(&again), ["k/1", "k/2", "k/3"]);
    assert!(
        late.iter().all(|delivery| !delivery.receipt.begin()),
        "they are another's"
    );
    late.into_iter().for_each(|delivery| delivery.receipt.ack());
    member.flush().await.unwrap();
    assert_eq!(
        member.lag().await.unwrap(),
        3,
        "late settlements settle nothing"
    );
    again
        .into_iter()
        .for_each(|delivery| delivery.receipt.ack());
    member.flush().await.unwrap();
    assert_eq!(member.lag().await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_settled_while_more_is_taken_settles_itself() {
    const COUNT: usize = 6_000;
    let (_mock, kafka) = cluster("").await;
    kafka.publish(&batch(0..COUNT)).await.unwrap();
    let mut member = kafka
        .subscribe(&Subscribe {
            in_flight_max: 64,
            ..spec("t", Some("g"), Start::Committed)
        })
        .await
        .unwrap();
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Delivery>(64);
    let settling = std::thread::spawn(move || {
        let mut ids = Vec::with_capacity(COUNT);
        for delivery in receiver {
            assert_eq!(delivery.redeliveries, 0);
            ids.push(delivery.envelope.id.to_string());
            delivery.receipt.ack();
        }
        ids
    });
    let mut left = COUNT;
    while left > 0 {
        // An acknowledgement that is lost keeps room, until there is none.
        let taken = take(&mut *member, left.min(8)).await;
        left -= taken.len();
        for delivery in taken {
            sender.send(delivery).unwrap();
        }
    }
    drop(sender);
    let expected: Vec<_> = (0..COUNT).map(|n| format!("k/{n}")).collect();
    assert_eq!(settling.join().unwrap(), expected);
    member.flush().await.unwrap();
    assert_eq!(member.lag().await.unwrap(), 0);
}

#[tokio::test]
async fn a_commit_that_fails_is_made_again_before_flush_returns() {
    let (mock, kafka) = cluster("").await;
    kafka.publish(&batch(0..2)).await.unwrap();
    let mut member = group(&kafka, "t").await;
    let taken = take(&mut *member, 2).await;
    let answers = [
        Answer::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        Answer::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    mock.request_errors(Api::OffsetCommit, &answers);
    taken
        .into_iter()
        .for_each(|delivery| delivery.receipt.ack());
    member.flush().await.expect("it is committed in the end");
    drop(member);
    let member = group(&kafka, "t").await;
    assert_eq!(member.lag().await.unwrap(), 0);
}
