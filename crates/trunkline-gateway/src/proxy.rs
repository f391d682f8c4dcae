//! One request's way through the gateway.

use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;
use trunkline_call::headers::{
    CORRELATION_ID, DEADLINE_MS, REQUEST_ID, TRACEPARENT, USER_ID, write_roles,
};
use trunkline_call::{Body, Channel};
use trunkline_core::{ByteString, Env, Error, ErrorKind, Result, report};
use trunkline_telemetry::{Check, Telemetry};

use crate::arrival::Arrival;
use crate::body::Answered;
use crate::compile::{Compiled, Ports, compile};
use crate::entry::{self, Entry, Way};
use crate::meters::RouteMeters;
use crate::plugin::{Exchange, Held, Listeners, Plugin, Verdict};
use crate::route::{Slot, Target};
use crate::workers::Workers;
use crate::{Config, Limits, Means, headers, problem};

/// A plugin that waits has decided by then, or the request fails.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// When the last request has ended, plugins get so long to send what they hold.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// The gateway. Cheap to clone.
///
/// # Guarantees
/// A path is normalised before it is routed. `x-user-id`, `x-user-roles` and `x-trunkline-*` never come
/// from outside: the first two are the `sub` and the `roles` of the verified token. Every
/// request has an `x-request-id` of the gateway's making and an `x-correlation-id`, the client's own if that is at
/// most 128 visible ASCII characters. A client's `traceparent` is continued.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
    pub(crate) limits: Limits,
}

pub(crate) struct Inner {
    compiled: ArcSwap<Compiled>,
    pub(crate) ports: Ports,
    /// Configurations are taken one after the other.
    reloads: Mutex<()>,
    pub(crate) telemetry: Telemetry,
    pub(crate) env: Env,
    pub(crate) is_serving: AtomicBool,
    pub(crate) connections: AtomicUsize,
    pub(crate) unmatched: OnceLock<RouteMeters>,
}

impl Gateway {
    /// A gateway for a configuration. `channel_of` makes the channel to a service by its name; the means, perhaps a
    /// [`Verifier`](trunkline_security::Verifier) alone, are what plugins work with.
    ///
    /// # Errors
    /// `InvalidInput` (`gateway_config_invalid`) that names every mistake with its place.
    pub fn new(
        config: Config,
        channel_of: impl Fn(&str) -> Channel + Send + Sync + 'static,
        means: impl Into<Means>,
        telemetry: Telemetry,
        env: Env,
    ) -> Result<Self> {
        let ports = Ports {
            channel_of: Box::new(channel_of),
            means: means.into(),
            workers: Workers::default(),
            env: env.clone(),
        };
        let compiled = compile(&config, &ports, None)
            .map_err(|problems| problems.refusal(config.source.as_deref()))?;
        let inner = Inner {
            compiled: ArcSwap::from_pointee(compiled),
            ports,
            reloads: Mutex::new(()),
            telemetry,
            env,
            is_serving: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            unmatched: OnceLock::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            limits: Limits::default(),
        })
    }

    /// Takes another configuration, for every request that comes from now on. Those that are at work go on by the one
    /// before, and so do plugins that remember requests, where they stand as they stood.
    ///
    /// # Errors
    /// As [`Gateway::new`]; then everything stays as it is.
    pub fn reload(&self, config: &Config) -> Result<()> {
        let _one = self.inner.reloads.lock();
        let before = self.inner.compiled.load_full();
        let compiled = compile(config, &self.inner.ports, Some(&before))
            .map_err(|problems| problems.refusal(config.source.as_deref()))?;
        self.inner.compiled.store(Arc::new(compiled));
        Ok(())
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Waits until the plugins have sent what they hold, at most 5 s.
    pub(crate) async fn flush(&self) {
        if !self.inner.ports.workers.flush(FLUSH_WITHIN).await {
            tracing::warn!(
                service = "gateway",
                "log entries were still to be sent and are lost"
            );
        }
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.inner.is_serving.load(Ordering::Acquire)
    }

    pub(crate) async fn handle(
        &self,
        request: Request<Incoming>,
        remote: IpAddr,
    ) -> Response<Answered<Arrival>> {
        let mut arrival = Arrival::new(self, &request, remote);
        let answering = AssertUnwindSafe(self.answer(request, &mut arrival)).catch_unwind();
        let mut response = match answering.await {
            Ok(response) => response,
            Err(_) => arrival.refuse(&Error::internal("a plugin of the gateway panicked")),
        };
        let said = response.headers_mut();
        headers::put(said, REQUEST_ID, &arrival.request_id);
        headers::put(said, CORRELATION_ID, &arrival.correlation_id);
        if !self.is_serving() {
            said.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        arrival.answered(response.status());
        response.map(|body| Answered::new(body, arrival))
    }

    async fn answer(&self, request: Request<Incoming>, arrival: &mut Arrival) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let entered = entry::enter(&mut parts, &self.inner.compiled.load().table);
        match entered {
            Ok(Entry::Target(Way {
                target,
                prefix,
                captures,
            })) => {
                arrival.found(target.clone(), parts.uri.path());
                let mut exchange = self.exchange(parts, &body, arrival, prefix.as_deref());
                exchange.captures = captures;
                self.run(&target, exchange, body, arrival).await
            }
            Ok(Entry::Insecure(response)) => response,
            Ok(Entry::Probe(probe)) => probe.answer(self.is_serving()),
            Err(error) => arrival.refuse(&error),
        }
    }

    /// The request as the plugins and the service see it.
    fn exchange(
        &self,
        mut request: http::request::Parts,
        body: &Incoming,
        arrival: &Arrival,
        prefix: Option<&str>,
    ) -> Exchange {
        let all = &mut request.headers;
        headers::strip_hop_by_hop(all);
        headers::strip_claims_of_clients(all);
        headers::forward(all, arrival.remote, prefix);
        headers::put(all, REQUEST_ID, &arrival.request_id);
        headers::put(all, CORRELATION_ID, &arrival.correlation_id);
        headers::put(all, TRACEPARENT, &arrival.trace().to_string());
        Exchange {
            request,
            body_bytes: body.size_hint().exact(),
            remote: arrival.remote,
            route: arrival.route(),
            service: arrival.service(),
            claims: None,
            consumer: None,
            credential: None,
            is_anonymous: false,
            captures: Vec::new(),
            now: arrival.now,
            request_id: arrival.request_id.clone(),
            body_bytes_max: None,
            extensions: http::Extensions::new(),
            answer_headers: HeaderMap::new(),
            body: Held::Gone,
            trace: arrival.span(),
        }
    }

    async fn run(
        &self,
        target: &Target,
        mut exchange: Exchange,
        body: Incoming,
        arrival: &mut Arrival,
    ) -> Response<Body> {
        exchange.body = Held::Coming(body, self.limits.body_idle_max);
        let verdict = access(&target.plugins, &mut exchange).await;
        arrival.user = exchange.claims.as_ref().map(|claims| claims.sub.clone());
        arrival.body = exchange.body.progress();
        let listeners = listeners(&target.plugins, &exchange);
        let mut asked = None;
        let mut response = match verdict {
            Verdict::Next => {
                let began = (!listeners.is_empty()).then(Instant::now);
                let body = std::mem::replace(&mut exchange.body, Held::Gone);
                let answer = self.forward(target, &exchange, body, arrival).await;
                let status = answer.as_ref().ok().map(Response::status);
                asked = began.map(|began| (began.elapsed(), status));
                match answer {
                    Ok(mut response) => {
                        received(&target.plugins, &mut exchange, &mut response);
                        response
                    }
                    Err(error) => arrival.refuse(&error),
                }
            }
            Verdict::Later => arrival.refuse(&Error::internal("a plugin has not decided")),
            Verdict::Answer(response) => response,
            Verdict::Refuse(error) => arrival.refuse(&error),
        };
        finish(&target.plugins, &mut exchange, &mut response);
        if !listeners.is_empty() {
            arrival.listeners = Some(Box::new(Listeners {
                plugins: listeners,
                exchange,
                headers: response.headers().clone(),
                service_took: asked.map(|(took, _)| took),
                service_status: asked.and_then(|(_, status)| status),
            }));
        }
        response
    }

    async fn forward(
        &self,
        target: &Target,
        exchange: &Exchange,
        body: Held,
        arrival: &mut Arrival,
    ) -> Result<Response<Body>> {
        let mut request = exchange.request.clone();
        if let Some(claims) = &exchange.claims {
            headers::put(&mut request.headers, USER_ID, &claims.sub);
            write_roles(&mut request.headers, &claims.roles);
        }
        if let Some(member) = &exchange.consumer {
            headers::tell_consumer(&mut request.headers, member, exchange.is_anonymous);
        }
        if let Some(timeout) = target.timeout {
            let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            request.headers.insert(DEADLINE_MS, millis.into());
        }
        request.version = http::Version::HTTP_11;
        let bytes_max = exchange.body_bytes_max;
        let (body, progress) = body.onward(bytes_max, self.limits.body_idle_max).unzip();
        arrival.body.clone_from(&progress);
        let request = Request::from_parts(request, body.unwrap_or_default());
        let answer = target.channel.clone().oneshot(request).await;
        let refusal = progress.as_ref().and_then(|told| told.refusal(bytes_max));
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let is_awaited = || progress.as_ref().is_some_and(|told| told.is_awaited());
        match answer {
            Ok(mut response) => {
                headers::strip_hop_by_hop(response.headers_mut());
                headers::strip_ours(response.headers_mut());
                Ok(response)
            }
            Err(error) if error.kind() == ErrorKind::DeadlineExceeded && is_awaited() => {
                Err(problem::body_slow().with_source(error))
            }
            Err(error) => Err(error),
        }
    }
}

/// What the plugins say of the request: the first that does not let it go on decides.
async fn access(plugins: &[Slot], exchange: &mut Exchange) -> Verdict {
    for slot in plugins {
        let Some(plugin) = slot.plugin(exchange.consumer_name()) else {
            continue;
        };
        let verdict = match plugin.access(exchange) {
            Verdict::Later => match timeout(WAIT_MAX, plugin.wait(exchange)).await {
                Ok(verdict) => verdict,
                Err(_) => Verdict::Refuse(problem::plugin_slow()),
            },
            verdict => verdict,
        };
        if !matches!(verdict, Verdict::Next) {
            return verdict;
        }
    }
    Verdict::Next
}

fn received(plugins: &[Slot], exchange: &mut Exchange, response: &mut Response<Body>) {
    for slot in plugins {
        if let Some(plugin) = slot.plugin(exchange.consumer_name()).cloned() {
            plugin.received(exchange, response);
        }
    }
}

/// What the plugins say of the answer, whoever gave it.
fn finish(plugins: &[Slot], exchange: &mut Exchange, response: &mut Response<Body>) {
    let mut last = None;
    for (name, value) in std::mem::take(&mut exchange.answer_headers) {
        // A name that is given again is `None`.
        last = name.or(last);
        if let Some(name) = &last {
            response.headers_mut().insert(name.clone(), value);
        }
    }
    let consumer = exchange.consumer_name();
    for plugin in plugins.iter().filter_map(|slot| slot.plugin(consumer)) {
        plugin.answer(exchange, response);
    }
}

/// Those who want to hear how the request ends; mostly nobody.
fn listeners(plugins: &[Slot], exchange: &Exchange) -> Vec<Arc<dyn Plugin>> {
    let consumer = exchange.consumer_name();
    let all = plugins.iter().filter_map(|slot| slot.plugin(consumer));
    all.filter(|plugin| plugin.hears_ends()).cloned().collect()
}

impl Check for Gateway {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        let is_serving = self.is_serving();
        Box::pin(async move {
            if is_serving {
                Ok(())
            } else {
                Err(Error::unavailable(
                    "gateway_not_serving",
                    "the gateway takes no requests",
                ))
            }
        })
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("is_serving", &self.is_serving())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

/// The name under which the gateway appears in traces and logs.
pub(crate) fn service_name() -> ByteString {
    ByteString::from_static("gateway")
}

/// Writes what went wrong inside to the log: the client is not told.
pub(crate) fn log_failure(error: &Error, request_id: &str) {
    tracing::error!(
        service = "gateway",
        code = error.code(),
        error = %report(error),
        request_id,
        "failed"
    );
}
