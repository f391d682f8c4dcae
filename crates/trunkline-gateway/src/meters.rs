//! What the gateway counts: by route and service, never by path or id.

use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Histogram, counter, histogram};

pub(crate) struct RouteMeters {
    ok: Counter,
    refused: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl RouteMeters {
    pub(crate) fn new(route: &str, service: &str) -> Self {
        let labels = |outcome: &'static str| {
            [
                ("operation", route.to_owned()),
                ("service", service.to_owned()),
                ("outcome", outcome.to_owned()),
            ]
        };
        let count = |outcome| counter!("trunkline_gateway_requests_total", &labels(outcome));
        let [operation, service, _] = labels("");
        Self {
            ok: count("ok"),
            refused: count("refused"),
            failed: count("failed"),
            seconds: histogram!("trunkline_gateway_request_seconds", &[operation, service]),
        }
    }

    pub(crate) fn record(&self, status: StatusCode, took: Duration) {
        self.seconds.record(took);
        match status.as_u16() {
            0..=399 => self.ok.increment(1),
            400..=499 => self.refused.increment(1),
            _ => self.failed.increment(1),
        }
    }
}
