//! The bus in memory: publish to handled, one at a time and in bulk, and with poisoned keys.
//!
//! `bus --mode alone|bulk|poison [--seconds 3] [--batch 1] [--rounds 5]`

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::Notify;
use trunkline_benches::{Args, Span, median, rounded};
use trunkline_bus::memory::{Memory, MemoryLot};
use trunkline_bus::{
    Consumer, ConsumerConfig, ConsumerPorts, Handler, Outcome, TopicSpec, Transport, lanes,
};
use trunkline_core::{Env, Envelope, Error, Kind, Priority, Version};
use trunkline_telemetry::Telemetry;

/// Counts what it handles; refuses keys that begin with `bad`.
#[derive(Default)]
struct Counter {
    handled: AtomicU64,
    woken: Notify,
    /// How long each event takes, by the clock and not the processor.
    work: Duration,
}

impl Handler for Counter {
    fn handle<'a>(&'a self, batch: &'a [Envelope], _: u32) -> BoxFuture<'a, Vec<Outcome>> {
        async move {
            if !self.work.is_zero() {
                tokio::time::sleep(self.work).await;
            }
            let refuse =
                |event: &Envelope| event.key.as_deref().is_some_and(|k| k.starts_with("bad"));
            let mut failed: Vec<&Envelope> = Vec::new();
            let mut done = 0;
            let mut outcomes = Vec::with_capacity(batch.len());
            for event in batch {
                outcomes.push(if !refuse(event) {
                    done += 1;
                    Outcome::Done
                } else if failed.iter().any(|other| other.key == event.key) {
                    Outcome::Blocked
                } else {
                    failed.push(event);
                    Outcome::Failed(Error::unavailable("poisoned", "the event is poisoned"))
                });
            }
            self.handled.fetch_add(done, Ordering::Release);
            self.woken.notify_one();
            outcomes
        }
        .boxed()
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").finish_non_exhaustive()
    }
}

struct Rig {
    memory: Memory,
    counter: Arc<Counter>,
    consumer: Consumer,
    template: Envelope,
    env: Env,
}

impl Rig {
    async fn new(batch: u64, work: Duration) -> Self {
        let env = Env::system();
        let memory = Memory::new(env.clone());
        let topic = TopicSpec {
            name: "t".into(),
            partitions: 8,
            retention: None,
            retention_bytes: None,
            groups: Vec::new(),
        };
        memory
            .declare(&lanes(&topic))
            .await
            .expect("a topic is declared");
        let counter = Arc::new(Counter {
            work,
            ..Counter::default()
        });
        let all = [Priority::High, Priority::Medium, Priority::Low];
        let mut config = ConsumerConfig::new("bench").topic("t", &all);
        config.in_flight_max = 4_096;
        config.batch_max = usize::try_from(batch).expect("a batch size");
        let ports = ConsumerPorts {
            transport: Arc::new(memory.clone()),
            handler: counter.clone(),
            lot: Arc::new(MemoryLot::new(1_000_000)),
            telemetry: Telemetry::new(env.clone()),
            env: env.clone(),
        };
        let consumer = Consumer::start(config, ports)
            .await
            .expect("the consumer starts");
        let template = template(&env);
        Self {
            memory,
            counter,
            consumer,
            template,
            env,
        }
    }

    fn event(&self, key: &str) -> Envelope {
        Envelope {
            id: self.env.id().to_string().into(),
            key: Some(key.into()),
            ..self.template.clone()
        }
    }

    async fn handled(&self, count: u64) {
        while self.counter.handled.load(Ordering::Acquire) < count {
            self.counter.woken.notified().await;
        }
    }
}

fn template(env: &Env) -> Envelope {
    Envelope {
        id: "".into(),
        event_type: "bench.happened".into(),
        version: Version::new(1, 0),
        source: "bench".into(),
        time: env.now(),
        topic: "t".into(),
        key: None,
        correlation_id: "flow".into(),
        causation_id: None,
        trace: None,
        user_id: None,
        kind: Kind::Domain,
        priority: Priority::Medium,
        content_type: "application/json".into(),
        extensions: Vec::new(),
        data: vec![b'1'; 300].into(),
    }
}

async fn alone(args: &Args) {
    let rig = Rig::new(args.number("batch", 1), Duration::ZERO).await;
    let until = Instant::now() + args.seconds("seconds", 3.0);
    let mut took = Vec::new();
    while Instant::now() < until {
        let event = rig.event("k");
        let begun = Instant::now();
        rig.memory.publish(&[event]).await.expect("it publishes");
        rig.handled(took.len() as u64 + 1).await;
        took.push(begun.elapsed());
    }
    let warm = took.len() / 10;
    let mut took = took.split_off(warm);
    took.sort_unstable();
    let at = |share: f64| took[(took.len() as f64 * share) as usize].as_nanos() as f64 / 1_000.0;
    println!(
        "{}",
        json!({"bench": "bus", "mode": "alone", "events": took.len(), "p50_us": at(0.5),
            "p95_us": at(0.95), "p99_us": at(0.99)})
    );
}

/// Publishes batches of 100 over many keys, at most 8,192 events ahead of the handler.
async fn flood(rig: &Rig, keys: &[String], length: Duration) -> f64 {
    let begun = Instant::now();
    let sound = |key: &&String| !key.starts_with("bad");
    let mut published = 0;
    let mut at = 0;
    while begun.elapsed() < length {
        let batch: Vec<&String> = (0..100).map(|n| &keys[(at + n) % keys.len()]).collect();
        at += 100;
        published += batch.iter().copied().filter(sound).count() as u64;
        let events: Vec<Envelope> = batch.iter().map(|key| rig.event(key)).collect();
        rig.memory.publish(&events).await.expect("it publishes");
        rig.handled(published.saturating_sub(8_192)).await;
    }
    rig.handled(published).await;
    published as f64 / begun.elapsed().as_secs_f64()
}

async fn bulk(args: &Args) {
    let rig = Rig::new(args.number("batch", 1), Duration::ZERO).await;
    let keys: Vec<String> = (0..1_000).map(|n| format!("k{n}")).collect();
    flood(&rig, &keys, Duration::from_millis(500)).await;
    rig.counter.handled.store(0, Ordering::Release);
    let span = Span::start(&[]);
    let rate = flood(&rig, &keys, args.seconds("seconds", 3.0)).await;
    let (wall, cpu, _) = span.stop();
    println!(
        "{}",
        json!({"bench": "bus", "mode": "bulk", "batch_max": args.number("batch", 1),
            "events_per_second": rate.round(),
            "cpu_s_per_100k": rounded(cpu / (rate * wall) * 100_000.0, 3)})
    );
}

/// 990 sound keys beside 10 sound or 10 poisoned ones, in turns: what share of the sound keys' rate
/// is left, by the clock and by the processor's time for each event of theirs.
async fn poison(args: &Args) {
    let batch = args.number("batch", 1);
    let work = Duration::from_micros(args.number("work-us", 0));
    let length = args.seconds("seconds", 4.0);
    let sound: Vec<String> = (0..990).map(|n| format!("k{n}")).collect();
    let with = |prefix: &str| {
        let mut keys = sound.clone();
        (0..10).for_each(|n| keys.insert(n * 99, format!("{prefix}{n}")));
        keys
    };
    let (mut by_clock, mut by_cpu) = (Vec::new(), Vec::new());
    for round in 0..args.number("rounds", 5) {
        let mut rates = [0.0; 2];
        let mut costs = [0.0; 2];
        for turn in [round % 2, 1 - round % 2] {
            let rig = Rig::new(batch, work).await;
            let keys = with(if turn == 0 { "fine" } else { "bad" });
            let span = Span::start(&[]);
            let rate = flood(&rig, &keys, length).await;
            let (wall, cpu, _) = span.stop();
            // Where the ten are sound they count too: compare the other 990.
            let rate = if turn == 0 { rate * 0.99 } else { rate };
            rates[turn as usize] = rate;
            costs[turn as usize] = cpu / (rate * wall);
            drop(rig.consumer.drain(Duration::from_secs(5)).await);
        }
        by_clock.push(rates[1] / rates[0]);
        by_cpu.push(costs[0] / costs[1]);
        println!(
            "{}",
            json!({"bench": "bus", "mode": "poison", "round": round, "batch_max": batch,
                "sound": rates[0].round(), "poisoned": rates[1].round(),
                "ratio": rounded(rates[1] / rates[0], 3),
                "cpu_ratio": rounded(costs[0] / costs[1], 3)})
        );
    }
    println!(
        "{}",
        json!({"bench": "bus", "mode": "poison", "median_ratio": rounded(median(&mut by_clock), 3),
            "median_cpu_ratio": rounded(median(&mut by_cpu), 3)})
    );
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    match args.text("mode", "alone").as_str() {
        "bulk" => bulk(&args).await,
        "poison" => poison(&args).await,
        _ => alone(&args).await,
    }
}
