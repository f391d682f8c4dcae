//! What can't be done is told with what was expected and where.

use std::net::TcpListener;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use trunkline_bus::{Start, TopicSpec, Transport as _};
use trunkline_core::{Env, ErrorKind, Retry};
use trunkline_kafka::{KafkaConfig, connect};
use trunkline_testkit::kafka::Server;
use trunkline_testkit::{event, eventually, numbered, topic};

use crate::support::{COMES, group, ids, open, prefix, spec, take};

#[tokio::test]
async fn wrong_credentials_are_told_without_the_password() {
    let url = Server::shared().sasl_url(Some(("shop", "wrong-secret")));
    let config = KafkaConfig::from_url(&url).unwrap();
    let error = connect(config, Env::system()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    assert_eq!(error.retry(), Retry::Permanent);
    assert_eq!(error.code(), "kafka_credentials");
    let text = format!("{error:?}");
    assert!(text.contains("user: shop"), "{text}");
    assert!(!text.contains("wrong-secret"), "{text}");
}

#[tokio::test]
async fn right_credentials_publish_and_consume() {
    let url = format!("{}?prefix={}", Server::shared().sasl_url(None), prefix());
    let kafka = connect(KafkaConfig::from_url(&url).unwrap(), Env::system()).await;
    let kafka = kafka.expect("it connects");
    kafka.declare(&[topic("t", 1)]).await.unwrap();
    kafka.publish(&[numbered("t", "k", 0)]).await.unwrap();
    let mut reader = kafka
        .subscribe(&spec("t", None, Start::Earliest))
        .await
        .unwrap();
    assert_eq!(ids(&take(&mut *reader, 1).await), ["k/0"]);
    kafka.close().await.unwrap();
}

#[tokio::test]
async fn missing_credentials_do_not_connect() {
    let url = Server::shared().sasl_url(None);
    let (_, address) = url.rsplit_once('@').unwrap();
    let url = format!("kafka://{address}?limit_ms=1500");
    let error = connect(KafkaConfig::from_url(&url).unwrap(), Env::system()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains(address), "{error}");
}

#[tokio::test]
async fn who_is_not_there_and_who_says_nothing_are_told_within_the_limit() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let silent = (silent.local_addr().unwrap().port(), silent);
    let absent = trunkline_testkit::free_port().unwrap();
    for port in [absent, silent.0] {
        let url = format!("kafka://127.0.0.1:{port}?limit_ms=1000");
        let connecting = connect(KafkaConfig::from_url(&url).unwrap(), Env::system());
        let answer = tokio::time::timeout(Duration::from_secs(20), connecting).await;
        let error = answer.expect("within the limit").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert_eq!(error.code(), "kafka_unreachable");
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }
}

#[tokio::test]
async fn asking_for_a_topic_never_makes_it() {
    let (prefix, topic) = (prefix(), "nowhere");
    let kafka = open(&prefix, "").await;
    let refused = kafka.publish(&[numbered(topic, "k", 0)]).await.unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::NotFound);
    assert!(
        refused.error.to_string().contains(topic),
        "{}",
        refused.error
    );
    let refused = kafka
        .subscribe(&spec(topic, Some("g"), Start::Committed))
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    // The server makes topics for whoever lets it.
    let probe: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", Server::shared().brokers())
        .create()
        .unwrap();
    let all = probe.fetch_metadata(None, Duration::from_secs(10)).unwrap();
    let names: Vec<_> = all.topics().iter().map(|topic| topic.name()).collect();
    assert!(
        !names.contains(&format!("{prefix}{topic}").as_str()),
        "{names:?}"
    );
    assert!(!names.contains(&"trunkline"), "{names:?}");
}

#[tokio::test]
async fn an_event_that_is_too_large_ends_the_batch_with_its_size() {
    let kafka = open(&prefix(), "event_bytes_max=10000").await;
    kafka.declare(&[topic("t", 1)]).await.unwrap();
    let batch = [
        numbered("t", "k", 0),
        event("t", "k", "large", vec![b'x'; 20_000]),
        numbered("t", "k", 2),
    ];
    let refused = kafka.publish(&batch).await.unwrap_err();
    assert_eq!(refused.accepted, 1);
    assert_eq!(refused.error.kind(), ErrorKind::TooLarge);
    assert_eq!(refused.error.retry(), Retry::Permanent);
    let text = refused.error.to_string();
    for told in ["large", "data_bytes: 20000", "event_bytes_max: 10000"] {
        assert!(text.contains(told), "{text}");
    }
    kafka.publish(&batch[2..]).await.unwrap();
    let mut member = group(&kafka, "t").await;
    assert_eq!(ids(&take(&mut *member, 2).await), ["k/0", "k/2"]);
}

#[tokio::test]
async fn an_event_that_only_the_broker_finds_too_large_takes_nobody_along() {
    // The server takes a mebibyte, and librdkafka would rather send all of these in one batch.
    let kafka = open(&prefix(), "event_bytes_max=4000000&linger_us=100000").await;
    kafka.declare(&[topic("t", 1)]).await.unwrap();
    let batch = [
        numbered("t", "k", 0),
        event("t", "k", "large", vec![b'x'; 2_000_000]),
        numbered("t", "k", 2),
    ];
    let refused = kafka.publish(&batch).await.unwrap_err();
    assert_eq!(
        refused.error.kind(),
        ErrorKind::TooLarge,
        "{}",
        refused.error
    );
    assert_eq!(refused.accepted, 1, "{}", refused.error);
    assert!(refused.error.to_string().contains("data_bytes: 2000000"));
    kafka.publish(&batch[2..]).await.unwrap();
    let mut member = group(&kafka, "t").await;
    let got = ids(&take(&mut *member, 2).await);
    assert_eq!(got[0], "k/0");
    assert_eq!(got[1], "k/2");
}

#[tokio::test]
async fn retention_is_declared_and_another_one_is_a_conflict() {
    let kafka = open(&prefix(), "").await;
    let spec = TopicSpec {
        retention: Some(Duration::from_secs(60)),
        retention_bytes: Some(3_000),
        ..topic("t", 3)
    };
    kafka.declare(std::slice::from_ref(&spec)).await.unwrap();
    let other = TopicSpec {
        retention: None,
        ..spec.clone()
    };
    // Whoever comes later finds the same.
    let refused = kafka.declare(&[other]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let text = refused.to_string();
    assert!(
        text.contains("retention.ms 60000, retention.bytes 1000"),
        "{text}"
    );
    kafka.declare(&[spec]).await.unwrap();
}

#[tokio::test]
async fn a_key_takes_the_partition_that_the_java_client_gives_it() {
    // The keys of Kafka's own UtilsTest.testMurmur2; its hash, made positive, modulo 5.
    let expected = [
        ("21", 0),
        ("foobar", 1),
        ("a-little-bit-long-string", 2),
        ("a-little-bit-longer-string", 4),
    ];
    let kafka = open(&prefix(), "").await;
    kafka.declare(&[topic("t", 5)]).await.unwrap();
    for (number, (key, _)) in expected.iter().enumerate() {
        kafka.publish(&[numbered("t", key, number)]).await.unwrap();
    }
    let mut member = group(&kafka, "t").await;
    for delivery in take(&mut *member, expected.len()).await {
        let key = delivery.envelope.key.clone().unwrap();
        let (_, partition) = expected
            .iter()
            .find(|(expected, _)| key == *expected)
            .unwrap();
        assert_eq!(delivery.partition, *partition, "{key:?}");
    }
}

#[tokio::test]
async fn a_subscription_without_any_broker_ends_within_the_limit() {
    let server = Server::start();
    let url = format!(
        "{}?limit_ms=1000&session_ms=2000&heartbeat_ms=50",
        server.url()
    );
    let kafka = connect(KafkaConfig::from_url(&url).unwrap(), Env::system());
    let kafka = kafka.await.expect("it connects");
    kafka.declare(&[topic("t", 1)]).await.unwrap();
    let mut member = group(&kafka, "t").await;
    server.kill();
    let next = tokio::time::timeout(Duration::from_secs(30), member.next(1)).await;
    let error = next.expect("it has a limit").expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(error.code(), "kafka_unreachable");
    // Health shows it as long as it lasts, and then the runtime's next attempt succeeds.
    drop(member);
    server.restart();
    let mut member = group(&kafka, "t").await;
    eventually(COMES, async || {
        kafka.publish(&[numbered("t", "k", 0)]).await.is_ok()
    })
    .await;
    assert_eq!(ids(&take(&mut *member, 1).await), ["k/0"]);
}
