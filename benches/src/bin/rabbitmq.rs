//! RabbitMQ: a bare client (amqprs) against Trunkline's transport, on one server, in turn.
//!
//! `rabbitmq [--events 50000] [--rounds 5] [--window 1000]` publishes so many persistent events in batches of a window, each
//! batch pipelined and then confirmed; and consumes them with acknowledgement. The bare client sends and takes
//! the same messages, headers included, from a queue with a single active consumer as a group's is (`--plain` takes that
//! from the bare client's), each `--idle 0` seconds after it was filled. Consuming is measured from the first message on. Prints a line of JSON for each round and
//! each of both: events a second, and CPU seconds per 100,000 events, the client's and the server's; then the medians,
//! and the median of the rounds' ratios.

use std::time::{Duration, Instant};

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel,
    ConfirmSelectArguments, ExchangeDeclareArguments, QueueBindArguments, QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, FieldTable, FieldValue, Nack, Return};
use tokio::sync::watch;
use trunkline_benches::{cpu_seconds, median, rounded};
use trunkline_bus::{Start, Subscribe, TopicSpec, Transport};
use trunkline_core::{Env, Envelope, cloudevents};
use trunkline_rabbitmq::{RabbitConfig, RabbitMq};
use trunkline_testkit::rabbitmq::Server;
use trunkline_testkit::{event, topic};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Clone, Copy)]
struct Setup {
    events: usize,
    rounds: usize,
    window: usize,
    plain: bool,
    idle: Duration,
}

/// Events a second, and CPU seconds per 100,000 of them: the client's and the server's.
#[derive(Clone, Copy)]
struct Figure {
    rate: f64,
    cpu: f64,
    server: f64,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let setup = setup();
    let server = Server::start();
    let arguments = OpenConnectionArguments::new("127.0.0.1", server.port(), "guest", "guest");
    let bare = Connection::open(&arguments).await?;
    let pid = std::fs::read_to_string(server.folder().join("pid"))?;
    let clock = Clock(pid.trim().to_owned());
    let mut figures: [Vec<Figure>; 4] = Default::default();
    for round in 0..setup.rounds {
        let queue = format!("bare{round}");
        prepare(&bare, &queue, setup).await?;
        let config = RabbitConfig::from_url(&format!("{}?prefix=t{round}.", server.url()))?;
        let rabbit = RabbitMq::connect(config, Env::system()).await?;
        let declared = TopicSpec {
            groups: vec!["g".into()],
            ..topic("t", 1)
        };
        rabbit.declare(&[declared]).await?;
        let batch = events(setup.window);
        let span = clock.start();
        bare_publish(&bare, &queue, setup).await?;
        let bare_published = span.stop(setup.events);
        // At once, or after the same pause: a queue that has idled for some seconds is cheaper to read.
        let bare_consumed = bare_consume(&bare, &queue, setup, &clock).await?;
        let span = clock.start();
        publish(&rabbit, &batch, setup).await?;
        let published = span.stop(setup.events);
        let consumed = consume(&rabbit, setup, &clock).await?;
        rabbit.close().await?;
        let round = [bare_published, published, bare_consumed, consumed];
        for (all, figure) in figures.iter_mut().zip(round) {
            all.push(figure);
        }
        report("publish, one round", &[bare_published], &[published]);
        report("consume, one round", &[bare_consumed], &[consumed]);
    }
    let [bare_published, published, bare_consumed, consumed] = &figures;
    report("publish", bare_published, published);
    report("consume", bare_consumed, consumed);
    Ok(())
}

fn report(what: &str, bare: &[Figure], ours: &[Figure]) {
    let middle = |all: &[Figure], of: fn(&Figure) -> f64| {
        median(&mut all.iter().map(of).collect::<Vec<_>>())
    };
    let ratio = |of: fn(&Figure) -> f64| {
        let both = bare.iter().zip(ours);
        rounded(
            median(
                &mut both
                    .map(|(bare, ours)| of(ours) / of(bare))
                    .collect::<Vec<_>>(),
            ),
            2,
        )
    };
    let [rate, cpu, server] = [
        |figure: &Figure| figure.rate,
        |figure: &Figure| figure.cpu,
        |figure: &Figure| figure.server,
    ];
    println!(
        "{}",
        serde_json::json!({
            "bench": what,
            "bare_per_s": middle(bare, rate).round(),
            "per_s": middle(ours, rate).round(),
            "ratio": ratio(rate),
            "bare_cpu_s": rounded(middle(bare, cpu), 2),
            "cpu_s": rounded(middle(ours, cpu), 2),
            "cpu_ratio": ratio(cpu),
            "bare_server_cpu_s": rounded(middle(bare, server), 2),
            "server_cpu_s": rounded(middle(ours, server), 2),
        })
    );
}

fn setup() -> Setup {
    let words: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: usize| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok())
            .unwrap_or(default)
    };
    Setup {
        events: value("--events", 50_000),
        rounds: value("--rounds", 5),
        window: value("--window", 1_000),
        idle: Duration::from_secs(u64::try_from(value("--idle", 0)).unwrap_or(0)),
        plain: words.iter().any(|word| word == "--plain"),
    }
}

fn events(count: usize) -> Vec<Envelope> {
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(288));
    (0..count)
        .map(|n| event("t", "k", &format!("id-{n}"), data.clone()))
        .collect()
}

/// A batch whose events were not sent before.
fn fresh(batch: &[Envelope], from: usize) -> Vec<Envelope> {
    let numbered = |(n, event): (usize, &Envelope)| Envelope {
        id: format!("id-{}", from + n).into(),
        ..event.clone()
    };
    batch.iter().enumerate().map(numbered).collect()
}

/// Looks at the time and at the CPU time of this process and of the server's.
struct Clock(String);

struct Lap<'a>(&'a Clock, Instant, [f64; 2]);

impl Clock {
    fn start(&self) -> Lap<'_> {
        Lap(self, Instant::now(), self.cpu())
    }

    fn cpu(&self) -> [f64; 2] {
        [cpu_seconds("self"), cpu_seconds(&self.0)]
    }
}

impl Lap<'_> {
    fn stop(self, events: usize) -> Figure {
        let Self(clock, began, [cpu, server]) = self;
        let took = began.elapsed().as_secs_f64();
        let [cpu_now, server_now] = clock.cpu();
        let events = events as f64;
        Figure {
            rate: events / took,
            cpu: (cpu_now - cpu) / events * 100_000.0,
            server: (server_now - server) / events * 100_000.0,
        }
    }
}

/// A durable queue behind a topic exchange, as a group has it.
async fn prepare(bare: &Connection, name: &str, setup: Setup) -> Outcome<()> {
    let channel = bare.open_channel(None).await?;
    let exchange = ExchangeDeclareArguments::new(name, "topic")
        .durable(true)
        .finish();
    channel.exchange_declare(exchange).await?;
    let mut queue = QueueDeclareArguments::durable_client_named(name);
    if !setup.plain {
        let mut arguments = FieldTable::new();
        arguments.insert("x-single-active-consumer".try_into()?, FieldValue::t(true));
        queue.arguments(arguments);
    }
    channel.queue_declare(queue).await?;
    channel
        .queue_bind(QueueBindArguments::new(name, name, "0.#"))
        .await?;
    Ok(channel.close().await?)
}

/// Tells how far the server has confirmed.
struct Confirms(watch::Sender<u64>);

#[async_trait::async_trait]
impl ChannelCallback for Confirms {
    async fn close(
        &mut self,
        _: &Channel,
        close: CloseChannel,
    ) -> Result<(), amqprs::error::Error> {
        panic!("the server closed the channel: {close}");
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, _: bool) -> Result<bool, amqprs::error::Error> {
        Ok(true)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        // Single confirmations come in order here: one queue on one node.
        self.0.send_replace(ack.delivery_tag());
    }

    async fn publish_nack(&mut self, _: &Channel, _: Nack) {
        panic!("the server refused a message");
    }

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {}
}

async fn bare_publish(bare: &Connection, exchange: &str, setup: Setup) -> Outcome<()> {
    let channel = bare.open_channel(None).await?;
    let (confirms, mut confirmed) = watch::channel(0);
    channel.register_callback(Confirms(confirms)).await?;
    channel
        .confirm_select(ConfirmSelectArguments::default())
        .await?;
    let batch = events(setup.window);
    let mut sent = 0;
    for from in (0..setup.events).step_by(setup.window) {
        for event in fresh(&batch, from) {
            let mut headers = FieldTable::new();
            for (name, value) in cloudevents::attributes(&event) {
                let value = FieldValue::S(String::from(&*value).try_into()?);
                headers.insert(format!("cloudEvents:{name}").try_into()?, value);
            }
            let properties = BasicProperties::default()
                .with_content_type("application/json")
                .with_headers(headers)
                .with_persistence(true)
                .with_message_id(&event.id)
                .with_message_type(&event.event_type)
                .finish();
            let key = format!("0.{}", event.event_type);
            let arguments = BasicPublishArguments::new(exchange, &key);
            channel
                .basic_publish(properties, event.data.to_vec(), arguments)
                .await?;
            sent += 1;
        }
        confirmed.wait_for(|upto| *upto >= sent).await?;
    }
    Ok(channel.close().await?)
}

async fn publish(rabbit: &RabbitMq, batch: &[Envelope], setup: Setup) -> Outcome<()> {
    for from in (0..setup.events).step_by(setup.window) {
        rabbit.publish(&fresh(batch, from)).await?;
    }
    Ok(())
}

async fn bare_consume(
    bare: &Connection,
    queue: &str,
    setup: Setup,
    clock: &Clock,
) -> Outcome<Figure> {
    tokio::time::sleep(setup.idle).await;
    let channel = bare.open_channel(None).await?;
    let prefetch = u16::try_from(setup.window)?;
    channel
        .basic_qos(BasicQosArguments::new(0, prefetch, false))
        .await?;
    let (_, mut messages) = channel
        .basic_consume_rx(BasicConsumeArguments::new(queue, "bare"))
        .await?;
    let mut lap = None;
    for _ in 0..setup.events {
        let message = messages.recv().await.ok_or("the queue ended")?;
        lap.get_or_insert_with(|| clock.start());
        std::hint::black_box(&message.content);
        let tag = message.deliver.ok_or("no delivery")?.delivery_tag();
        channel
            .basic_ack(BasicAckArguments::new(tag, false))
            .await?;
    }
    // Its answer says that what was acknowledged has come.
    channel
        .basic_qos(BasicQosArguments::new(0, prefetch, false))
        .await?;
    let figure = lap.ok_or("no events")?.stop(setup.events);
    channel.close().await?;
    Ok(figure)
}

async fn consume(rabbit: &RabbitMq, setup: Setup, clock: &Clock) -> Outcome<Figure> {
    tokio::time::sleep(setup.idle).await;
    let spec = Subscribe {
        topics: vec!["t".into()],
        group: Some("g".into()),
        start: Start::Committed,
        in_flight_max: setup.window,
    };
    let mut member = rabbit.subscribe(&spec).await?;
    let (mut lap, mut taken) = (None, 0);
    while taken < setup.events {
        let deliveries = member.next(256).await?;
        lap.get_or_insert_with(|| clock.start());
        for delivery in deliveries {
            std::hint::black_box(&delivery.envelope.data);
            delivery.receipt.ack();
            taken += 1;
        }
    }
    member.flush().await?;
    Ok(lap.ok_or("no events")?.stop(setup.events))
}
