//! `prometheus`: Kong's metrics, among those of the platform.

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;
use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::ByteString;

use super::{Ended, Making, Mistake, Plugin, mistake, settings};

/// So many series are kept at hand; those beyond are looked up each time, and the registry has a bound of its own.
const SERIES_MAX: usize = 4_096;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    per_consumer: bool,
    status_code_metrics: bool,
    latency_metrics: bool,
    bandwidth_metrics: bool,
    upstream_health_metrics: bool,
    ai_metrics: bool,
    wasm_metrics: bool,
}

#[derive(Debug)]
struct Prometheus {
    per_consumer: bool,
    statuses: bool,
    latencies: bool,
    bandwidth: bool,
    series: RwLock<HashMap<Labels, Arc<Series>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Labels {
    service: ByteString,
    route: ByteString,
    consumer: ByteString,
    status: StatusCode,
    is_services: bool,
}

struct Series {
    requests: Counter,
    ingress: Counter,
    egress: Counter,
    all: Histogram,
    service: Histogram,
    gateway: Histogram,
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    for (name, is_on) in [
        ("upstream_health_metrics", settings.upstream_health_metrics),
        ("ai_metrics", settings.ai_metrics),
        ("wasm_metrics", settings.wasm_metrics),
    ] {
        if is_on {
            return Err(mistake(
                name,
                "expected false: there are no such metrics here",
            ));
        }
    }
    Ok(Arc::new(Prometheus {
        per_consumer: settings.per_consumer,
        statuses: settings.status_code_metrics,
        latencies: settings.latency_metrics,
        bandwidth: settings.bandwidth_metrics,
        series: RwLock::default(),
    }))
}

impl Prometheus {
    fn labels(&self, ended: &Ended<'_>) -> Labels {
        let exchange = ended.exchange;
        let consumer = exchange.consumer.as_ref().filter(|_| self.per_consumer);
        Labels {
            service: exchange.service.clone(),
            route: exchange.route.clone(),
            consumer: consumer
                .map(|member| member.username.clone())
                .unwrap_or_default(),
            status: ended.status,
            is_services: ended.service_status.is_some(),
        }
    }

    fn series(&self, labels: Labels) -> Arc<Series> {
        if let Some(series) = self.series.read().get(&labels) {
            return series.clone();
        }
        let made = Arc::new(Series::new(&labels));
        let mut series = self.series.write();
        if series.len() < SERIES_MAX {
            series.insert(labels, made.clone());
        }
        made
    }
}

impl Series {
    fn new(labels: &Labels) -> Self {
        let text = ByteString::to_string;
        let place = [
            ("service", text(&labels.service)),
            ("route", text(&labels.route)),
            ("workspace", "default".to_owned()),
        ];
        let with = |more: &[(&'static str, String)]| [&place[..], more].concat();
        let consumer = || ("consumer", text(&labels.consumer));
        let source = if labels.is_services {
            "service"
        } else {
            "kong"
        };
        let bytes = |direction: &str| {
            let labels = with(&[("direction", direction.to_owned()), consumer()]);
            counter!("kong_bandwidth_bytes", &labels)
        };
        let requests = with(&[
            ("code", labels.status.as_str().to_owned()),
            ("source", source.to_owned()),
            consumer(),
        ]);
        Self {
            requests: counter!("kong_http_requests_total", &requests),
            ingress: bytes("ingress"),
            egress: bytes("egress"),
            all: histogram!("kong_request_latency_ms", &place),
            service: histogram!("kong_upstream_latency_ms", &place),
            gateway: histogram!("kong_kong_latency_ms", &place),
        }
    }
}

impl Plugin for Prometheus {
    fn sees_answers(&self) -> bool {
        false
    }

    fn remembers(&self) -> bool {
        true
    }

    fn hears_ends(&self) -> bool {
        self.statuses || self.latencies || self.bandwidth
    }

    fn ended(&self, ended: &Ended<'_>) {
        let series = self.series(self.labels(ended));
        if self.statuses {
            series.requests.increment(1);
        }
        if self.bandwidth {
            series.ingress.increment(ended.bytes_in);
            series.egress.increment(ended.bytes_out);
        }
        if self.latencies {
            let service = ended.service_took.unwrap_or_default();
            series.all.record(ended.took.as_secs_f64() * 1e3);
            let own = ended.took.saturating_sub(service);
            series.gateway.record(own.as_secs_f64() * 1e3);
            if ended.service_took.is_some() {
                series.service.record(service.as_secs_f64() * 1e3);
            }
        }
    }
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Series")
    }
}
