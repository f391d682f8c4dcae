//! Priorities on RabbitMQ: one queue with `x-max-priority`, or a queue for each lane.
//!
//! `priority [--backlog 2000] [--highs 60] [--work-us 1000]` lets a backlog of low events wait, each of which takes a
//! while, publishes a high one every 25 ms, and measures how long each high one waits for its handler; then it floods both
//! with high events and counts how many low ones are handled meanwhile. Both ways have the same prefetch and four
//! handlers. The first is what a user of amqprs writes, the second Trunkline's consumer. Prints a line of JSON each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use amqprs::BasicProperties;
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments,
    QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use trunkline_bus::memory::MemoryLot;
use trunkline_bus::{Consumer, ConsumerConfig, ConsumerPorts, Handler, Outcome, Transport, lanes};
use trunkline_core::{Env, Envelope, Priority};
use trunkline_rabbitmq::{RabbitConfig, RabbitMq};
use trunkline_telemetry::Telemetry;
use trunkline_testkit::rabbitmq::Server;
use trunkline_testkit::{event, topic};

type Done<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How many handlers work side by side.
const HANDLERS: usize = 4;
/// The prefetch of both.
const PREFETCH: u16 = 64;
/// Between two high events.
const EVERY: Duration = Duration::from_millis(25);

#[derive(Clone, Copy)]
struct Setup {
    backlog: usize,
    highs: usize,
    work: Duration,
}

/// What handlers note.
#[derive(Debug, Default)]
struct Seen {
    waits: Mutex<Vec<Duration>>,
    highs: AtomicUsize,
    lows: AtomicUsize,
}

impl Seen {
    /// Handles an event: its data is when it was published, in microseconds of the run.
    async fn handle(&self, high: bool, data: &[u8], began: Instant, work: Duration) {
        if high {
            let text = std::str::from_utf8(data).unwrap_or_default();
            let sent = Duration::from_micros(text.parse().unwrap_or_default());
            self.waits.lock().push(began.elapsed().saturating_sub(sent));
        }
        tokio::time::sleep(work).await;
        let count = if high { &self.highs } else { &self.lows };
        count.fetch_add(1, Ordering::Relaxed);
    }

    async fn highs(&self, count: usize) {
        while self.highs.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A way to have priorities: it publishes, and its handlers note what they see.
trait Way {
    async fn publish(&mut self, high: bool, count: usize) -> Done<()>;
    fn seen(&self) -> &Seen;
}

#[tokio::main]
async fn main() -> Done<()> {
    let setup = setup();
    let server = Server::start();
    let began = Instant::now();
    let mut queue = Queue::open(&server, setup, began).await?;
    tell("x-max-priority", &mut queue, setup).await?;
    let mut lanes = Lanes::open(&server, setup, began).await?;
    tell("a queue per lane", &mut lanes, setup).await?;
    Ok(())
}

async fn tell(name: &str, way: &mut impl Way, setup: Setup) -> Done<()> {
    for _ in 0..setup.highs {
        way.publish(true, 1).await?;
        tokio::time::sleep(EVERY).await;
    }
    way.seen().highs(setup.highs).await;
    let mut waits = std::mem::take(&mut *way.seen().waits.lock());
    waits.sort();
    let at = |share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)].as_micros();
    let (lows, flood) = (way.seen().lows.load(Ordering::Relaxed), setup.backlog / 4);
    way.publish(true, flood).await?;
    way.seen().highs(setup.highs + flood).await;
    let meanwhile = way.seen().lows.load(Ordering::Relaxed) - lows;
    println!(
        "{{\"bench\":\"{name}\",\"high_wait_p50_us\":{},\"high_wait_p99_us\":{},\
         \"lows_while_{flood}_highs\":{meanwhile}}}",
        at(50),
        at(99)
    );
    Ok(())
}

fn setup() -> Setup {
    let words: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: usize| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok())
            .unwrap_or(default)
    };
    Setup {
        backlog: value("--backlog", 2_000),
        highs: value("--highs", 60),
        work: Duration::from_micros(value("--work-us", 1_000) as u64),
    }
}

/// One queue that knows priorities.
struct Queue {
    channel: amqprs::channel::Channel,
    _connection: Connection,
    seen: Arc<Seen>,
    began: Instant,
    _tasks: tokio::task::JoinSet<()>,
}

impl Queue {
    async fn open(server: &Server, setup: Setup, began: Instant) -> Done<Self> {
        let arguments = OpenConnectionArguments::new("127.0.0.1", server.port(), "guest", "guest");
        let connection = Connection::open(&arguments).await?;
        let channel = connection.open_channel(None).await?;
        let mut table = amqprs::FieldTable::new();
        table.insert("x-max-priority".try_into()?, amqprs::FieldValue::b(2));
        let queue = QueueDeclareArguments::durable_client_named("prioritised")
            .arguments(table)
            .finish();
        channel.queue_declare(queue).await?;
        let qos = BasicQosArguments::new(0, PREFETCH, false);
        channel.basic_qos(qos).await?;
        let seen = Arc::<Seen>::default();
        let mut own = Self {
            channel,
            _connection: connection,
            seen: seen.clone(),
            began,
            _tasks: tokio::task::JoinSet::new(),
        };
        own.publish(false, setup.backlog).await?;
        let consume = BasicConsumeArguments::new("prioritised", "bench");
        let (_, messages) = own.channel.basic_consume_rx(consume).await?;
        let messages = Arc::new(tokio::sync::Mutex::new(messages));
        for _ in 0..HANDLERS {
            let (messages, channel) = (messages.clone(), own.channel.clone());
            let seen = seen.clone();
            own._tasks.spawn(async move {
                loop {
                    let Some(message) = messages.lock().await.recv().await else {
                        return;
                    };
                    let high = message
                        .basic_properties
                        .and_then(|properties| properties.priority())
                        == Some(2);
                    let data = message.content.unwrap_or_default();
                    seen.handle(high, &data, began, setup.work).await;
                    let tag = message.deliver.map(|deliver| deliver.delivery_tag());
                    let ack = BasicAckArguments::new(tag.unwrap_or_default(), false);
                    if channel.basic_ack(ack).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(own)
    }
}

impl Way for Queue {
    async fn publish(&mut self, high: bool, count: usize) -> Done<()> {
        for _ in 0..count {
            let properties = BasicProperties::default()
                .with_priority(if high { 2 } else { 0 })
                .with_persistence(true)
                .finish();
            let data = self.began.elapsed().as_micros().to_string().into_bytes();
            let arguments = BasicPublishArguments::new("", "prioritised");
            self.channel
                .basic_publish(properties, data, arguments)
                .await?;
        }
        Ok(())
    }

    fn seen(&self) -> &Seen {
        &self.seen
    }
}

/// A queue for each lane, and the runtime that merges them.
struct Lanes {
    rabbit: Arc<RabbitMq>,
    _consumer: Consumer,
    seen: Arc<Seen>,
    began: Instant,
    sent: usize,
}

#[derive(Debug)]
struct Worker {
    seen: Arc<Seen>,
    began: Instant,
    work: Duration,
}

impl Handler for Worker {
    fn handle<'a>(&'a self, batch: &'a [Envelope], _: u32) -> BoxFuture<'a, Vec<Outcome>> {
        async move {
            let mut outcomes = Vec::new();
            for event in batch {
                let high = event.id.starts_with("t.high");
                let work = self.seen.handle(high, &event.data, self.began, self.work);
                work.await;
                outcomes.push(Outcome::Done);
            }
            outcomes
        }
        .boxed()
    }
}

impl Lanes {
    async fn open(server: &Server, setup: Setup, began: Instant) -> Done<Self> {
        let env = Env::system();
        let config = RabbitConfig::from_url(&format!("{}?prefix=lanes.", server.url()))?;
        let rabbit = Arc::new(RabbitMq::connect(config, env.clone()).await?);
        let mut topics = lanes(&topic("t", 1));
        for topic in &mut topics {
            topic.groups = vec!["g".into()];
        }
        rabbit.declare(&topics).await?;
        let seen = Arc::<Seen>::default();
        let mut config = ConsumerConfig::new("g").topic("t", &[Priority::High, Priority::Low]);
        config.handlers_max = HANDLERS;
        config.in_flight_max = PREFETCH.into();
        let ports = ConsumerPorts {
            transport: rabbit.clone(),
            handler: Arc::new(Worker {
                seen: seen.clone(),
                began,
                work: setup.work,
            }),
            lot: Arc::new(MemoryLot::default()),
            telemetry: Telemetry::new(env.clone()),
            env,
        };
        let consumer = Consumer::start(config, ports).await?;
        consumer.pause().await?;
        let mut own = Self {
            rabbit,
            _consumer: consumer.clone(),
            seen,
            began,
            sent: 0,
        };
        own.publish(false, setup.backlog).await?;
        consumer.resume().await?;
        Ok(own)
    }
}

impl Way for Lanes {
    async fn publish(&mut self, high: bool, count: usize) -> Done<()> {
        let lane = if high { "t.high" } else { "t.low" };
        let mut batch = Vec::new();
        for _ in 0..count {
            self.sent += 1;
            let sent = self.began.elapsed().as_micros().to_string();
            let id = format!("{lane}-{}", self.sent);
            batch.push(event(lane, &id, &id, sent));
        }
        Ok(self.rabbit.publish(&batch).await?)
    }

    fn seen(&self) -> &Seen {
        &self.seen
    }
}
