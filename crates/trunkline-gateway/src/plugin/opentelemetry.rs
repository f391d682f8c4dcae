//! `opentelemetry`: the span of each request to a collector of the plugin's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use serde::Deserialize;
use serde_json::Value;
use trunkline_call::Body;
use trunkline_call::headers::TRACEPARENT;
use trunkline_core::{ByteString, Env, Error, TraceContext};
use trunkline_telemetry::{SpanKind, SpanRecord, export_request};

use super::log::headers;
use super::queue::{self, Entry, Queue, Sink};
use super::{Ended, Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};
use crate::headers::put;
use crate::outside::{IGNORED_BYTES_MAX, Outside};

/// A connection to the collector that was not used for longer is not used again.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Kong's batches of spans.
const BATCH_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    traces_endpoint: Option<String>,
    /// Kong's name before 3.8.
    endpoint: Option<String>,
    logs_endpoint: Option<String>,
    headers: BTreeMap<String, String>,
    resource_attributes: BTreeMap<String, String>,
    queue: Option<queue::Settings>,
    /// Kong's names before 3.3.
    batch_span_count: Option<usize>,
    batch_flush_delay: Option<f64>,
    connect_timeout: u32,
    send_timeout: u32,
    read_timeout: u32,
    http_response_header_for_traceid: Option<String>,
    header_type: Form,
    propagation: Propagation,
    sampling_rate: Option<f64>,
    sampling_strategy: Strategy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            traces_endpoint: None,
            endpoint: None,
            logs_endpoint: None,
            headers: BTreeMap::new(),
            resource_attributes: BTreeMap::new(),
            queue: None,
            batch_span_count: None,
            batch_flush_delay: None,
            connect_timeout: 1_000,
            send_timeout: 5_000,
            read_timeout: 5_000,
            http_response_header_for_traceid: None,
            header_type: Form::Preserve,
            propagation: Propagation::default(),
            sampling_rate: None,
            sampling_strategy: Strategy::default(),
        }
    }
}

/// How a trace travels: as W3C says, which is also how one that comes so is kept.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    #[default]
    Preserve,
    W3c,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Propagation {
    #[serde(rename = "extract")]
    _extract: Vec<Form>,
    #[serde(rename = "inject")]
    _inject: Vec<Form>,
    clear: Vec<String>,
    #[serde(rename = "default_format")]
    _default_format: Form,
}

/// Whether a trace is recorded is the gateway's to say, not the client's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Strategy {
    #[default]
    ParentDropProbabilityFallback,
}

/// # Guarantees
/// The span that the platform records of a request and the one that the collector gets are the same, and what comes after it
/// in the trace is its child. A request waits for nothing here; see [`Queue`].
#[derive(Debug)]
struct OpenTelemetry {
    queue: Queue<SpanRecord>,
    service: ByteString,
    /// Of so many in 2^64 the trace is told.
    share: u64,
    answer_header: Option<HeaderName>,
    env: Env,
}

/// The span of a request that the collector is told about.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    own: TraceContext,
    parent: Option<TraceContext>,
}

struct Collector {
    outside: Outside,
    headers: HeaderMap,
    facts: BTreeMap<String, String>,
}

pub(super) fn make(config: Value, making: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let mut settings: Settings = settings(config)?;
    let (Form::Preserve | Form::W3c) = settings.header_type;
    let Strategy::ParentDropProbabilityFallback = settings.sampling_strategy;
    if settings.logs_endpoint.is_some() {
        let expected = "expected nothing: log lines go where the platform's go";
        return Err(mistake("logs_endpoint", expected));
    }
    if !settings.propagation.clear.is_empty() {
        let expected = "expected nothing: remove headers with `request-transformer`";
        return Err(mistake("propagation.clear", expected));
    }
    let share = match settings.sampling_rate {
        None => u64::MAX,
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "the cast saturates, and the range is checked"
        )]
        Some(rate @ 0.0..=1.0) => (rate * u64::MAX as f64) as u64,
        Some(_) => return Err(mistake("sampling_rate", "expected 0 to 1")),
    };
    let named = settings.http_response_header_for_traceid.as_deref();
    let answer_header = named.map(HeaderName::try_from).transpose().map_err(|_| {
        let at = "http_response_header_for_traceid";
        mistake(at, "expected the name of a header")
    })?;
    let service = settings.resource_attributes.remove("service.name");
    let policy = queue_of(&settings).check()?;
    let collector = collector(settings)?;
    Ok(Arc::new(OpenTelemetry {
        queue: Queue::new(
            "opentelemetry",
            &making.scope,
            policy,
            collector,
            making.workers,
        ),
        service: service.map_or_else(|| ByteString::from_static("gateway"), ByteString::from),
        share,
        answer_header,
        env: making.env.clone(),
    }))
}

fn queue_of(settings: &Settings) -> queue::Settings {
    let by_default = queue::Settings {
        max_batch_size: BATCH_MAX,
        ..queue::Settings::default()
    };
    let mut queue = settings.queue.unwrap_or(by_default);
    if let Some(count) = settings.batch_span_count {
        queue.max_batch_size = count;
    }
    if let Some(seconds) = settings.batch_flush_delay {
        queue.max_coalescing_delay = seconds;
    }
    queue
}

fn collector(settings: Settings) -> Result<Collector, Mistake> {
    let url = settings.traces_endpoint.or(settings.endpoint);
    let url = url.ok_or_else(|| mistake("traces_endpoint", "expected the URL of a collector"))?;
    let millis = [
        settings.connect_timeout,
        settings.send_timeout,
        settings.read_timeout,
    ];
    let millis: u64 = millis.into_iter().map(u64::from).sum();
    let outside = Outside::new(&url, Duration::from_millis(millis.max(1)), IDLE_MAX)
        .map_err(|expected| mistake("traces_endpoint", expected))?;
    let mut headers = headers(&settings.headers)?;
    let kind = HeaderValue::from_static("application/x-protobuf");
    headers.insert(CONTENT_TYPE, kind);
    Ok(Collector {
        outside,
        headers,
        facts: settings.resource_attributes,
    })
}

impl Entry for SpanRecord {
    fn bytes(&self) -> usize {
        /// What an attribute takes with its text, about.
        const ATTRIBUTE_BYTES: usize = 96;
        size_of::<Self>() + self.attributes.len() * ATTRIBUTE_BYTES
    }
}

impl Sink<SpanRecord> for Collector {
    fn send<'a>(&'a self, batch: &'a [SpanRecord]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let body = Bytes::from(export_request(batch, &self.facts));
            let headers = &self.headers;
            let sent = self
                .outside
                .send(Method::POST, headers, body, IGNORED_BYTES_MAX);
            self.outside.success(sent.await?).map(drop)
        })
    }
}

impl Plugin for OpenTelemetry {
    fn remembers(&self) -> bool {
        true
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let trace = exchange.trace;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the lower half is random enough"
        )]
        let is_chosen = trace.own.trace_id as u64 <= self.share;
        if !is_chosen {
            return Verdict::Next;
        }
        let own = match trace.parent {
            // The gateway records no span of its own: the trace would go on from its client's.
            Some(parent) if !trace.is_recorded => {
                let own = parent.child(&self.env);
                put(&mut exchange.request.headers, TRACEPARENT, &own.to_string());
                own
            }
            _ => trace.own,
        };
        let parent = trace.parent;
        exchange.extensions.insert(Chosen { own, parent });
        Verdict::Next
    }

    fn answer(&self, exchange: &Exchange, response: &mut Response<Body>) {
        if let Some(name) = &self.answer_header {
            let trace_id = format!("{:032x}", exchange.trace.own.trace_id);
            put(response.headers_mut(), name.clone(), &trace_id);
        }
    }

    fn hears_ends(&self) -> bool {
        true
    }

    fn ended(&self, ended: &Ended<'_>) {
        let exchange = ended.exchange;
        let Some(Chosen { own, parent }) = exchange.extensions.get().copied() else {
            return;
        };
        let failed = || {
            ended
                .status
                .is_server_error()
                .then(|| ended.status.to_string())
        };
        self.queue.push(SpanRecord {
            context: own,
            parent,
            service: self.service.clone(),
            name: format!("{} {}", ended.method, exchange.route).into(),
            kind: SpanKind::Server,
            began: exchange.now,
            ended: self.env.now(),
            attributes: vec![
                ("http.request.method", ended.method.to_string().into()),
                ("url.path", ended.uri.path().to_owned().into()),
                (
                    "http.response.status_code",
                    i64::from(ended.status.as_u16()).into(),
                ),
                ("http.route", exchange.route.clone().into()),
                (
                    "client.address",
                    exchange.remote.to_canonical().to_string().into(),
                ),
            ],
            links: Vec::new(),
            error: ended.cut_off.map(str::to_owned).or_else(failed),
        });
    }
}
