use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use trunkline_bus::{Delivery, Start, Subscribe, Subscription, Transport as _};
use trunkline_core::{Env, ErrorKind};
use trunkline_kafka::{Kafka, KafkaConfig, connect};
use trunkline_testkit::kafka::Server;

pub const COMES: Duration = Duration::from_secs(60);

/// A prefix that no other test has.
pub fn prefix() -> String {
    static TESTS: AtomicUsize = AtomicUsize::new(0);
    format!("it-{}.", TESTS.fetch_add(1, Ordering::Relaxed))
}

/// The shared server under a prefix, with more parameters.
pub async fn open(prefix: &str, more: &str) -> Kafka {
    let settings = "session_ms=2000&heartbeat_ms=50&commit_ms=20";
    let url = format!(
        "{}?prefix={prefix}&{settings}&{more}",
        Server::shared().url()
    );
    connect(KafkaConfig::from_url(&url).unwrap(), Env::system())
        .await
        .expect("it connects")
}

pub fn spec(topic: &str, group: Option<&str>, start: Start) -> Subscribe {
    Subscribe {
        topics: vec![topic.into()],
        group: group.map(Into::into),
        start,
        in_flight_max: 1_000,
    }
}

/// Joins as the runtime does: a server that has just started may need more than one attempt's limit.
pub async fn group(kafka: &Kafka, topic: &str) -> Box<dyn Subscription> {
    let spec = spec(topic, Some("g"), Start::Committed);
    let until = tokio::time::Instant::now() + COMES;
    loop {
        match kafka.subscribe(&spec).await {
            Err(error)
                if error.kind() == ErrorKind::Unavailable
                    && tokio::time::Instant::now() < until => {}
            subscribed => return subscribed.expect("it subscribes"),
        }
    }
}

/// Exactly so many deliveries, unsettled.
pub async fn take(member: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(COMES, member.next(count - taken.len())).await;
        let got = next.unwrap_or_else(|_| panic!("{} of {count} came", taken.len()));
        let got = got.expect("deliveries come");
        assert!(!got.is_empty(), "it is closed");
        taken.extend(got);
    }
    taken
}

pub fn ids(taken: &[Delivery]) -> Vec<String> {
    taken
        .iter()
        .map(|delivery| delivery.envelope.id.to_string())
        .collect()
}

/// Somebody else's producer.
pub fn producer() -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", Server::shared().brokers())
        .set("message.max.bytes", "20000000")
        .create()
        .expect("a producer")
}

pub fn send(producer: &BaseProducer, record: BaseRecord<'_, [u8], [u8]>) {
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(COMES).expect("it is delivered");
}
