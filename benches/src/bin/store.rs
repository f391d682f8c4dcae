//! Transactions and the outbox: commits per second, what publishing adds, what the relay sends.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --features store --bin store`

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use trunkline_benches::Args;
use trunkline_bus::Transport;
use trunkline_bus::memory::Memory;
use trunkline_core::Env;
use trunkline_store::{Migration, Relay, Store, sqlx};
use trunkline_telemetry::Telemetry;
use trunkline_testkit::numbered;
use trunkline_testkit::postgres::Postgres;

const TABLES: &[Migration] = &[Migration {
    name: "1",
    sql: "CREATE TABLE note (id TEXT PRIMARY KEY, value BIGINT NOT NULL, text TEXT NOT NULL)",
}];

/// What one transaction does.
#[derive(Clone, Copy)]
struct Work {
    row: bool,
    inbox: bool,
    events: usize,
}

const ROW: Work = Work {
    row: true,
    inbox: false,
    events: 0,
};

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let count = usize::try_from(args.number("count", 3000)).expect("a count");
    let folder = tempfile::tempdir_in(args.text("dir", ".")).expect("a folder to write in");
    let sqlite = format!("sqlite:{}/store.db", folder.path().display());
    let server = Postgres::start();
    let mut results = Map::new();
    results.insert(
        "fdatasync_4k_per_second".into(),
        json!(fdatasync(folder.path()).round()),
    );
    for (name, url) in [("sqlite", sqlite), ("postgres", server.schema_url("bench"))] {
        results.insert(
            name.into(),
            engine(&format!("{url}{}", pool(name)), count).await,
        );
    }
    println!("{}", Value::Object(results));
}

fn pool(name: &str) -> &'static str {
    if name == "postgres" { "&pool=16" } else { "" }
}

async fn engine(url: &str, count: usize) -> Value {
    let store = Store::open(url, "bench", Env::system())
        .await
        .expect("a store");
    store.migrate(TABLES).await.expect("tables");
    let mut results = Map::new();
    let mut reader = store.read().await.expect("a reader");
    let begun = Instant::now();
    for _ in 0..count {
        sqlx::query("SELECT 1")
            .execute(reader.conn())
            .await
            .expect("a statement");
    }
    drop(reader);
    results.insert(
        "statement_micros".into(),
        json!(micros(begun.elapsed(), count)),
    );
    let cases = [
        ("row", ROW),
        ("row_and_event", Work { events: 1, ..ROW }),
        ("row_and_10_events", Work { events: 10, ..ROW }),
        (
            "inbox_row_and_event",
            Work {
                inbox: true,
                events: 1,
                ..ROW
            },
        ),
    ];
    for (name, work) in cases {
        results.insert(name.into(), writers(&store, work, 1, count).await);
    }
    clear(&store).await;
    results.insert(
        "row_16_writers".into(),
        writers(&store, ROW, 16, count).await,
    );
    let both = Work { events: 1, ..ROW };
    results.insert(
        "row_and_event_16_writers".into(),
        writers(&store, both, 16, count).await,
    );
    clear(&store).await;
    results.insert(
        "with_relay".into(),
        with_relay(&store, both, 1, count).await,
    );
    results.insert(
        "with_relay_16_writers".into(),
        with_relay(&store, both, 16, count).await,
    );
    results.insert("backlog".into(), backlog(&store, 20_000).await);
    Value::Object(results)
}

async fn transaction(store: &Store, work: Work, n: usize) {
    let mut tx = store.begin().await.expect("a transaction");
    if work.inbox {
        tx.first_time("bench", &format!("e{}", store.env().id()))
            .await
            .expect("an inbox row");
    }
    if work.row {
        sqlx::query("INSERT INTO note (id, value, text) VALUES ($1, $2, $3)")
            .bind(store.env().id().to_string())
            .bind(i64::try_from(n).unwrap_or(0))
            .bind("a note of some length, as they are")
            .execute(tx.conn())
            .await
            .expect("a row");
    }
    for event in 0..work.events {
        let mut envelope = numbered("t", &format!("k{}", n % 100), n * 100 + event);
        envelope.data = vec![b'x'; 300].into();
        tx.publish(envelope).await.expect("an event");
    }
    tx.commit().await.expect("a commit");
}

async fn writers(store: &Store, work: Work, writers: usize, count: usize) -> Value {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            for n in 0..count / writers {
                let begun = Instant::now();
                transaction(&store, work, n * writers + writer).await;
                took.push(begun.elapsed());
            }
            took
        });
    }
    let mut took: Vec<Duration> = tasks.join_all().await.concat();
    let seconds = begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: usize| {
        took.get(took.len() * share / 100)
            .map_or(0, Duration::as_micros)
    };
    let rate = (took.len() as f64 / seconds).round();
    json!({ "per_second": rate, "p50_micros": at(50), "p99_micros": at(99) })
}

async fn relay(store: &Store) -> (Relay, Arc<Memory>) {
    let bus = Arc::new(Memory::new(Env::system()));
    let topics = trunkline_bus::lanes(&trunkline_testkit::topic("t", 4));
    bus.declare(&topics).await.expect("topics");
    let env = Env::system();
    (
        Relay::start(
            store.clone(),
            bus.clone(),
            Telemetry::disabled(env.clone()),
            env,
        ),
        bus,
    )
}

async fn with_relay(store: &Store, work: Work, count_of: usize, count: usize) -> Value {
    let (relay, _bus) = relay(store).await;
    let begun = Instant::now();
    let mut written = writers(store, work, count_of, count).await;
    assert!(
        relay.drain(Duration::from_secs(60)).await,
        "everything is sent"
    );
    let rate = (count / count_of * count_of) as f64 / begun.elapsed().as_secs_f64();
    if let Some(written) = written.as_object_mut() {
        written.insert("sent_per_second".into(), json!(rate.round()));
    }
    relay.stop().await;
    written
}

/// How fast a relay sends what has gathered.
async fn backlog(store: &Store, events: usize) -> Value {
    for n in 0..events / 100 {
        transaction(
            store,
            Work {
                row: false,
                inbox: false,
                events: 100,
            },
            n,
        )
        .await;
    }
    let begun = Instant::now();
    let (relay, _bus) = relay(store).await;
    assert!(
        relay.drain(Duration::from_secs(120)).await,
        "everything is sent"
    );
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    relay.stop().await;
    json!({ "sent_per_second": rate.round() })
}

async fn clear(store: &Store) {
    let mut tx = store.begin().await.expect("a transaction");
    sqlx::query("DELETE FROM trunkline_outbox")
        .execute(tx.conn())
        .await
        .expect("a statement");
    tx.commit().await.expect("a commit");
}

fn fdatasync(folder: &std::path::Path) -> f64 {
    use std::io::Write;
    let mut file = std::fs::File::create(folder.join("probe")).expect("a file");
    let begun = Instant::now();
    for _ in 0..500 {
        file.write_all(&[7; 4096]).expect("room");
        file.sync_data().expect("a disk");
    }
    500.0 / begun.elapsed().as_secs_f64()
}

fn micros(took: Duration, count: usize) -> f64 {
    (took.as_secs_f64() * 1e7 / count as f64).round() / 10.0
}
