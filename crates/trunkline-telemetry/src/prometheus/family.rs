//! One metric with all its series.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use metrics::{HistogramFn, Key, Label, SharedString};

/// The most series of one metric.
pub(super) const SERIES_MAX: usize = 1_000;
/// Bounds of the buckets of durations, in seconds: 50 µs to 30 s.
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Bounds of the buckets of durations in milliseconds, for metrics that others have named.
const MILLIS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 80.0, 100.0, 250.0, 400.0, 700.0, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4,
];
/// Bounds of the buckets of everything else: counts and sizes.
const SIZES: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric.
pub(super) struct Family {
    pub(super) kind: Kind,
    pub(super) help: Option<SharedString>,
    series: HashMap<Key, Series>,
}

/// One metric with certain labels.
#[derive(Clone)]
pub(super) enum Series {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

impl Series {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Histogram(_) => Kind::Histogram,
        }
    }
}

impl Family {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            help: None,
            series: HashMap::new(),
        }
    }

    pub(super) fn find(&self, key: &Key) -> Option<Series> {
        self.series.get(key).cloned()
    }

    /// The series of a key, a new one if need be.
    pub(super) fn make(&mut self, key: &Key) -> Series {
        if let Some(series) = self.series.get(key) {
            return series.clone();
        }
        let mut key = key.clone();
        if self.series.len() >= SERIES_MAX {
            if self.series.len() == SERIES_MAX {
                tracing::warn!(
                    metric = key.name(),
                    series_max = SERIES_MAX,
                    "a metric has too many series; has a label an id in it?"
                );
            }
            key = Key::from_parts(
                key.name().to_owned(),
                vec![Label::from_static_parts("overflow", "true")],
            );
        }
        let kind = self.kind;
        let name = key.name().to_owned();
        let series = self.series.entry(key).or_insert_with(|| match kind {
            Kind::Counter => Series::Counter(Arc::default()),
            Kind::Gauge => Series::Gauge(Arc::default()),
            Kind::Histogram => Series::Histogram(Arc::new(Buckets::of(&name))),
        });
        series.clone()
    }

    pub(super) fn render(&self, name: &str, text: &mut String) {
        if let Some(help) = &self.help {
            line(text, format_args!("# HELP {name} {}", escaped(help, false)));
        }
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        line(text, format_args!("# TYPE {name} {kind}"));
        let mut rows: Vec<_> = self
            .series
            .iter()
            .map(|(key, series)| (labels(key), series))
            .collect();
        rows.sort_by(|(left, _), (right, _)| left.cmp(right));
        for (labels, series) in rows {
            match series {
                Series::Counter(count) => {
                    let count = count.load(Ordering::Relaxed);
                    line(text, format_args!("{name}{} {count}", braces(&labels)));
                }
                Series::Gauge(bits) => {
                    let value = f64::from_bits(bits.load(Ordering::Relaxed));
                    line(text, format_args!("{name}{} {value}", braces(&labels)));
                }
                Series::Histogram(buckets) => buckets.render(name, &labels, text),
            }
        }
    }
}

/// Threads count in so many places, so that cores don't wait for each other's.
const SHARDS: usize = 4;

/// A histogram: how many values lie at or below each bound.
pub(super) struct Buckets {
    bounds: &'static [f64],
    shards: [Shard; SHARDS],
}

/// What some of the threads counted. It shares no line of the cache with another.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    /// One for each bound, and one for what lies beyond the last.
    counts: [AtomicU64; SECONDS.len() + 1],
    /// The bits of the sum.
    sum: AtomicU64,
}

impl Shard {
    /// That of this thread.
    fn of_thread(shards: &[Self; SHARDS]) -> Option<&Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        shards.get(MINE.with(|mine| *mine))
    }
}

impl Buckets {
    fn of(name: &str) -> Self {
        let bounds = if name.ends_with("_seconds") {
            SECONDS
        } else if name.ends_with("_ms") {
            MILLIS
        } else {
            SIZES
        };
        Self {
            bounds,
            shards: std::array::from_fn(|_| Shard::default()),
        }
    }

    fn render(&self, name: &str, labels: &str, text: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for at in 0..=self.bounds.len() {
            let counted = self.shards.iter().filter_map(|shard| shard.counts.get(at));
            count += counted
                .map(|bucket| bucket.load(Ordering::Relaxed))
                .sum::<u64>();
            let bound = self
                .bounds
                .get(at)
                .map_or_else(|| "+Inf".to_owned(), f64::to_string);
            line(
                text,
                format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"),
            );
        }
        let labels = braces(labels);
        let sums = self.shards.iter().map(|shard| &shard.sum);
        let sum: f64 = sums
            .map(|sum| f64::from_bits(sum.load(Ordering::Relaxed)))
            .sum();
        line(text, format_args!("{name}_sum{labels} {sum}"));
        line(text, format_args!("{name}_count{labels} {count}"));
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        let Some(shard) = Shard::of_thread(&self.shards) else {
            return;
        };
        if let Some(bucket) = shard.counts.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        // It always gives a new value, so it always succeeds.
        let _previous = shard
            .sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _fits = writeln!(text, "{line}");
}

fn labels(key: &Key) -> String {
    let labels = key.labels().map(|label| {
        let name = valid_name(label.key()).replace(':', "_");
        format!("{name}=\"{}\"", escaped(label.value(), true))
    });
    labels.collect::<Vec<_>>().join(",")
}

fn braces(labels: &str) -> String {
    if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    }
}

fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes {
        text.replace('"', "\\\"")
    } else {
        text
    }
}

/// A name with only what Prometheus takes; everything else becomes an underscore.
pub(super) fn valid_name(name: &str) -> String {
    let valid = |(at, c): (usize, char)| {
        let fits = c.is_ascii_alphabetic() || c == '_' || c == ':' || at > 0 && c.is_ascii_digit();
        if fits { c } else { '_' }
    };
    name.chars().enumerate().map(valid).collect()
}
