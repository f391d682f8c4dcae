//! What the benchmarks share: arguments, CPU time, percentiles, medians.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

pub mod engines;
pub mod flow;

/// `--name value` pairs.
#[derive(Debug, Clone)]
pub struct Args(HashMap<String, String>);

impl Args {
    /// The program's own arguments.
    pub fn parse() -> Self {
        let mut given = HashMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if let Some(name) = word.strip_prefix("--") {
                given.insert(name.to_owned(), words.next().unwrap_or_default());
            }
        }
        Self(given)
    }

    /// A text.
    pub fn text(&self, name: &str, otherwise: &str) -> String {
        self.0
            .get(name)
            .cloned()
            .unwrap_or_else(|| otherwise.to_owned())
    }

    /// A number.
    pub fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.0
            .get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(otherwise)
    }

    /// A time in seconds.
    pub fn seconds(&self, name: &str, otherwise: f64) -> Duration {
        let seconds = self
            .0
            .get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(otherwise);
        Duration::from_secs_f64(seconds)
    }
}

/// Wall time and CPU seconds (user and system) of this process and others since a start.
#[derive(Debug)]
pub struct Span {
    started: Instant,
    own: f64,
    others: f64,
    pids: Vec<u32>,
}

impl Span {
    /// Starts now; `pids` are servers whose time counts too.
    pub fn start(pids: &[u32]) -> Self {
        let others = pids.iter().map(|pid| cpu_seconds(&pid.to_string())).sum();
        Self {
            started: Instant::now(),
            own: cpu_seconds("self"),
            others,
            pids: pids.to_vec(),
        }
    }

    /// Wall seconds, own CPU seconds, the others' CPU seconds.
    pub fn stop(&self) -> (f64, f64, f64) {
        let others: f64 = self
            .pids
            .iter()
            .map(|pid| cpu_seconds(&pid.to_string()))
            .sum();
        let wall = self.started.elapsed().as_secs_f64();
        (wall, cpu_seconds("self") - self.own, others - self.others)
    }
}

/// CPU seconds of a process, all threads, in steps of 10 ms.
pub fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |at: usize| {
        after_name
            .split_whitespace()
            .nth(at)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0)
    };
    (field(11) + field(12)) / 100.0
}

/// The value below which the share `at` of the sorted values lies.
pub fn percentile(sorted: &[u64], at: f64) -> u64 {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * at).round() as usize;
    sorted.get(index).copied().unwrap_or(0)
}

/// The median of what was measured.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// Rounded to `digits` after the point.
pub fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// Long enough to be stable, short enough to be run often.
const RUN: Duration = Duration::from_millis(400);

/// Short enough that one ends before another program takes the processor.
const BATCH: u32 = 200;

/// Nanoseconds of an operation, the best of many short batches: what it costs when nobody else has the processor.
pub fn measure(results: &mut Map<String, Value>, name: &str, mut operation: impl FnMut()) {
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < RUN {
        let start = Instant::now();
        for _ in 0..BATCH {
            operation();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH));
    }
    results.insert(format!("{name}_ns"), json!((best * 10.0).round() / 10.0));
}
