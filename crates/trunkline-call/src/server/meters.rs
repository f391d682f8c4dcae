//! What is counted and written down of each request.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::MatchedPath;
use http::{Method, Request, StatusCode};
use metrics::{Counter, Histogram, counter, histogram};
use trunkline_core::{ByteString, Context};

/// The meters of one route, each of its methods with its own.
///
/// axum applies a layer to each route, and a route that answers `GET` answers `HEAD` too; what answers a method that
/// the path does not take answers any. So a request's method is looked at each time, and what is no method of HTTP is
/// one label, however many of them a client thinks up.
#[derive(Default)]
pub(super) struct RouteMeters([OnceLock<Arc<Meters>>; METHODS.len() + 1]);

const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::CONNECT,
    Method::TRACE,
];

/// What a request is counted as that no route is for.
pub(super) const UNMATCHED: &str = "unmatched";

pub(super) struct Meters {
    operation: String,
    ok: Counter,
    refused: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl RouteMeters {
    /// Those of a request.
    pub(super) fn of<B>(&self, service: &ByteString, request: &Request<B>) -> Option<&Arc<Meters>> {
        let known = METHODS.iter().position(|method| method == request.method());
        let place = self.0.get(known.unwrap_or(METHODS.len()))?;
        let name = known.map_or("OTHER", |_| request.method().as_str());
        // The template of the route, never the path: a path has ids in it.
        let path = request.extensions().get::<MatchedPath>();
        Some(place.get_or_init(|| {
            let operation = path.map_or_else(
                || UNMATCHED.to_owned(),
                |path| format!("{name} {}", path.as_str()),
            );
            Arc::new(Meters::new(service, operation))
        }))
    }
}

impl Meters {
    fn new(service: &ByteString, operation: String) -> Self {
        let labels = |outcome: &str| {
            [
                ("service", service.to_string()),
                ("operation", operation.clone()),
                ("outcome", outcome.to_owned()),
            ]
        };
        let count = |outcome: &str| counter!("trunkline_requests_total", &labels(outcome));
        let two = [
            ("service", service.to_string()),
            ("operation", operation.clone()),
        ];
        Self {
            ok: count("ok"),
            refused: count("refused"),
            failed: count("failed"),
            seconds: histogram!("trunkline_request_seconds", &two),
            operation,
        }
    }

    pub(super) fn operation(&self) -> &str {
        &self.operation
    }

    pub(super) fn record(&self, context: &Context, status: StatusCode, took: Duration) {
        self.seconds.record(took);
        match status.as_u16() {
            0..=399 => self.ok.increment(1),
            400..=499 => self.refused.increment(1),
            _ => self.failed.increment(1),
        }
        tracing::debug!(
            operation = self.operation,
            status = status.as_u16(),
            ?took,
            request_id = context.request_id.as_deref(),
            "request"
        );
    }
}
