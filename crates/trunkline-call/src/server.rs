//! The receiving end of calls: the same in process and over TCP.

mod admission;
#[cfg(feature = "grpc")]
mod grpc;
mod listen;
mod meters;
mod peer;
mod timer;
#[cfg(feature = "tls")]
mod tls;
mod watched;

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, ready};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use tokio::time::Instant;
use tower::{Layer, Service};
use trunkline_core::{ByteString, Context, Error, ErrorKind};
use trunkline_telemetry::{Scope, Span, SpanKind, Telemetry};

use self::meters::{Meters, RouteMeters};
use self::watched::Watched;
use crate::guard::{deadline_exceeded, until};
use crate::{Body, headers, problem};

pub(crate) use admission::Caller;
pub use admission::{Admission, Incoming};
pub(crate) use listen::HEADERS_WITHIN;
#[cfg(feature = "tls")]
pub use listen::serve_tls;
pub use listen::{Accepted, accept, serve};
pub use peer::Peer;
#[cfg(feature = "tls")]
pub use tls::TlsServer;

/// What a request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A larger body is refused. 1 MiB by default.
    pub body_bytes_max: usize,
    /// How long the work may take, when the caller gives it no less. 5 s by default.
    pub timeout: Duration,
    /// How long the answer's body may pause, once it has begun. 30 s by default.
    pub body_pause_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            timeout: Duration::from_secs(5),
            body_pause_max: Duration::from_secs(30),
        }
    }
}

/// Puts a service's routes behind what every request needs: context, span, deadline, limits, metrics, a log
/// line, problems for unknown routes, and panics turned into problems. Handlers find the [`Context`] among the
/// request's extensions, and whatever they log says to which service, flow and trace it belongs.
///
/// # Guarantees
/// Every answer has an `x-request-id`: the request's own, or one made here. Every problem names it and the flow.
/// A body that panics or pauses for too long breaks off, with a line in the log.
pub fn layer(
    router: Router,
    service: impl Into<ByteString>,
    telemetry: Telemetry,
    limits: Limits,
) -> Router {
    put(router, service.into(), telemetry, limits, None)
}

/// The same as [`layer`] with somebody at the door: a handler is reached by those alone whom `admission` lets in.
pub fn guarded_layer(
    router: Router,
    service: impl Into<ByteString>,
    telemetry: Telemetry,
    limits: Limits,
    admission: Arc<dyn Admission>,
) -> Router {
    put(router, service.into(), telemetry, limits, Some(admission))
}

fn put(
    router: Router,
    service: ByteString,
    telemetry: Telemetry,
    limits: Limits,
    admission: Option<Arc<dyn Admission>>,
) -> Router {
    let shared = Arc::new(Shared {
        service,
        telemetry,
        limits,
        admission,
    });
    router
        .fallback(|| async { problem::Problem(unknown_route()) })
        .method_not_allowed_fallback(|| async { problem::Problem(wrong_method()) })
        .layer(ServerLayer(shared))
        // Without it axum would put the layers around a handler anew at every request.
        .with_state(())
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
    admission: Option<Arc<dyn Admission>>,
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
    // One for each route: axum applies the layer to each of them.
    meters: Arc<RouteMeters>,
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
        let env = shared.telemetry.env();
        let carried = headers::Carried::of(request.headers());
        let span =
            shared
                .telemetry
                .span(SpanKind::Server, "request", &shared.service, carried.trace);
        let limit = shared.limits.timeout;
        let left = carried.left.map_or(limit, |left| left.min(limit));
        #[cfg(feature = "grpc")]
        let grpc = is_grpc(request.headers()).then(|| grpc::spans(carried.left, &shared.limits));
        #[cfg(feature = "grpc")]
        let left = grpc.map_or(left, |(begins, _)| begins);
        let mut context = carried.context(env, Some(env.after(left)));
        // A stream that nobody bounded may call others for as long as it lasts, each within that call's own time.
        #[cfg(feature = "grpc")]
        if grpc.is_some() && carried.left.is_none() {
            context.deadline = None;
        }
        context.trace = span.context();
        context
            .request_id
            .get_or_insert_with(|| env.id().to_string().into());
        request.extensions_mut().insert(context.clone());
        body_limit(&request, shared.limits.body_bytes_max).apply(&mut request);
        let scope = Scope::new(&shared.service, &context);
        let answering = Answering {
            meters: self.meters.of(&shared.service, &request).cloned(),
            shared,
            context,
            span,
            began,
            deadline: began + left,
        };
        #[cfg(feature = "grpc")]
        if let Some((_, lasts)) = grpc {
            let inner = self.inner.clone();
            return Box::pin(scope.run(answering.run_grpc(inner, request, lasts).map(Ok)));
        }
        match answering.admit_at_once(&request) {
            Some(Ok(())) => {
                let answer = answering.work(&mut self.inner, request);
                Box::pin(scope.run(answer.map(|answer| Ok(answering.end(answer)))))
            }
            Some(Err(refused)) => {
                let answer = scope.enter(|| answering.end(Err(refused)));
                Box::pin(ready(Ok(answer)))
            }
            None => {
                let inner = self.inner.clone();
                Box::pin(scope.run(answering.run(inner, request).map(Ok)))
            }
        }
    }
}

/// A request at work.
struct Answering {
    shared: Arc<Shared>,
    meters: Option<Arc<Meters>>,
    context: Context,
    span: Span,
    began: Instant,
    deadline: Instant,
}

impl Answering {
    /// Asks whoever stands at the door, if somebody does.
    async fn admit(
        &self,
        (headers, extensions): (&HeaderMap, &Extensions),
        operation: Option<&str>,
    ) -> Result<(), Error> {
        let Some(admission) = &self.shared.admission else {
            return Ok(());
        };
        let call = self.incoming((headers, extensions), operation);
        match extensions.get::<Caller>() {
            Some(Caller(caller)) => admission.admit_caller(caller, &call),
            None => until(self.deadline, admission.admit_stranger(call))
                .await
                .unwrap_or_else(|| Err(deadline_exceeded())),
        }
    }

    fn incoming<'a>(
        &'a self,
        (headers, extensions): (&'a HeaderMap, &'a Extensions),
        operation: Option<&'a str>,
    ) -> Incoming<'a> {
        Incoming {
            operation: operation.unwrap_or(meters::UNMATCHED),
            headers,
            peer: extensions.get::<Peer>(),
            correlation_id: &self.context.correlation_id,
        }
    }

    /// The same where nobody has to be waited for.
    fn admit_at_once(&self, request: &Request<Body>) -> Option<Result<(), Error>> {
        let Some(admission) = &self.shared.admission else {
            return Some(Ok(()));
        };
        let Caller(caller) = request.extensions().get::<Caller>()?;
        let asked = (request.headers(), request.extensions());
        let call = self.incoming(asked, self.operation());
        Some(admission.admit_caller(caller, &call))
    }

    fn operation(&self) -> Option<&str> {
        self.meters.as_ref().map(|meters| meters.operation())
    }

    /// The work of whoever was let in. Nothing of it is done before it is waited for.
    fn work<S>(
        &self,
        inner: &mut S,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, Error>> + use<S>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let bytes_max = self.shared.limits.body_bytes_max;
        match is_too_large(&request, bytes_max) {
            true => Either::Left(ready(Err(body_too_large(bytes_max)))),
            false => Either::Right(work(inner, request, self.deadline)),
        }
    }

    async fn run<S>(self, mut inner: S, request: Request<Body>) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let asked = (request.headers(), request.extensions());
        let answer = match self.admit(asked, self.operation()).await {
            Err(refused) => Err(refused),
            Ok(()) => self.work(&mut inner, request).await,
        };
        self.end(answer)
    }

    /// What is said, counted and watched of every answer.
    fn end(mut self, answer: Result<Response<Body>, Error>) -> Response<Body> {
        let mut response = match answer {
            Ok(response) => response,
            Err(error) => problem::response(&error, Some(&self.context)),
        };
        let failure = problem::complete(&mut response, &self.context);
        if let Some(id) = &self.context.request_id {
            headers::put(response.headers_mut(), headers::REQUEST_ID, id);
        }
        if let Some(meters) = &self.meters {
            meters.record(&self.context, response.status(), self.began.elapsed());
            if self.span.is_recorded() {
                self.span.rename(meters.operation().to_owned());
            }
        }
        if response.status().is_server_error() {
            let reason = failure.unwrap_or_else(|| response.status().to_string());
            self.span.fail_with(reason);
        }
        let scope = Scope::new(&self.shared.service, &self.context);
        let pause_max = self.shared.limits.body_pause_max;
        response.map(|body| Watched::wrap(body, pause_max, scope))
    }
}

/// The service is a route of axum's: its call does nothing but make a future.
fn work<S>(
    inner: &mut S,
    request: Request<Body>,
    deadline: Instant,
) -> impl Future<Output = Result<Response<Body>, Error>> + use<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let call = AssertUnwindSafe(inner.call(request)).catch_unwind();
    until(deadline, call).map(|answer| match answer {
        Some(Ok(Ok(response))) => Ok(response),
        Some(Ok(Err(never))) => match never {},
        Some(Err(panic)) => Err(panicked("the handler panicked", &*panic)),
        None => Err(deadline_exceeded()),
    })
}

fn panicked(what: &'static str, panic: &(dyn Any + Send)) -> Error {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::internal(what).with("panic", said.unwrap_or("without a message"))
}

/// Whether headers are those of a gRPC request or answer.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

fn is_too_large(request: &Request<Body>, bytes_max: usize) -> bool {
    let bytes_max = bytes_max as u64;
    http_body::Body::size_hint(request.body()).lower() > bytes_max
        || content_length(request.headers()).is_some_and(|length| length > bytes_max)
}

/// How much of a body extractors may read. What is in memory already was measured, and is not counted again.
fn body_limit(request: &Request<Body>, bytes_max: usize) -> DefaultBodyLimit {
    match http_body::Body::size_hint(request.body()).exact() {
        Some(bytes) if bytes <= bytes_max as u64 => DefaultBodyLimit::disable(),
        _ => DefaultBodyLimit::max(bytes_max),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
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
