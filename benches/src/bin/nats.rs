//! NATS JetStream: the bare client against Trunkline's transport, on one server, in turn.
//!
//! `nats [--events 50000] [--rounds 5] [--window 1000]` publishes so many events in batches of a window, each
//! batch pipelined and then confirmed; and consumes them with acknowledgement. The bare client sends and takes
//! the same messages, headers included. Prints a line of JSON for each of both: events a second, and the
//! client's CPU seconds per 100,000 events; medians over the rounds, and Trunkline's ratio to the bare client.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::{self, stream};
use futures::StreamExt;
use trunkline_bus::{Start, Subscribe, Transport};
use trunkline_core::{Env, Envelope, cloudevents};
use trunkline_nats::{Nats, NatsConfig};
use trunkline_testkit::nats::Server;
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
    let client = async_nats::connect(server.url()).await?;
    let bare = jetstream::new(client);
    let mut figures: BTreeMap<&str, Vec<Figure>> = BTreeMap::new();
    for round in 0..setup.rounds {
        let name = format!("bare{round}");
        let config = stream::Config {
            name: name.clone(),
            subjects: vec![format!("{name}.*")],
            duplicate_window: Duration::from_secs(120),
            ..stream::Config::default()
        };
        bare.create_stream(config).await?;
        let config = NatsConfig::from_url(&format!("{}?prefix=t{round}.", server.url()))?;
        let nats = Nats::connect(config, Env::system()).await?;
        nats.declare(&[topic("t", 1)]).await?;
        let batch = events(setup.window);
        let mut keep = |what, figure| figures.entry(what).or_default().push(figure);
        keep("bare publish", measure(setup.events, bare_publish(&bare, &name, setup)).await?);
        keep("trunkline publish", measure(setup.events, publish(&nats, &batch, setup)).await?);
        for (what, policy) in [("bare consume", AckPolicy::Explicit), ("bare consume, ack all", AckPolicy::All)] {
            keep(what, measure(setup.events, bare_consume(&bare, &name, setup, policy)).await?);
        }
        keep("trunkline consume", measure(setup.events, consume(&nats, setup)).await?);
        nats.close().await?;
        bare.delete_stream(&name).await?;
    }
    let figures: BTreeMap<&str, Figure> =
        figures.into_iter().map(|(what, all)| (what, median(all))).collect();
    for (bare, ours) in [
        ("bare publish", "trunkline publish"),
        ("bare consume", "trunkline consume"),
        ("bare consume, ack all", "trunkline consume"),
    ] {
        let (Some(base), Some(own)) = (figures.get(bare), figures.get(ours)) else {
            continue;
        };
        println!(
            "{{\"bench\":\"{ours} against {bare}\",\"bare_per_s\":{:.0},\"per_s\":{:.0},\"ratio\":{:.2},\
             \"bare_cpu_s\":{:.2},\"cpu_s\":{:.2},\"cpu_ratio\":{:.2}}}",
            base.rate, own.rate, own.rate / base.rate, base.cpu, own.cpu, own.cpu / base.cpu
        );
    }
    Ok(())
}

fn setup() -> Setup {
    let words: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: usize| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    Setup {
        events: value("--events", 50_000),
        rounds: value("--rounds", 5),
        window: value("--window", 1_000),
    }
}

fn events(count: usize) -> Vec<Envelope> {
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(288));
    (0..count).map(|n| event("t", "k", &format!("id-{n}"), data.clone())).collect()
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
    let ticks: Vec<u64> = rest.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}

fn median(mut all: Vec<Figure>) -> Figure {
    all.sort_by(|x, y| x.rate.total_cmp(&y.rate));
    let rate = all[all.len() / 2].rate;
    all.sort_by(|x, y| x.cpu.total_cmp(&y.cpu));
    Figure { rate, cpu: all[all.len() / 2].cpu }
}

async fn bare_publish(bare: &jetstream::Context, stream: &str, setup: Setup) -> Outcome<()> {
    let batch = events(setup.window);
    for from in (0..setup.events).step_by(setup.window) {
        let mut sent: Vec<PublishAckFuture> = Vec::with_capacity(batch.len());
        for event in fresh(&batch, from) {
            let mut headers = HeaderMap::new();
            for (name, value) in cloudevents::attributes(&event) {
                headers.insert(format!("ce-{name}"), &*value);
            }
            headers.insert("ce-datacontenttype", "application/json");
            headers.insert("Nats-Msg-Id", &*event.id);
            let subject = format!("{stream}.0");
            sent.push(bare.publish_with_headers(subject, headers, event.data).await?);
        }
        for confirmation in sent {
            confirmation.await?;
        }
    }
    Ok(())
}

async fn publish(nats: &Nats, batch: &[Envelope], setup: Setup) -> Outcome<()> {
    for from in (0..setup.events).step_by(setup.window) {
        nats.publish(&fresh(batch, from)).await?;
    }
    Ok(())
}

async fn bare_consume(bare: &jetstream::Context, stream: &str, setup: Setup, ack_policy: AckPolicy) -> Outcome<()> {
    let config = pull::Config {
        durable_name: Some(format!("{ack_policy:?}")),
        ack_policy,
        max_ack_pending: 10_000,
        ..pull::Config::default()
    };
    let consumer = bare.create_consumer_on_stream(config, stream).await?;
    let mut messages = consumer.stream().max_messages_per_batch(setup.window).messages().await?;
    for n in 1..=setup.events {
        let message = messages.next().await.ok_or("the stream ended")??;
        std::hint::black_box(&message.payload);
        if ack_policy == AckPolicy::Explicit || n % 100 == 0 || n == setup.events {
            message.ack().await?;
        }
    }
    Ok(bare.client().flush().await?)
}

async fn consume(nats: &Nats, setup: Setup) -> Outcome<()> {
    let spec = Subscribe {
        topics: vec!["t".into()],
        group: Some("g".into()),
        start: Start::Committed,
        in_flight_max: setup.window,
    };
    let mut member = nats.subscribe(&spec).await?;
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
