//! The receiving end of calls: the same in process and over TCP.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use metrics::{Counter, Histogram, counter, histogram};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tower::{Layer, Service};
use trunkline_core::{ByteString, Context, Error, ErrorKind};
use trunkline_telemetry::{SpanKind, Telemetry};

use crate::guard::deadline_exceeded;
use crate::{Body, headers, problem};

/// What a request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A larger body is refused. 1 MiB by default.
    pub body_bytes_max: usize,
    /// How long the work may take, when the caller gives it no less. 5 s by default.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            timeout: Duration::from_secs(5),
        }
    }
}

/// Puts a service's routes behind what every request needs: context, span, deadline, limits, metrics, a log
/// line, problems for unknown routes, and panics turned into problems. Handlers find the [`Context`] among the
/// request's extensions.
pub fn layer(
    router: Router,
    service: impl Into<ByteString>,
    telemetry: Telemetry,
    limits: Limits,
) -> Router {
    let shared = Arc::new(Shared {
        service: service.into(),
        telemetry,
        limits,
    });
    router
        .fallback(|| async { problem::Problem(unknown_route()) })
        .method_not_allowed_fallback(|| async { problem::Problem(wrong_method()) })
        .layer(DefaultBodyLimit::max(limits.body_bytes_max))
        .layer(ServerLayer(shared))
}

fn unknown_route() -> Error {
    Error::not_found("route_unknown", "there is nothing at this path")
}

fn wrong_method() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "method_not_allowed",
        "this path does not take this method",
    )
}

struct Shared {
    service: ByteString,
    telemetry: Telemetry,
    limits: Limits,
}

#[derive(Clone)]
struct ServerLayer(Arc<Shared>);

impl<S> Layer<S> for ServerLayer {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> ServerService<S> {
        ServerService {
            inner,
            shared: self.0.clone(),
            meters: Arc::default(),
        }
    }
}

#[derive(Clone)]
struct ServerService<S> {
    inner: S,
    shared: Arc<Shared>,
    // One for each route and method: axum applies the layer to each of them.
    meters: Arc<OnceLock<Meters>>,
}

struct Meters {
    operation: String,
    ok: Counter,
    refused: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Meters {
    fn new<B>(service: &ByteString, request: &Request<B>) -> Self {
        // The template of the route, never the path: a path has ids in it.
        let operation = match request.extensions().get::<MatchedPath>() {
            Some(path) => format!("{} {}", request.method(), path.as_str()),
            None => "unmatched".to_owned(),
        };
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
}

impl<S> Service<Request<Body>> for ServerService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let began = Instant::now();
        let shared = self.shared.clone();
        self.meters
            .get_or_init(|| Meters::new(&shared.service, &request));
        let meters = self.meters.clone();
        let env = shared.telemetry.env();
        let mut context = headers::context_of(request.headers(), env);
        let parent = headers::parent_of(request.headers());
        let mut span = shared
            .telemetry
            .span(SpanKind::Server, "request", &shared.service, parent);
        context.trace = span.context();
        context = context.within(shared.limits.timeout, env);
        let left = context.remaining(env).unwrap_or(shared.limits.timeout);
        let bytes_max = shared.limits.body_bytes_max;
        let too_large = is_too_large(request.headers(), bytes_max)
            || http_body::Body::size_hint(request.body()).lower() > bytes_max as u64;
        request.extensions_mut().insert(context.clone());
        // The clone is what goes on: the service that was polled ready is the one to call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let answer = if too_large {
                Err(body_too_large(shared.limits.body_bytes_max))
            } else {
                work(&mut inner, request, began + left).await
            };
            let response = match answer {
                Ok(response) => response,
                Err(error) => {
                    span.fail(&error);
                    problem::response(&error, Some(&context))
                }
            };
            if let Some(meters) = meters.get() {
                span.rename(meters.operation.clone());
                meters.record(
                    &shared.service,
                    &context,
                    response.status(),
                    began.elapsed(),
                );
            }
            if response.status().is_server_error() {
                span.fail_with(response.status().to_string());
            }
            Ok(response)
        })
    }
}

impl Meters {
    fn record(
        &self,
        service: &ByteString,
        context: &Context,
        status: http::StatusCode,
        took: Duration,
    ) {
        self.seconds.record(took);
        match status.as_u16() {
            0..=399 => self.ok.increment(1),
            400..=499 => self.refused.increment(1),
            _ => self.failed.increment(1),
        }
        tracing::debug!(
            service = &**service,
            operation = self.operation,
            status = status.as_u16(),
            ?took,
            correlation_id = &*context.correlation_id,
            trace_id = format_args!("{:032x}", context.trace.trace_id),
            "request"
        );
    }
}

async fn work<S>(
    inner: &mut S,
    request: Request<Body>,
    deadline: Instant,
) -> Result<Response<Body>, Error>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let call = AssertUnwindSafe(inner.call(request)).catch_unwind();
    match timeout_at(deadline, call).await {
        Ok(Ok(Ok(response))) => Ok(response),
        Ok(Ok(Err(never))) => match never {},
        Ok(Err(panic)) => {
            let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
            let said = said.unwrap_or_else(|| "without a message".to_owned());
            Err(Error::internal("the handler panicked").with("panic", said))
        }
        Err(_) => Err(deadline_exceeded()),
    }
}

fn is_too_large(headers: &HeaderMap, bytes_max: usize) -> bool {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    length
        .and_then(|text| text.parse::<usize>().ok())
        .is_some_and(|length| length > bytes_max)
}

/// The error of a body beyond its bound.
pub fn body_too_large(bytes_max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "body_too_large",
        "the request's body is too large",
    )
    .with("bytes_max", bytes_max)
}

/// More connections at once wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// A client that is slower with its headers is cut off.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Requests under way get this long after the shutdown begins.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Serves a router until `shutdown`, then lets requests under way end, for at most 10 s.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Some((stream, place)) = accepted else {
            continue;
        };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .serve_connection(
                TokioIo::new(stream),
                TowerToHyperService::new(Boxed(router.clone())),
            );
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %trunkline_core::report(&error), "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if timeout(DRAIN_WITHIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way at the limit and were cut off");
    }
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Small answers go out at once; where the system refuses that, they go out later.
            drop(stream.set_nodelay(true));
            Some((stream, place))
        }
        Err(error) => {
            // Out of file handles, say: others may end meanwhile.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// A router that takes hyper's bodies.
#[derive(Clone)]
struct Boxed(Router);

impl Service<Request<hyper::body::Incoming>> for Boxed {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <Router as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<hyper::body::Incoming>) -> Self::Future {
        self.0.call(request.map(Body::new))
    }
}
