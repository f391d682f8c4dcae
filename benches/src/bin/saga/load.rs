//! A load of orders, so many at a time, and what it measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use trunkline_benches::{Span, percentile, rounded};

/// Every tenth order fails at its second step.
const FAILS_EVERY: u64 = 10;

/// Somebody who makes sagas.
pub(crate) trait Way: Send + Sync {
    /// Places an order and waits for the saga's end: whether it was confirmed, and not compensated.
    fn order(&self, n: u64, fails: bool) -> BoxFuture<'_, bool>;

    /// Processes that work for it. None: all of the work is done in this one, the load's own included.
    fn pids(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Ends it.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// What one turn measured.
pub(crate) struct Measured {
    sagas: f64,
    wall: f64,
    /// CPU seconds of whoever runs the sagas.
    cpu: f64,
    micros: Vec<u64>,
    load: f64,
}

impl Measured {
    /// What is told of a turn, and to how many digits.
    pub(crate) const FIGURES: [(&str, fn(&Self) -> f64, i32); 4] = [
        ("sagas_per_second", |one| one.sagas / one.wall, 1),
        ("p50_ms", |one| millis(percentile(&one.micros, 0.5)), 3),
        ("p99_ms", |one| millis(percentile(&one.micros, 0.99)), 3),
        ("cpu_micros", |one| one.cpu * 1e6 / one.sagas.max(1.0), 1),
    ];

    /// As a line of the report.
    pub(crate) fn told(&self) -> Map<String, Value> {
        let figures = Self::FIGURES.map(|(name, what, digits)| {
            let value = rounded(what(self), digits);
            (name.to_owned(), json!(value))
        });
        let mut told = Map::from_iter(figures);
        told.insert("load".into(), json!(self.load));
        told
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// Runs `at_once` orders at a time, first to warm up and then measured.
pub(crate) async fn run(
    way: &Arc<dyn Way>,
    at_once: usize,
    (warm, time): (Duration, Duration),
) -> Measured {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let stop = Arc::new(AtomicBool::new(false));
    let measuring = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..at_once {
        let (way, stop, measuring) = (way.clone(), stop.clone(), measuring.clone());
        clients.spawn(async move {
            let mut micros = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let n = NEXT.fetch_add(1, Ordering::Relaxed);
                let fails = n % FAILS_EVERY == FAILS_EVERY - 1;
                let begun = Instant::now();
                let confirmed = way.order(n, fails).await;
                assert_eq!(confirmed, !fails, "order {n} came to the wrong end");
                if measuring.load(Ordering::Relaxed) {
                    micros.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
            }
            micros
        });
    }
    tokio::time::sleep(warm).await;
    let pids = way.pids();
    let span = Span::start(&pids);
    measuring.store(true, Ordering::Relaxed);
    tokio::time::sleep(time).await;
    measuring.store(false, Ordering::Relaxed);
    let (wall, own, others) = span.stop();
    stop.store(true, Ordering::Relaxed);
    let mut micros: Vec<u64> = clients.join_all().await.into_iter().flatten().collect();
    micros.sort_unstable();
    Measured {
        sagas: micros.len() as f64,
        wall,
        cpu: if pids.is_empty() { own } else { others },
        micros,
        load: load_average(),
    }
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|one| one.parse().ok())
        .unwrap_or(f64::NAN)
}
