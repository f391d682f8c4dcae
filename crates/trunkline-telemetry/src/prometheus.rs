//! Metrics in Prometheus' text format.

mod family;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_global_recorder,
};
use parking_lot::RwLock;
use trunkline_core::{Error, Result};

use self::family::{Family, Kind, Series};

/// Where the metrics of a process are counted. Cheap to clone.
///
/// # Guarantees
/// Its memory does not grow with time or with what is measured: a histogram is a fixed row of buckets, and a
/// metric has at most 1,000 series. What would be one more is counted under `overflow="true"`.
///
/// # Source
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
#[derive(Clone, Default)]
pub struct Registry(Arc<RwLock<BTreeMap<String, Family>>>);

/// Installs the registry of this process, once, and gives it.
///
/// # Errors
/// `Conflict` when another recorder was installed by somebody else.
pub fn install() -> Result<Registry> {
    static INSTALLED: OnceLock<Option<Registry>> = OnceLock::new();
    let registry = INSTALLED.get_or_init(|| {
        let registry = Registry::default();
        set_global_recorder(registry.clone())
            .ok()
            .map(|()| registry)
    });
    registry.clone().ok_or_else(|| {
        Error::conflict(
            "metrics_recorder_taken",
            "another recorder of metrics is installed already",
        )
    })
}

impl Registry {
    /// Writes every metric, in the order of their names.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &*self.0.read() {
            family.render(name, &mut text);
        }
        text
    }

    fn describe(&self, name: &KeyName, kind: Kind, help: SharedString) {
        let mut families = self.0.write();
        let family = families
            .entry(family::valid_name(name.as_str()))
            .or_insert_with(|| Family::new(kind));
        family.help = Some(help);
    }

    /// The series of a key; none when the name is already that of a metric of another kind.
    fn series(&self, key: &Key, kind: Kind) -> Option<Series> {
        let name = family::valid_name(key.name());
        if let Some(series) = self.0.read().get(&name).and_then(|family| family.find(key)) {
            return Some(series).filter(|series| series.kind() == kind);
        }
        let mut families = self.0.write();
        let family = families
            .entry(name)
            .or_insert_with_key(|_| Family::new(kind));
        (family.kind == kind).then(|| family.make(key))
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, Kind::Counter, help);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, Kind::Gauge, help);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, Kind::Histogram, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.series(key, Kind::Counter) {
            Some(Series::Counter(counter)) => Counter::from_arc(counter),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.series(key, Kind::Gauge) {
            Some(Series::Gauge(gauge)) => Gauge::from_arc(gauge),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.series(key, Kind::Histogram) {
            Some(Series::Histogram(buckets)) => Histogram::from_arc(buckets),
            _ => Histogram::noop(),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("metrics", &self.0.read().len())
            .finish()
    }
}
