//! Trunkline's transport over Redis Streams against the bare `redis` client, with the same entries, window
//! and durability.
//!
//!     cargo run --release --manifest-path benches/Cargo.toml --features redis --bin redis -- \
//!         [--rounds 5] [--events 100000] [--windows 1000,100,1] [--fsync everysec,always]
//!
//! Publish: `window` events at a time, each batch awaited: a pipeline of `XADD`, against `publish`. Consume:
//! `window` at a time, all acknowledged: `XREADGROUP` and one `XACK`, against `next`, `ack` and a last
//! `flush`. Rounds are interleaved. One line of JSON per run, then one per case with the medians of the
//! rounds' ratios: of the rate (above 1 is in our favour), and of the client's and of both sides' CPU
//! seconds per event (below 1 is).

use std::sync::Arc;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{Cmd, Pipeline, Value, cmd};
use serde_json::json;
use trunkline_benches::{Args, Span, median, rounded};
use trunkline_bus::{Start, Subscribe, TopicSpec, Transport};
use trunkline_core::{Env, Envelope};
use trunkline_redis::{Redis, RedisConfig};
use trunkline_testkit::{event, redis::Server};

struct Side {
    events: usize,
    window: usize,
    url: String,
    pid: u32,
}

struct Run {
    per_second: f64,
    client: f64,
    both: f64,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let args = Args::parse();
    for fsync in args.text("fsync", "everysec,always").split(',') {
        let server = Server::start_with(&["--appendfsync", fsync]);
        for window in args.text("windows", "1000,100,1").split(',') {
            let window: usize = window.parse().expect("a number");
            let events = args.number("events", 100_000) as usize;
            let side = Side {
                // Alone, an event takes a round trip.
                events: if window == 1 { events / 20 } else { events },
                window,
                url: server.url(),
                pid: pid(&server),
            };
            compare(&side, fsync, args.number("rounds", 5)).await;
        }
    }
}

async fn compare(side: &Side, fsync: &str, rounds: u64) {
    let mut pairs: [Vec<(Run, Run)>; 2] = Default::default();
    for round in 0..rounds {
        let bare = bare(side).await;
        let ours = trunkline(side).await;
        for ((what, pairs), (bare, ours)) in ["publish", "consume"]
            .into_iter()
            .zip(&mut pairs)
            .zip(bare.into_iter().zip(ours))
        {
            for (who, run) in [("bare", &bare), ("trunkline", &ours)] {
                let line = json!({
                    "what": what, "who": who, "round": round, "window": side.window, "fsync": fsync,
                    "per_second": run.per_second.round(),
                    "cpu_per_100k": rounded(run.client * 1e5, 3),
                    "with_server_cpu_per_100k": rounded(run.both * 1e5, 3),
                });
                println!("{line}");
            }
            pairs.push((bare, ours));
        }
    }
    for (what, pairs) in ["publish", "consume"].into_iter().zip(&pairs) {
        let ratio = |of: &dyn Fn(&Run) -> f64| {
            let mut all: Vec<f64> = pairs
                .iter()
                .map(|(bare, ours)| of(ours) / of(bare))
                .collect();
            rounded(median(&mut all), 2)
        };
        let line = json!({
            "summary": what, "window": side.window, "fsync": fsync,
            "rate": ratio(&|run| run.per_second),
            "client_cpu": ratio(&|run| run.client),
            "both_cpu": ratio(&|run| run.both),
        });
        println!("{line}");
    }
}

fn pid(server: &Server) -> u32 {
    let info = server
        .cli()
        .args(["INFO", "server"])
        .output()
        .expect("it answers");
    let info = String::from_utf8_lossy(&info.stdout).into_owned();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("process_id:"));
    line.and_then(|pid| pid.trim().parse().ok())
        .expect("it tells its process")
}

fn measured(side: &Side, span: &Span) -> Run {
    let (wall, own, server) = span.stop();
    let events = side.events as f64;
    Run {
        per_second: events / wall,
        client: own / events,
        both: (own + server) / events,
    }
}

fn events(side: &Side) -> Vec<Envelope> {
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(288));
    (0..side.events)
        .map(|n| {
            event(
                "t",
                &format!("k{}", n % 100),
                &format!("event-{n}"),
                data.clone(),
            )
        })
        .collect()
}

async fn bare(side: &Side) -> [Run; 2] {
    let client = ::redis::Client::open(side.url.clone()).expect("a URL");
    let mut link = client
        .get_multiplexed_async_connection()
        .await
        .expect("it connects");
    link.set_response_timeout(std::time::Duration::from_secs(60));
    let _: Value = link
        .req_packed_command(&cmd("FLUSHALL"))
        .await
        .expect("it flushes");
    let mut create = cmd("XGROUP");
    create.arg(&["CREATE", "bare", "g", "0", "MKSTREAM"]);
    link.req_packed_command(&create)
        .await
        .expect("a group is made");
    let events = events(side);
    let span = Span::start(&[side.pid]);
    for batch in events.chunks(side.window) {
        let mut pipe = Pipeline::with_capacity(batch.len());
        for event in batch {
            pipe.add_command(add(event));
        }
        link.req_packed_commands(&pipe, 0, batch.len())
            .await
            .expect("they are added");
    }
    let published = measured(side, &span);
    let span = Span::start(&[side.pid]);
    consume_bare(side, &mut link).await;
    [published, measured(side, &span)]
}

/// The entry that Trunkline writes for the same event.
fn add(event: &Envelope) -> Cmd {
    let mut cmd = Cmd::with_capacity(30, 700);
    cmd.arg("XADD").arg("bare").arg("*");
    cmd.arg("specversion").arg("1.0").arg("id").arg(&*event.id);
    cmd.arg("source")
        .arg(&*event.source)
        .arg("type")
        .arg(&*event.event_type);
    cmd.arg("time").arg("2026-01-01T00:00:00Z");
    cmd.arg("dataversion")
        .arg("1.0")
        .arg("partitionkey")
        .arg(event.key.as_deref());
    cmd.arg("correlationid").arg(&*event.correlation_id);
    cmd.arg("eventkind")
        .arg("domain")
        .arg("priority")
        .arg("medium");
    cmd.arg("datacontenttype").arg("application/json");
    cmd.arg("data").arg(&*event.data);
    cmd
}

async fn consume_bare(side: &Side, link: &mut MultiplexedConnection) {
    let mut done = 0;
    while done < side.events {
        let mut read = cmd("XREADGROUP");
        read.arg(&["GROUP", "g", "me", "COUNT"]).arg(side.window);
        read.arg(&["BLOCK", "1000", "STREAMS", "bare", ">"]);
        let answer = link.req_packed_command(&read).await.expect("entries come");
        let mut ack = cmd("XACK");
        ack.arg("bare").arg("g");
        for id in ids(answer) {
            ack.arg(id);
            done += 1;
        }
        link.req_packed_command(&ack)
            .await
            .expect("they are acknowledged");
    }
}

/// The least that a client does with what it reads: it finds the ids.
fn ids(answer: Value) -> Vec<Vec<u8>> {
    let first = |value: Value, at: usize| match value {
        Value::Array(values) => values.into_iter().nth(at).unwrap_or(Value::Nil),
        _ => Value::Nil,
    };
    let Value::Array(entries) = first(first(answer, 0), 1) else {
        return Vec::new();
    };
    let id = |entry| match first(entry, 0) {
        Value::BulkString(id) => Some(id),
        _ => None,
    };
    entries.into_iter().filter_map(id).collect()
}

async fn trunkline(side: &Side) -> [Run; 2] {
    let config = RedisConfig::from_url(&side.url).expect("a URL");
    let bus = Redis::connect(config, Env::system())
        .await
        .expect("it connects");
    let bus: Arc<dyn Transport> = Arc::new(bus);
    let topic = TopicSpec {
        groups: vec!["g".into()],
        ..trunkline_testkit::topic("t", 1)
    };
    let client = ::redis::Client::open(side.url.clone()).expect("a URL");
    let mut link = client
        .get_multiplexed_async_connection()
        .await
        .expect("it connects");
    let _: Value = link
        .req_packed_command(&cmd("FLUSHALL"))
        .await
        .expect("it flushes");
    bus.declare(&[topic]).await.expect("it is declared");
    let events = events(side);
    let span = Span::start(&[side.pid]);
    for batch in events.chunks(side.window) {
        bus.publish(batch).await.expect("they are published");
    }
    let published = measured(side, &span);
    let span = Span::start(&[side.pid]);
    let spec = Subscribe {
        topics: vec!["t".into()],
        group: Some("g".into()),
        start: Start::Committed,
        in_flight_max: side.window,
    };
    let mut member = bus.subscribe(&spec).await.expect("it subscribes");
    let mut done = 0;
    while done < side.events {
        for delivery in member.next(side.window).await.expect("deliveries come") {
            delivery.receipt.ack();
            done += 1;
        }
    }
    member.flush().await.expect("it flushes");
    let consumed = measured(side, &span);
    drop(member);
    bus.close().await.expect("it closes");
    [published, consumed]
}
