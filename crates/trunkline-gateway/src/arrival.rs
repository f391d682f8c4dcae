//! What the gateway itself knows of a request, from its first byte to the last of its answer.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use trunkline_call::headers::{CORRELATION_ID, REQUEST_ID, TRACEPARENT};
use trunkline_call::{Body, problem::status};
use trunkline_core::{ByteString, Error, Timestamp, TraceContext};
use trunkline_telemetry::{Span, SpanKind};

use crate::body::{Ending, Progress};
use crate::client::Client;
use crate::meters::RouteMeters;
use crate::plugin::{Ended, Listeners, Trace};
use crate::proxy::{Inner, log_failure, service_name};
use crate::route::Target;
use crate::took::Took;
use crate::{Gateway, grpc, problem};

/// A longer correlation id from outside is not taken over.
const ID_BYTES_MAX: usize = 128;
/// The label of what found no route.
const UNMATCHED: &str = "unmatched";

/// What a request speaks.
pub(crate) enum Speaks {
    Http,
    Grpc,
    /// It asks to go on in WebSocket, on this connection.
    WebSocket(OnUpgrade),
}

pub(crate) struct Arrival {
    pub(crate) request_id: ByteString,
    pub(crate) correlation_id: ByteString,
    /// Both ids as headers tell them; none that can't be one.
    pub(crate) ids: [Option<HeaderValue>; 2],
    /// Who sent it, as headers tell it.
    address: HeaderValue,
    pub(crate) now: Timestamp,
    /// What it speaks.
    pub(crate) speaks: Speaks,
    /// The verified user.
    pub(crate) user: Option<ByteString>,
    /// How the request's body fares, once it is on its way.
    pub(crate) body: Option<Arc<Progress>>,
    gateway: Arc<Inner>,
    /// What plugins are told when it ends, if one wants to hear that.
    pub(crate) listeners: Option<Box<Listeners>>,
    began: Instant,
    method: http::Method,
    uri: http::Uri,
    parent: Option<TraceContext>,
    target: Option<Arc<Target>>,
    span: Option<Span>,
    status: StatusCode,
}

impl Arrival {
    pub(crate) fn new<B>(gateway: &Gateway, request: &Request<B>, client: &Client) -> Self {
        let inner = gateway.inner.clone();
        let headers = request.headers();
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let now = inner.env.now();
        let request_id = ByteString::from(inner.env.id_at(now).to_string());
        let correlation_id = text(CORRELATION_ID)
            .filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()))
            .filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic()))
            .map_or_else(|| request_id.clone(), ByteString::from);
        // Whether a trace is recorded is ours to say, not the client's.
        let parent = text(TRACEPARENT)
            .and_then(|text| text.parse::<TraceContext>().ok())
            .map(|parent| TraceContext {
                sampled: true,
                ..parent
            });
        let span = inner
            .telemetry
            .span(SpanKind::Server, "request", &service_name(), parent);
        Self {
            ids: ids(&request_id, &correlation_id),
            request_id,
            correlation_id,
            address: client.address.clone(),
            now,
            speaks: match request.version() == Version::HTTP_2 && grpc::is_grpc(headers) {
                true => Speaks::Grpc,
                false => Speaks::Http,
            },
            user: None,
            body: None,
            listeners: None,
            began: Instant::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            parent,
            target: None,
            span: Some(span),
            status: StatusCode::OK,
            gateway: inner,
        }
    }

    /// The route was found; the path is the one that goes on.
    pub(crate) fn found(&mut self, target: Arc<Target>, path: &str) {
        if let Some(span) = self.span.as_mut().filter(|span| span.is_recorded()) {
            span.rename(format!("{} {}", self.method, target.name));
            span.set("http.request.method", self.method.to_string());
            span.set("url.path", path.to_owned());
        }
        self.target = Some(target);
    }

    pub(crate) fn route(&self) -> ByteString {
        let unmatched = || ByteString::from_static(UNMATCHED);
        self.target
            .as_ref()
            .map_or_else(unmatched, |t| t.name.clone())
    }

    pub(crate) fn service(&self) -> ByteString {
        self.target
            .as_ref()
            .map_or_else(service_name, |t| t.service.clone())
    }

    /// Both ids, as a service and the client are told them.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let names = [REQUEST_ID, CORRELATION_ID].into_iter();
        let named = names.zip(self.ids.iter().cloned());
        named.filter_map(|(name, id)| Some((name, id?)))
    }

    /// What the clock says then, where it says so: it is not asked twice for one request.
    pub(crate) fn time_at(&self, then: Instant) -> Timestamp {
        let since = then.saturating_duration_since(self.began);
        self.now.checked_add(since).unwrap_or(self.now)
    }

    /// Its span, for plugins that tell of it elsewhere.
    pub(crate) fn span(&self) -> Trace {
        Trace {
            own: self.trace(),
            parent: self.parent,
            is_recorded: self.span.as_ref().is_some_and(Span::is_recorded),
        }
    }

    pub(crate) fn trace(&self) -> TraceContext {
        let root = || TraceContext::root(&self.gateway.env);
        self.span.as_ref().map_or_else(root, Span::context)
    }

    /// How long the caller of a call of gRPC still waits.
    pub(crate) fn left(&self, headers: &HeaderMap) -> Option<Duration> {
        match self.speaks {
            Speaks::Grpc => Some(grpc::left(headers, self.began.elapsed())),
            Speaks::Http | Speaks::WebSocket(_) => None,
        }
    }

    /// The client's connection, if the request asks to go on in another protocol.
    pub(crate) fn near(&self) -> Option<&OnUpgrade> {
        match &self.speaks {
            Speaks::WebSocket(near) => Some(near),
            Speaks::Http | Speaks::Grpc => None,
        }
    }

    /// The problem, or the status of gRPC, that the client is told.
    pub(crate) fn refuse(&mut self, error: &Error) -> Response<Body> {
        if status(error).is_server_error() {
            log_failure(error, &self.request_id);
            if let Some(span) = &mut self.span {
                span.fail(error);
            }
        }
        match self.speaks {
            Speaks::Grpc => grpc::refusal(error),
            _ => problem::response(error, &self.request_id, &self.correlation_id),
        }
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = status;
        if let Some(span) = &mut self.span {
            span.set("http.response.status_code", i64::from(status.as_u16()));
        }
    }

    fn meters(&self) -> &RouteMeters {
        match &self.target {
            Some(target) => {
                let new = || RouteMeters::new(&target.name, &target.service);
                target.meters.get_or_init(new)
            }
            None => {
                let new = || RouteMeters::new(UNMATCHED, "none");
                self.gateway.unmatched.get_or_init(new)
            }
        }
    }
}

/// The request's id and the correlation's, which are mostly one.
fn ids(request: &ByteString, correlation: &ByteString) -> [Option<HeaderValue>; 2] {
    let value = |id: &ByteString| HeaderValue::from_maybe_shared(id.as_bytes().clone()).ok();
    let own = value(request);
    let other = match request == correlation {
        true => own.clone(),
        false => value(correlation),
    };
    [own, other]
}

impl Ending for Arrival {
    fn last_words(&self, error: &axum::Error) -> Option<HeaderMap> {
        match self.speaks {
            Speaks::Grpc => grpc::last_words(error),
            _ => None,
        }
    }

    /// Counts the request, writes its line and ends its span.
    fn ended(&mut self, bytes: u64, cut_off: Option<String>, at: Instant) {
        let took = at.saturating_duration_since(self.began);
        self.meters().record(self.status, took);
        tracing::info!(
            service = "gateway",
            operation = self
                .target
                .as_ref()
                .map_or(UNMATCHED, |target| &*target.name),
            method = self.method.as_str(),
            path = self.uri.path(),
            status = self.status.as_u16(),
            took = Took::new(took).as_str(),
            bytes_in = self.body.as_ref().map_or(0, |body| body.bytes()),
            bytes_out = bytes,
            cut_off = cut_off.as_deref(),
            client = self.address.to_str().unwrap_or_default(),
            user = self.user.as_deref(),
            request_id = &*self.request_id,
            correlation_id = &*self.correlation_id,
            trace_id = std::str::from_utf8(&self.trace().trace_hex()).unwrap_or_default(),
            "access"
        );
        if let Some(listeners) = self.listeners.take() {
            listeners.tell(&Ended {
                exchange: &listeners.exchange,
                method: &self.method,
                uri: &self.uri,
                status: self.status,
                headers: &listeners.headers,
                service_status: listeners.service_status,
                service_took: listeners.service_took,
                took,
                bytes_in: self.body.as_ref().map_or(0, |body| body.bytes()),
                bytes_out: bytes,
                cut_off: cut_off.as_deref(),
            });
        }
        if let Some(mut span) = self.span.take() {
            if let Some(reason) = cut_off {
                span.fail_with(reason);
            } else if self.status.is_server_error() {
                span.fail_with(self.status.to_string());
            }
        }
    }
}
