//! A process that publishes and consumes is killed again and again. Nothing acknowledged is lost, order
//! is kept, and no position is beyond what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use trunkline_bus::{Start, Transport};
use trunkline_core::{Env, Envelope};
use trunkline_log::{Log, LogConfig};
use trunkline_testkit::{Child, topic};

use crate::support::{drain, padded, read_all, spec};

const FOLDER: &str = "TRUNKLINE_LOG_CRASH_FOLDER";
const KILLS: u64 = 30;
const KEYS: usize = 4;

fn config(dir: &Path) -> LogConfig {
    let mut config = LogConfig::new(dir);
    config.segment_bytes_max = 256 * 1024;
    config.tail_bytes_max = 64 * 1024;
    config
}

/// What the killed processes said before they died.
#[derive(Default)]
struct Told {
    /// The highest number of each key that was begun, and that was acknowledged.
    begun: BTreeMap<String, usize>,
    published: BTreeMap<String, usize>,
    /// Ids that the consumer was about to acknowledge: it said so first.
    acked: BTreeSet<String>,
}

#[test]
fn killed_at_random_it_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    let env = Env::seeded(42);
    for kill in 0..KILLS {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "crash::child", "--nocapture"])
            .env(FOLDER, dir.path());
        let mut child = Child::spawn(command.stdout(Stdio::piped())).unwrap();
        let output = child.process().stdout.take().unwrap();
        let reader = std::thread::spawn(move || lines(BufReader::new(output)));
        // The moment is random; that it has no meaning is the point.
        std::thread::sleep(Duration::from_millis(30 + env.random_u64() % 250));
        let status = child.kill().unwrap();
        assert!(Child::was_killed(status), "it ended by itself: {status}");
        told.hear(reader.join().unwrap());
        runtime().block_on(check(dir.path(), &told, kill));
    }
    let total: usize = told.published.values().sum();
    assert!(
        total > 100,
        "only {total} events were published: nothing was tested"
    );
    assert!(
        told.acked.len() > 100,
        "only {} were acknowledged",
        told.acked.len()
    );
}

/// All whole lines up to the death of who wrote them.
fn lines(mut from: impl BufRead) -> Vec<String> {
    let mut all = Vec::new();
    let mut line = String::new();
    while from.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
        all.push(std::mem::take(&mut line));
    }
    all
}

impl Told {
    fn hear(&mut self, lines: Vec<String>) {
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["begun", key, n] => {
                    self.begun.insert((*key).into(), n.parse().unwrap());
                }
                ["published", key, n] => {
                    self.published.insert((*key).into(), n.parse().unwrap());
                }
                ["ack", id] => {
                    self.acked.insert((*id).into());
                }
                _ => {}
            }
        }
    }
}

async fn check(dir: &Path, told: &Told, kill: u64) {
    let log = Log::open(config(dir), Env::system()).unwrap();
    log.declare(&[topic("t", 3)]).await.unwrap();
    let (all, error) = read_all(&log).await;
    assert!(error.is_none(), "after kill {kill}: {error:?}");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (.., event) in &all {
        let key = event.key.clone().unwrap().to_string();
        let count = counts.entry(key.clone()).or_default();
        assert_eq!(
            *event,
            padded(&key, *count),
            "after kill {kill}: out of order or altered"
        );
        *count += 1;
    }
    for (key, published) in &told.published {
        let kept = counts.get(key).copied().unwrap_or(0);
        assert!(
            kept > *published,
            "after kill {kill}: {key}/{published} was acknowledged, {kept} kept"
        );
    }
    for (key, kept) in &counts {
        let begun = told.begun.get(key).copied().unwrap_or(0);
        assert!(
            *kept <= begun + 1,
            "after kill {kill}: {key} has {kept}, {begun} were begun"
        );
    }
    let mut member = log
        .subscribe(&spec(Some("g"), Start::Committed))
        .await
        .unwrap();
    let mut left = BTreeSet::new();
    let mut held = Vec::new();
    while left.len() < usize::try_from(member.lag().await.unwrap()).unwrap() {
        for delivery in member.next(1000).await.unwrap() {
            left.insert(delivery.envelope.id.to_string());
            held.push(delivery);
        }
    }
    for (.., event) in &all {
        let id = event.id.to_string();
        let done = told.acked.contains(&id);
        assert!(
            done || left.contains(&id),
            "after kill {kill}: {id} was skipped"
        );
    }
    // Nothing is settled here: the next process goes on where the group was.
    drop(member);
    drop(held);
    log.close().await.unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// The process that is killed: this test, run again by the one above.
#[test]
fn child() {
    let Ok(dir) = std::env::var(FOLDER) else {
        return;
    };
    runtime().block_on(async {
        let log = Log::open(config(Path::new(&dir)), Env::system()).unwrap();
        log.declare(&[topic("t", 3)]).await.unwrap();
        let mut next = [0; KEYS];
        for (.., event) in read_all(&log).await.0 {
            let key: usize = event.key.unwrap()[1..].parse().unwrap();
            next[key] += 1;
        }
        let mut work = tokio::task::JoinSet::new();
        for (key, first) in next.into_iter().enumerate() {
            work.spawn(publish(log.clone(), format!("k{key}"), first));
        }
        work.spawn(consume(log));
        work.join_all().await;
    });
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .unwrap();
}

async fn publish(log: Log, key: String, first: usize) {
    let mut n = first;
    loop {
        let count = 1 + n % 7;
        let batch: Vec<Envelope> = (n..n + count).map(|n| padded(&key, n)).collect();
        n += count;
        say(&format!("\nbegun {key} {}\n", n - 1));
        log.publish(&batch).await.unwrap();
        say(&format!("\npublished {key} {}\n", n - 1));
    }
}

async fn consume(log: Log) {
    let mut member = log
        .subscribe(&spec(Some("g"), Start::Committed))
        .await
        .unwrap();
    loop {
        for delivery in member.next(50).await.unwrap() {
            // Some are left out for a while, so that acknowledgements come out of order.
            if delivery.redeliveries == 0 && delivery.offset % 11 == 0 {
                delivery.receipt.retry(Duration::from_millis(5));
                continue;
            }
            say(&format!("\nack {}\n", delivery.envelope.id));
            delivery.receipt.ack();
        }
    }
}

/// A reader that acknowledges nothing durable does not disturb the group.
#[test]
fn a_reader_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let log = Log::open(config(dir.path()), Env::system()).unwrap();
        log.declare(&[topic("t", 3)]).await.unwrap();
        log.publish(&[padded("k0", 0)]).await.unwrap();
        let mut reader = log.subscribe(&spec(None, Start::Earliest)).await.unwrap();
        drain(&mut *reader).await;
        drop(reader);
        let member = log
            .subscribe(&spec(Some("g"), Start::Committed))
            .await
            .unwrap();
        assert_eq!(member.lag().await.unwrap(), 1);
    });
}
