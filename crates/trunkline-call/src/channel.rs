//! A channel: one service calls another.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use metrics::{Counter, Histogram, counter, histogram};
use tokio::time::Instant;
use tower::Service;
use trunkline_core::{ByteString, Error, Result};
use trunkline_telemetry::{Span, SpanKind};

use crate::dispatch::dispatch;
use crate::guard::{Guarded, deadline_exceeded, until};
use crate::headers;
use crate::{Body, Network, Responses};

/// How long a call may take when nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Calls one target on behalf of one service: a `tower::Service` over HTTP requests. Cheap to clone.
///
/// # Guarantees
/// The deadline in `x-trunkline-deadline-ms`, or 5 s, holds until the response's body has ended; what is left
/// of it travels on. In process nothing but the request's line, headers and body reaches the target.
///
/// # Errors
/// `Unavailable` when the target is not known or can't be reached (`Transient`: nothing was sent),
/// or the connection broke (`Unknown`); `DeadlineExceeded` (`Unknown`); `Internal` when the target panicked.
/// A response with an error status is a response, not an error.
#[derive(Clone)]
pub struct Channel {
    network: Network,
    caller: ByteString,
    target: ByteString,
    meters: Arc<OnceLock<Meters>>,
}

struct Meters {
    answered: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Channel {
    pub(crate) fn new(network: Network, caller: ByteString, target: ByteString) -> Self {
        Self {
            network,
            caller,
            target,
            meters: Arc::default(),
        }
    }

    /// The service that calls.
    pub fn caller(&self) -> &ByteString {
        &self.caller
    }

    /// The service that is called.
    pub fn target(&self) -> &ByteString {
        &self.target
    }

    /// How the target's answers look.
    pub fn responses(&self) -> Responses {
        self.network.responses(&self.target).unwrap_or_default()
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    fn meters(&self) -> &Meters {
        self.meters.get_or_init(|| {
            let labels = [
                ("service", self.caller.to_string()),
                ("target", self.target.to_string()),
            ];
            let with = |outcome: &'static str| {
                let outcome = [("outcome", outcome.to_owned())];
                labels.iter().cloned().chain(outcome).collect::<Vec<_>>()
            };
            Meters {
                answered: counter!("trunkline_calls_total", &with("answered")),
                failed: counter!("trunkline_calls_total", &with("failed")),
                seconds: histogram!("trunkline_call_seconds", &labels),
            }
        })
    }

    /// Opens the call's span and puts its context and deadline on the request.
    fn prepare(&self, request: &mut Request<Body>) -> (Span, Instant) {
        let parent = headers::parent_of(request.headers());
        let telemetry = self.network.telemetry();
        let mut span = telemetry.span(SpanKind::Client, "call", &self.caller, parent);
        if span.is_recorded() {
            span.rename(format!("{} {}", request.method(), self.target));
            span.set("server.address", self.target.clone());
        }
        let given = request.headers().get(&headers::DEADLINE_MS);
        let left = given.and_then(|value| value.to_str().ok()?.parse().ok());
        let left = left.map_or(TIMEOUT, Duration::from_millis);
        let all = request.headers_mut();
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        all.insert(headers::DEADLINE_MS, HeaderValue::from(millis));
        if let Ok(value) = HeaderValue::try_from(span.context().to_string()) {
            all.insert(headers::TRACEPARENT, value);
        }
        if let Ok(value) = HeaderValue::from_maybe_shared(self.caller.as_bytes().clone()) {
            all.insert(headers::CALLER, value);
        }
        (span, Instant::now() + left)
    }

    /// What [`Service::call`] does, without a box of its own.
    pub(crate) async fn run(self, mut request: Request<Body>) -> Result<Response<Body>> {
        let began = Instant::now();
        let (mut span, deadline) = self.prepare(&mut request);
        let answer = until(deadline, dispatch(&self.network, &self.target, request)).await;
        let answer = answer.unwrap_or_else(|| Err(deadline_exceeded()));
        let meters = self.meters();
        meters.seconds.record(began.elapsed());
        match answer {
            Ok(response) => {
                meters.answered.increment(1);
                if response.status().is_server_error() {
                    span.fail_with(response.status().to_string());
                }
                Ok(response.map(|body| Guarded::wrap(body, deadline)))
            }
            Err(error) => {
                meters.failed.increment(1);
                span.fail(&error);
                Err(error
                    .with("caller", &self.caller)
                    .with("target", &self.target))
            }
        }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().run(request))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({} -> {})", self.caller, self.target)
    }
}
