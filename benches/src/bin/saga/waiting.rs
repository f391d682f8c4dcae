//! Sagas that wait: what so many of them cost while nothing happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use trunkline_benches::{Args, Span, rounded};
use trunkline_core::Result;
use trunkline_saga::{Begin, Definition, Engine, Plain, Query, Saga, State, Which};

use crate::ours::Running;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How many are started at a time.
const AT_ONCE: u64 = 256;

/// Half of them wait for a signal, the others for a time a day off.
pub(crate) async fn measure(args: &Args) -> Value {
    let count = args.number("count", 100_000);
    let folder = tempfile::tempdir_in(args.text("dir", ".")).expect("a folder to write in");
    let sagas = vec![
        Definition::named("payment").version(1, payment),
        Definition::named("timer").version(1, timer),
    ];
    let running = Running::start(folder.path(), sagas).await;
    // What the first few cost once is not what each costs.
    begin(&running.engine, 0..count / 100).await;
    rest(&running.engine).await;
    let before = resident();
    let begun = Instant::now();
    begin(&running.engine, count / 100..count).await;
    rest(&running.engine).await;
    let took = begun.elapsed();
    let after = resident();
    let span = Span::start(&[]);
    tokio::time::sleep(args.seconds("seconds", 10.0)).await;
    let (wall, cpu, _) = span.stop();
    let woken = wake(&running.engine).await;
    let measured = json!({
        "waiting": count, "begun_in_s": rounded(took.as_secs_f64(), 1),
        "rss_mib_before": before, "rss_mib": after, "rss_mib_more": rounded(after - before, 1),
        "cpu_percent_of_a_core": rounded(cpu / wall * 100.0, 2),
        "woken_in_ms": woken,
    });
    running.stop().await;
    measured
}

async fn payment(saga: Saga<Plain>, order: String) -> Result<String> {
    saga.step::<()>("reserve").run(|_| async { Ok(()) }).await?;
    let by = saga.signal::<String>("paid", DAY).await?;
    Ok(format!("{order} by {}", by.unwrap_or_default()))
}

async fn timer(saga: Saga<Plain>, order: String) -> Result<String> {
    saga.step::<()>("reserve").run(|_| async { Ok(()) }).await?;
    saga.sleep("a day", DAY).await?;
    Ok(order)
}

async fn begin(engine: &Engine<Plain>, orders: std::ops::Range<u64>) {
    let mut clients = JoinSet::new();
    let next = Arc::new(std::sync::atomic::AtomicU64::new(orders.start));
    for _ in 0..AT_ONCE {
        let (engine, next) = (engine.clone(), next.clone());
        let end = orders.end;
        clients.spawn(async move {
            loop {
                let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if n >= end {
                    return;
                }
                let key = key(n);
                let saga = if n % 2 == 0 { "payment" } else { "timer" };
                let begin = Begin::flow(key.as_str());
                let started = engine.start(saga, &key, &key, begin).await;
                started.expect("a start");
            }
        });
    }
    clients.join_all().await;
}

fn key(n: u64) -> String {
    format!("ord-{n:010}")
}

/// Until none runs any more.
async fn rest(engine: &Engine<Plain>) {
    let query = Query {
        state: Some(State::Running),
        max: 1,
        ..Query::default()
    };
    while !engine.list(&query).await.expect("a list").is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How long ten of them take from their signal to their end, one after the other, the median in milliseconds.
async fn wake(engine: &Engine<Plain>) -> f64 {
    let mut took = Vec::new();
    for n in 0..10 {
        let which = Which::Key("payment".into(), key(n * 2).into());
        let begun = Instant::now();
        let signal = engine.signal(which.clone(), "s-1", ("paid", &"Ada")).await;
        signal.expect("a signal");
        let ended = engine.settled(&which).await.expect("an end");
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        assert_eq!(ended.state, State::Completed);
    }
    rounded(trunkline_benches::median(&mut took), 2)
}

/// What this process has in memory, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kib| kib.parse::<f64>().ok());
    rounded(kib.unwrap_or(f64::NAN) / 1024.0, 1)
}
