//! Metrics in Prometheus' text format.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use trunkline_core::{Error, Result};

/// Bounds of the buckets of durations, in seconds: 50 µs to 30 s.
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Installs the recorder of this process, once, and gives the handle that renders it.
///
/// # Errors
/// `Conflict` when another recorder was installed by somebody else.
pub fn install() -> Result<PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| {
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
            .and_then(PrometheusBuilder::install_recorder)
            .ok()
    });
    handle.clone().ok_or_else(|| {
        Error::conflict(
            "metrics_recorder_taken",
            "another recorder of metrics is installed already",
        )
    })
}
