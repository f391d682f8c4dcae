//! Trunkline's transport against the bare client, over the same server: publish, and consume with ack.
//!
//! `kafka [--messages 100000] [--window 1000] [--rounds 5] [--bytes 300] [--linger-us 200] [--prefetch-kib 2048]`
//!
//! Both send the same records to the same four partitions, with the same nine headers and the same settings
//! (idempotent, `acks=all`), `window` of them at a time, and wait until each is confirmed. The bare client's texts are
//! made before the time is taken; what it hands to its library is made within.
//!
//! Both read ahead as much, all partitions together, and have each message on its own, with its headers, when they
//! acknowledge it; positions are committed as often. The bare client is measured twice: once it does not look at the
//! headers, as nobody does who handles events, and once it reads what an event needs. Rounds alternate; CPU is this
//! process's, not the server's.
//!
//! To profile, `--side bare|trunkline` leaves the other side out, and each round publishes and consumes as often as
//! `--publishes 1` and `--consumes 1` say.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::OptionFuture;
use rdkafka::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use trunkline_benches::{Args, Span, median, rounded};
use trunkline_bus::{Start, Subscribe, Transport};
use trunkline_core::{Env, Envelope, Form, Timestamp, TraceContext};
use trunkline_kafka::{KafkaConfig, connect};
use trunkline_testkit::kafka::Server;
use trunkline_testkit::{event, topic};

const TOPIC: &str = "t";
const PARTITIONS: u16 = 4;
/// As many events as Trunkline reads ahead of four partitions.
const READ_AHEAD_EVENTS: &str = "40000";

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

/// The bare client's side of a subscription.
struct Bare {
    brokers: String,
    full: String,
    /// Its one queue holds as much as Trunkline's queues, one for each partition, hold together.
    read_ahead_kib: usize,
}

/// What the bare client does with a message's headers.
#[derive(Clone, Copy)]
enum Headers {
    /// They are kept with the message, and nobody looks at them.
    Kept,
    /// What an event needs of them is read, as anybody has to who handles it.
    Read,
}

impl Bare {
    async fn consume(&self, group: String, headers: Headers, size: Size) -> Figures {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "100")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.min.messages", READ_AHEAD_EVENTS)
            .set(
                "queued.max.messages.kbytes",
                self.read_ahead_kib.to_string(),
            )
            .create()
            .expect("a consumer");
        consumer.subscribe(&[&self.full]).expect("it subscribes");
        let mut stream = consumer.stream();
        let mut span = None;
        for _ in 0..size.messages {
            let message = stream.next().await.expect("it goes on").expect("a message");
            span.get_or_insert_with(|| Span::start(&[]));
            // It is handled elsewhere, as its own, and then acknowledged.
            let message = message.detach();
            assert!(message.payload().is_some());
            if matches!(headers, Headers::Read) {
                let facts = Facts::read(&message).expect("an event");
                assert!(!std::hint::black_box(&facts).id.is_empty());
            }
            let (partition, offset) = (message.partition(), message.offset());
            consumer
                .store_offset(&self.full, partition, offset)
                .expect("it is stored");
        }
        consumer
            .commit_consumer_state(CommitMode::Sync)
            .expect("it is committed");
        figures(&span.expect("something came"), size.messages)
    }
}

/// What a handler needs to know of an event besides its data, in the plainest code that reads it.
#[derive(Default)]
struct Facts {
    id: String,
    kind: String,
    source: String,
    time: Timestamp,
    key: Option<String>,
    correlation: Option<String>,
    trace: Option<TraceContext>,
}

impl Facts {
    fn read(message: &OwnedMessage) -> Option<Self> {
        let mut facts = Self::default();
        for header in message.headers()?.iter() {
            let text = str::from_utf8(header.value?).ok()?;
            match header.key {
                "ce_id" => facts.id = text.to_owned(),
                "ce_type" => facts.kind = text.to_owned(),
                "ce_source" => facts.source = text.to_owned(),
                "ce_time" => facts.time = text.parse().ok()?,
                "ce_partitionkey" => facts.key = Some(text.to_owned()),
                "ce_correlationid" => facts.correlation = Some(text.to_owned()),
                "ce_traceparent" => facts.trace = Some(text.parse().ok()?),
                _ => {}
            }
        }
        Some(facts)
    }
}

/// One round: each side in turn, the bare one first or last; what is left out has no figures.
async fn turns<B: Default>(
    sides: Sides,
    bare_first: bool,
    bare: impl Future<Output = B>,
    trunkline: impl Future<Output = Figures>,
) -> (B, Figures) {
    let bare = sides.bare.then_some(bare);
    let trunkline = sides.trunkline.then_some(trunkline);
    let (bare, trunkline) = if bare_first {
        let bare = OptionFuture::from(bare).await;
        (bare, OptionFuture::from(trunkline).await)
    } else {
        let trunkline = OptionFuture::from(trunkline).await;
        (OptionFuture::from(bare).await, trunkline)
    };
    (bare.unwrap_or_default(), trunkline.unwrap_or_default())
}

#[derive(Clone, Copy)]
struct Sides {
    bare: bool,
    trunkline: bool,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            rate: f64::NAN,
            cpu: f64::NAN,
        }
    }
}

fn report(what: &str, size: Size, rounds: &[(Figures, Figures)]) {
    let middle = |pick: fn(&(Figures, Figures)) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(pick).collect();
        median(&mut all)
    };
    let each = |pick: fn(&(Figures, Figures)) -> f64| -> Vec<f64> {
        rounds.iter().map(|round| rounded(pick(round), 2)).collect()
    };
    let line = json!({
        "what": what,
        "messages": size.messages,
        "window": size.window,
        "bytes": size.bytes,
        "bare_per_s": rounded(middle(|round| round.0.rate), 0),
        "trunkline_per_s": rounded(middle(|round| round.1.rate), 0),
        "throughput_ratio": rounded(middle(|round| round.1.rate / round.0.rate), 2),
        "throughput_ratios": each(|round| round.1.rate / round.0.rate),
        "bare_cpu_s_per_100k": rounded(middle(|round| round.0.cpu), 3),
        "trunkline_cpu_s_per_100k": rounded(middle(|round| round.1.cpu), 3),
        "cpu_ratio": rounded(middle(|round| round.1.cpu / round.0.cpu), 2),
        "cpu_ratios": each(|round| round.1.cpu / round.0.cpu),
    });
    println!("{line}");
}

fn bare_producer(brokers: &str, linger: Duration) -> FutureProducer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", (linger.as_secs_f64() * 1e3).to_string())
        .create()
        .expect("a producer")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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
    let side = args.text("side", "both");
    let sides = Sides {
        bare: side != "trunkline",
        trunkline: side != "bare",
    };
    let server = tokio::task::spawn_blocking(Server::start)
        .await
        .expect("a server");
    let (mut publishing, mut consuming, mut reading) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..number("rounds", 5) {
        let prefix = format!("round-{round}.");
        let url = format!("{}?prefix={prefix}", server.url());
        let mut config = KafkaConfig::from_url(&url).expect("a configuration");
        let linger = args.number("linger-us", micros(config.linger));
        config.linger = Duration::from_micros(linger);
        if let prefetch_kib @ 1.. = number("prefetch-kib", 0) {
            config.prefetch_bytes = prefetch_kib << 10;
        }
        let bare = Bare {
            brokers: server.brokers(),
            full: format!("{prefix}{TOPIC}"),
            read_ahead_kib: (config.prefetch_bytes >> 10) * usize::from(PARTITIONS),
        };
        let producer = bare_producer(&bare.brokers, config.linger);
        let kafka: Arc<dyn Transport> =
            Arc::new(connect(config, Env::system()).await.expect("it connects"));
        kafka
            .declare(&[topic(TOPIC, PARTITIONS)])
            .await
            .expect("a topic");
        // Connections and the first batches are not what is measured.
        let warm = Size {
            messages: 2 * size.window,
            ..size
        };
        publish_trunkline(&*kafka, warm).await;
        publish_bare(&producer, &bare.full, warm).await;
        for turn in 0..number("publishes", 1) {
            let bare = publish_bare(&producer, &bare.full, size);
            let trunkline = publish_trunkline(&*kafka, size);
            publishing.push(turns(sides, (round + turn) % 2 == 0, bare, trunkline).await);
        }
        for turn in 0..number("consumes", 1) {
            let group = format!("ours-{turn}");
            let trunkline = consume_trunkline(&*kafka, &group, size);
            let is_bare_first = (round + turn) % 2 == 0;
            let kept = bare.consume(format!("bare-{turn}"), Headers::Kept, size);
            let read = bare.consume(format!("reading-{turn}"), Headers::Read, size);
            let both = async {
                let kept = kept.await;
                (kept, read.await)
            };
            let ((kept, read), ours) = turns(sides, is_bare_first, both, trunkline).await;
            consuming.push((kept, ours));
            reading.push((read, ours));
        }
        kafka.close().await.expect("it closes");
    }
    report("publish", size, &publishing);
    report("consume with ack", size, &consuming);
    report("consume with ack, headers read by both", size, &reading);
}
