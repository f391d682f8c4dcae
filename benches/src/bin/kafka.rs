//! Trunkline's transport against the bare client, over the same server: publish, and consume with ack.
//!
//! `kafka [--messages 100000] [--window 1000] [--rounds 5] [--bytes 300]`
//!
//! Both send the same records, with the same headers and settings, `window` of them at a time, and both have each
//! message on its own when they acknowledge it. Rounds alternate; CPU is this process's, not the server's.

use std::sync::Arc;

use futures::StreamExt as _;
use rdkafka::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use trunkline_benches::{Args, Span, median, rounded};
use trunkline_bus::{Start, Subscribe, Transport};
use trunkline_core::{Env, Envelope, Form};
use trunkline_kafka::{KafkaConfig, connect};
use trunkline_testkit::kafka::Server;
use trunkline_testkit::{event, topic};

const TOPIC: &str = "t";
const PARTITIONS: u16 = 4;

#[derive(Clone, Copy)]
struct Size {
    messages: usize,
    window: usize,
    bytes: usize,
}

/// Messages a second, and CPU seconds for 100,000 of them.
#[derive(Debug, Clone, Copy)]
struct Figures {
    rate: f64,
    cpu: f64,
}

fn figures(span: &Span, messages: usize) -> Figures {
    let (wall, own, _) = span.stop();
    let messages = f64::from(u32::try_from(messages).unwrap_or(u32::MAX));
    Figures {
        rate: messages / wall,
        cpu: own / messages * 100_000.0,
    }
}

fn events(size: Size, from: usize) -> Vec<Envelope> {
    let body = format!("\"{}\"", "x".repeat(size.bytes.saturating_sub(2)));
    let one = |number: usize| {
        let key = format!("customer-{}", number % 97);
        event(TOPIC, &key, &format!("event-{number}"), body.clone())
    };
    (from..from + size.window).map(one).collect()
}

async fn publish_trunkline(transport: &dyn Transport, size: Size) -> Figures {
    let batches: Vec<_> = (0..size.messages)
        .step_by(size.window)
        .map(|from| events(size, from))
        .collect();
    let span = Span::start(&[]);
    for batch in &batches {
        transport.publish(batch).await.expect("it publishes");
    }
    figures(&span, size.messages)
}

/// The same records, made ready before the time is taken except for what the client library must own.
async fn publish_bare(producer: &FutureProducer, full: &str, size: Size) -> Figures {
    let batches: Vec<Vec<_>> = (0..size.messages)
        .step_by(size.window)
        .map(|from| {
            let batch = events(size, from).into_iter();
            let record = |event: Envelope| {
                let message = Form::Binary.write(&event).expect("it is written");
                let mut headers = vec![("content-type".to_owned(), event.content_type.to_string())];
                let attributes = message.attributes.iter();
                headers.extend(
                    attributes.map(|(name, value)| (format!("ce_{name}"), value.to_string())),
                );
                (
                    event.key.unwrap_or_default().to_string(),
                    headers,
                    message.body,
                )
            };
            batch.map(record).collect()
        })
        .collect();
    let span = Span::start(&[]);
    for batch in &batches {
        let mut sent = Vec::with_capacity(batch.len());
        for (key, headers, body) in batch {
            let mut owned = OwnedHeaders::new_with_capacity(headers.len());
            for (name, value) in headers {
                owned = owned.insert(Header {
                    key: name,
                    value: Some(value.as_str()),
                });
            }
            let record = FutureRecord::to(full)
                .key(key.as_str())
                .payload(&body[..])
                .headers(owned);
            let record = producer.send_result(record).map_err(|(error, _)| error);
            sent.push(record.expect("it is queued"));
        }
        for confirmed in sent {
            confirmed
                .await
                .expect("the producer is there")
                .map_err(|(error, _)| error)
                .expect("it is confirmed");
        }
    }
    figures(&span, size.messages)
}

async fn consume_trunkline(transport: &dyn Transport, group: &str, size: Size) -> Figures {
    let spec = Subscribe {
        topics: vec![TOPIC.into()],
        group: Some(group.into()),
        start: Start::Committed,
        in_flight_max: size.window,
    };
    let mut member = transport.subscribe(&spec).await.expect("it subscribes");
    let mut span = None;
    let mut left = size.messages;
    while left > 0 {
        let deliveries = member.next(size.window).await.expect("deliveries come");
        span.get_or_insert_with(|| Span::start(&[]));
        left -= deliveries.len().min(left);
        for delivery in deliveries {
            assert!(delivery.unreadable.is_none());
            delivery.receipt.ack();
        }
    }
    member.flush().await.expect("it flushes");
    figures(&span.expect("something came"), size.messages)
}

async fn consume_bare(brokers: &str, full: &str, group: &str, size: Size) -> Figures {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "100")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "16384")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[full]).expect("it subscribes");
    let mut stream = consumer.stream();
    let mut span = None;
    for _ in 0..size.messages {
        let message = stream.next().await.expect("it goes on").expect("a message");
        span.get_or_insert_with(|| Span::start(&[]));
        // It is handled elsewhere, as its own, and then acknowledged.
        let message = message.detach();
        assert!(message.payload().is_some());
        let (partition, offset) = (message.partition(), message.offset());
        consumer
            .store_offset(full, partition, offset)
            .expect("it is stored");
    }
    consumer
        .commit_consumer_state(CommitMode::Sync)
        .expect("it is committed");
    figures(&span.expect("something came"), size.messages)
}

fn report(what: &str, size: Size, rounds: &[(Figures, Figures)]) {
    let middle = |pick: fn(&(Figures, Figures)) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(pick).collect();
        median(&mut all)
    };
    let line = json!({
        "what": what,
        "messages": size.messages,
        "window": size.window,
        "bytes": size.bytes,
        "bare_per_s": rounded(middle(|round| round.0.rate), 0),
        "trunkline_per_s": rounded(middle(|round| round.1.rate), 0),
        "throughput_ratio": rounded(middle(|round| round.1.rate / round.0.rate), 2),
        "bare_cpu_s_per_100k": rounded(middle(|round| round.0.cpu), 3),
        "trunkline_cpu_s_per_100k": rounded(middle(|round| round.1.cpu), 3),
        "cpu_ratio": rounded(middle(|round| round.1.cpu / round.0.cpu), 2),
    });
    println!("{line}");
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let number =
        |name, otherwise| usize::try_from(args.number(name, otherwise)).unwrap_or(usize::MAX);
    let window = number("window", 1_000);
    let size = Size {
        messages: number("messages", 100_000).next_multiple_of(window),
        window,
        bytes: number("bytes", 300),
    };
    let server = tokio::task::spawn_blocking(Server::start)
        .await
        .expect("a server");
    let (mut publishing, mut consuming) = (Vec::new(), Vec::new());
    for round in 0..number("rounds", 5) {
        let prefix = format!("round-{round}.");
        let full = format!("{prefix}{TOPIC}");
        let url = format!("{}?prefix={prefix}", server.url());
        let config = KafkaConfig::from_url(&url).expect("a configuration");
        let linger = format!("0.{:03}", config.linger.as_micros());
        let kafka: Arc<dyn Transport> =
            Arc::new(connect(config, Env::system()).await.expect("it connects"));
        kafka
            .declare(&[topic(TOPIC, PARTITIONS)])
            .await
            .expect("a topic");
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", server.brokers())
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", linger)
            .create()
            .expect("a producer");
        // Connections and the first batches are not what is measured.
        let warm = Size {
            messages: 2 * size.window,
            ..size
        };
        publish_trunkline(&*kafka, warm).await;
        publish_bare(&producer, &full, warm).await;
        let (bare, trunkline) = if round % 2 == 0 {
            let bare = publish_bare(&producer, &full, size).await;
            (bare, publish_trunkline(&*kafka, size).await)
        } else {
            let trunkline = publish_trunkline(&*kafka, size).await;
            (publish_bare(&producer, &full, size).await, trunkline)
        };
        publishing.push((bare, trunkline));
        let brokers = server.brokers();
        let (bare, trunkline) = if round % 2 == 0 {
            let bare = consume_bare(&brokers, &full, "bare", size).await;
            (bare, consume_trunkline(&*kafka, "ours", size).await)
        } else {
            let trunkline = consume_trunkline(&*kafka, "ours", size).await;
            (consume_bare(&brokers, &full, "bare", size).await, trunkline)
        };
        consuming.push((bare, trunkline));
        kafka.close().await.expect("it closes");
    }
    report("publish", size, &publishing);
    report("consume with ack", size, &consuming);
}
