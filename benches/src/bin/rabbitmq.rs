//! RabbitMQ: a bare client (amqprs) against Trunkline's transport, on one server, in turn.
//!
//! `rabbitmq [--events 50000] [--rounds 5] [--window 1000]` publishes so many persistent events in batches of a window, each
//! batch pipelined and then confirmed; and consumes them with acknowledgement. The bare client sends and takes
//! the same messages, headers included. Prints a line of JSON for each of both: events a second, and the
//! client's CPU seconds per 100,000 events; medians over the rounds, and Trunkline's ratio to the bare client.

use std::collections::BTreeMap;
use std::time::Instant;

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel,
    ConfirmSelectArguments, ExchangeDeclareArguments, QueueBindArguments, QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, FieldTable, FieldValue, Nack, Return};
use tokio::sync::watch;
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
}

/// Events a second, and CPU seconds per 100,000 of them.
#[derive(Clone, Copy)]
struct Figure {
    rate: f64,
    cpu: f64,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let setup = setup();
    let server = Server::start();
    let arguments = OpenConnectionArguments::new("127.0.0.1", server.port(), "guest", "guest");
    let bare = Connection::open(&arguments).await?;
    let mut figures: BTreeMap<&str, Vec<Figure>> = BTreeMap::new();
    for round in 0..setup.rounds {
        let queue = format!("bare{round}");
        prepare(&bare, &queue).await?;
        let config = RabbitConfig::from_url(&format!("{}?prefix=t{round}.", server.url()))?;
        let rabbit = RabbitMq::connect(config, Env::system()).await?;
        let declared = TopicSpec {
            groups: vec!["g".into()],
            ..topic("t", 1)
        };
        rabbit.declare(&[declared]).await?;
        let batch = events(setup.window);
        let mut keep = |what, figure| figures.entry(what).or_default().push(figure);
        keep(
            "bare publish",
            measure(setup.events, bare_publish(&bare, &queue, setup)).await?,
        );
        keep(
            "trunkline publish",
            measure(setup.events, publish(&rabbit, &batch, setup)).await?,
        );
        keep(
            "bare consume",
            measure(setup.events, bare_consume(&bare, &queue, setup)).await?,
        );
        keep(
            "trunkline consume",
            measure(setup.events, consume(&rabbit, setup)).await?,
        );
        rabbit.close().await?;
    }
    let figures: BTreeMap<&str, Figure> = figures
        .into_iter()
        .map(|(what, all)| (what, median(all)))
        .collect();
    for (bare, ours) in [
        ("bare publish", "trunkline publish"),
        ("bare consume", "trunkline consume"),
    ] {
        let (Some(base), Some(own)) = (figures.get(bare), figures.get(ours)) else {
            continue;
        };
        println!(
            "{{\"bench\":\"{ours} against {bare}\",\"bare_per_s\":{:.0},\"per_s\":{:.0},\"ratio\":{:.2},\
             \"bare_cpu_s\":{:.2},\"cpu_s\":{:.2},\"cpu_ratio\":{:.2}}}",
            base.rate,
            own.rate,
            own.rate / base.rate,
            base.cpu,
            own.cpu,
            own.cpu / base.cpu
        );
    }
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
        events: value("--events", 50_000),
        rounds: value("--rounds", 5),
        window: value("--window", 1_000),
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

async fn measure(events: usize, work: impl Future<Output = Outcome<()>>) -> Outcome<Figure> {
    let (began, cpu) = (Instant::now(), cpu()?);
    work.await?;
    let (took, used) = (began.elapsed().as_secs_f64(), self::cpu()? - cpu);
    let events = events as f64;
    Ok(Figure {
        rate: events / took,
        cpu: used / events * 100_000.0,
    })
}

/// This process's CPU time in seconds; ticks are hundredths.
fn cpu() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(')').ok_or("no stat")?;
    let ticks: Vec<u64> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .flat_map(str::parse)
        .collect();
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}

fn median(mut all: Vec<Figure>) -> Figure {
    all.sort_by(|x, y| x.rate.total_cmp(&y.rate));
    let rate = all[all.len() / 2].rate;
    all.sort_by(|x, y| x.cpu.total_cmp(&y.cpu));
    Figure {
        rate,
        cpu: all[all.len() / 2].cpu,
    }
}

/// A durable queue behind a topic exchange, as a group has it.
async fn prepare(bare: &Connection, name: &str) -> Outcome<()> {
    let channel = bare.open_channel(None).await?;
    let exchange = ExchangeDeclareArguments::new(name, "topic")
        .durable(true)
        .finish();
    channel.exchange_declare(exchange).await?;
    let queue = QueueDeclareArguments::durable_client_named(name);
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

async fn bare_consume(bare: &Connection, queue: &str, setup: Setup) -> Outcome<()> {
    let channel = bare.open_channel(None).await?;
    let prefetch = u16::try_from(setup.window)?;
    channel
        .basic_qos(BasicQosArguments::new(0, prefetch, false))
        .await?;
    let (_, mut messages) = channel
        .basic_consume_rx(BasicConsumeArguments::new(queue, "bare"))
        .await?;
    for _ in 0..setup.events {
        let message = messages.recv().await.ok_or("the queue ended")?;
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
    Ok(channel.close().await?)
}

async fn consume(rabbit: &RabbitMq, setup: Setup) -> Outcome<()> {
    let spec = Subscribe {
        topics: vec!["t".into()],
        group: Some("g".into()),
        start: Start::Committed,
        in_flight_max: setup.window,
    };
    let mut member = rabbit.subscribe(&spec).await?;
    let mut taken = 0;
    while taken < setup.events {
        for delivery in member.next(256).await? {
            std::hint::black_box(&delivery.envelope.data);
            delivery.receipt.ack();
            taken += 1;
        }
    }
    Ok(member.flush().await?)
}
