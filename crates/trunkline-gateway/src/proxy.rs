//! One request's way through the gateway.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body as _;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use trunkline_call::headers::TRACEPARENT;
use trunkline_call::{Body, Channel, Network};
use trunkline_core::{ByteString, Env, Error, Result, report};
use trunkline_telemetry::{Check, Telemetry};

use crate::arrival::{Arrival, Speaks};
use crate::body::{Answered, Inbound};
use crate::client::Client;
use crate::compile::{Compiled, Ports, compile};
use crate::entry::{self, Entry, Way};
use crate::meters::RouteMeters;
use crate::plugin::{AnswerHeaders, Exchange, Held, Listeners, Plugin, Verdict};
use crate::route::{Slot, Target};
use crate::tls::Tls;
use crate::upstream::Watch;
use crate::workers::Workers;
use crate::{Config, Limits, Means, grpc, headers, problem, upgrade};

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
    pub(crate) compiled: ArcSwap<Compiled>,
    pub(crate) watch: Watch,
    pub(crate) ports: Ports,
    /// Configurations are taken one after the other.
    reloads: Mutex<()>,
    pub(crate) telemetry: Telemetry,
    pub(crate) env: Env,
    pub(crate) is_serving: AtomicBool,
    /// Another process accepts from the same sockets.
    pub(crate) is_followed: AtomicBool,
    pub(crate) connections: AtomicUsize,
    pub(crate) parked: AtomicUsize,
    pub(crate) unmatched: OnceLock<RouteMeters>,
}

/// A request that has come in.
pub(crate) struct Entered {
    arrival: Box<Arrival>,
    /// Nothing where a plugin panicked.
    goes: Option<Goes>,
    is_h2: bool,
}

/// How a request goes on.
enum Goes {
    /// It leads there, and is what plugins see.
    To(Arc<Target>, Box<Exchange>),
    /// This is answered at once.
    Back(Response<Body>),
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
            has_services: true,
        };
        Self::of(&config, ports, telemetry, env)
    }

    /// A gateway in whose process no service runs: each says by its `url` where it is.
    ///
    /// # Errors
    /// As [`Gateway::new`].
    pub fn alone(config: &Config, telemetry: Telemetry, env: Env) -> Result<Self> {
        let network = Network::new(telemetry.clone(), env.clone());
        let ports = Ports {
            channel_of: Box::new(move |service| network.channel("gateway", service)),
            means: Means::default(),
            workers: Workers::default(),
            env: env.clone(),
            has_services: false,
        };
        Self::of(config, ports, telemetry, env)
    }

    fn of(config: &Config, ports: Ports, telemetry: Telemetry, env: Env) -> Result<Self> {
        let compiled = compile(config, &ports, None)
            .map_err(|problems| problems.refusal(config.source.as_deref()))?;
        let inner = Inner {
            compiled: ArcSwap::from_pointee(compiled),
            watch: Watch::default(),
            ports,
            reloads: Mutex::new(()),
            telemetry,
            env,
            is_serving: AtomicBool::new(false),
            is_followed: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            parked: AtomicUsize::new(0),
            unmatched: OnceLock::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            limits: Limits::default(),
        })
    }

    /// Takes another configuration, for every request that comes from now on. Those that are at work go on by the one
    /// before, and so do plugins that remember requests and upstreams with their targets' health and connections, where they
    /// stand as they stood.
    ///
    /// # Errors
    /// As [`Gateway::new`]; then everything stays as it is.
    pub fn reload(&self, config: &Config) -> Result<()> {
        let _one = self.inner.reloads.lock();
        let before = self.inner.compiled.load_full();
        let compiled = compile(config, &self.inner.ports, Some(&before))
            .map_err(|problems| problems.refusal(config.source.as_deref()))?;
        let compiled = Arc::new(compiled);
        self.inner.compiled.store(compiled.clone());
        let (now, past) = (&compiled.upstreams, &before.upstreams);
        self.inner.watch.go_on(now, past);
        Compiled::retire(before);
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

    /// Another process accepts from the same listening sockets: when this gateway stops, it leaves to that one who connects, and
    /// who has not been accepted yet.
    pub fn is_followed(&self) {
        self.inner.is_followed.store(true, Ordering::Release);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::Relaxed)
    }

    /// How many of them are parked: they are silent, and have no task until something comes.
    pub fn connections_parked(&self) -> usize {
        self.inner.parked.load(Ordering::Relaxed)
    }

    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.inner.compiled.load().tls.clone()
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.inner.is_serving.load(Ordering::Acquire)
    }

    /// Answers a request, for who writes answers from their headers alone.
    pub(crate) async fn handle(
        &self,
        request: Request<Inbound>,
        client: &Client,
    ) -> Response<Answered<Arrival>> {
        let entered = self.begin(request, client);
        let mut response = self.answer(entered, client).await;
        let told = response.body_mut().take_told();
        told.set(response.headers_mut());
        response
    }

    /// Finds out where a request leads. That needs no waiting: what is left of its work has no room for it.
    pub(crate) fn begin(&self, request: Request<Inbound>, client: &Client) -> Entered {
        let mut arrival = Box::new(Arrival::new(self, &request, client));
        let is_h2 = request.version() == Version::HTTP_2;
        let entering = || self.enter(request, client, &mut arrival);
        Entered {
            goes: panic::catch_unwind(AssertUnwindSafe(entering)).ok(),
            arrival,
            is_h2,
        }
    }

    pub(crate) async fn answer(
        &self,
        entered: Entered,
        client: &Client,
    ) -> Response<Answered<Arrival>> {
        let mut arrival = entered.arrival;
        let answered = match entered.goes {
            Some(Goes::To(target, exchange)) => {
                let run = self.run(&target, exchange, &mut arrival);
                AssertUnwindSafe(run).catch_unwind().await.ok()
            }
            Some(Goes::Back(response)) => Some((response, AnswerHeaders::default())),
            None => None,
        };
        let (mut response, mut told) = answered.unwrap_or_else(|| {
            let panicked = Error::internal("a plugin of the gateway panicked");
            (arrival.refuse(&panicked), AnswerHeaders::default())
        });
        if let Err(error) = upgrade::settle(client, arrival.near(), &mut response) {
            response = arrival.refuse(&error);
        }
        if matches!(arrival.speaks, Speaks::Grpc) {
            grpc::translate(&mut response);
        }
        let is_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let said = response.headers_mut();
        if entered.is_h2 {
            // It says so by frames.
            said.remove(CONNECTION);
        } else if !self.is_serving() && !is_tunnel {
            said.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        for (name, id) in arrival.ids() {
            told.insert(name, id);
        }
        arrival.answered(response.status());
        response.map(|body| Answered::new(body, arrival, told))
    }

    /// Where a request leads, and the request as the plugins see it; or what is answered at once.
    fn enter(&self, request: Request<Inbound>, client: &Client, arrival: &mut Arrival) -> Goes {
        let (mut parts, body) = request.into_parts();
        if let Some(near) = upgrade::asked(&mut parts, body.is_end_stream()) {
            arrival.speaks = Speaks::WebSocket(near);
        }
        let entered = entry::enter(&mut parts, client, &self.inner.compiled.load().table);
        match entered {
            Ok(Entry::Target(Way {
                target,
                prefix,
                captures,
            })) => {
                arrival.found(target.clone(), parts.uri.path());
                let mut exchange = self.exchange(parts, body, (client, prefix.as_deref()), arrival);
                exchange.captures = captures;
                Goes::To(target, exchange)
            }
            Ok(Entry::Insecure(response)) => Goes::Back(response),
            Ok(Entry::Probe(probe)) => Goes::Back(probe.answer(self.is_serving())),
            Err(error) => Goes::Back(arrival.refuse(&error)),
        }
    }

    /// The request as the plugins and the service see it.
    fn exchange(
        &self,
        mut request: http::request::Parts,
        body: Inbound,
        (client, prefix): (&Client, Option<&str>),
        arrival: &Arrival,
    ) -> Box<Exchange> {
        let all = &mut request.headers;
        headers::strip_of_client(all);
        all.reserve(ADDED);
        headers::forward(all, client, prefix);
        if request.version == Version::HTTP_2 {
            headers::join_cookies(all);
        }
        if let Some(near) = arrival.near() {
            upgrade::announce(all);
            request.extensions.insert(near.clone());
        }
        for (name, id) in arrival.ids() {
            all.insert(name, id);
        }
        if let Ok(trace) = HeaderValue::from_bytes(&arrival.trace().text()) {
            all.insert(TRACEPARENT, trace);
        }
        // It is passed on often.
        Box::new(Exchange {
            request,
            body_bytes: body.size_hint().exact(),
            remote: client.remote,
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
            answer_headers: AnswerHeaders::default(),
            body: Held::Coming(body, self.limits.body_idle_max),
            trace: arrival.span(),
        })
    }

    async fn run(
        &self,
        target: &Target,
        mut exchange: Box<Exchange>,
        arrival: &mut Arrival,
    ) -> (Response<Body>, AnswerHeaders) {
        let verdict = access(&target.plugins, &mut exchange).await;
        arrival.user = exchange.claims.as_ref().map(|claims| claims.sub.clone());
        arrival.body = exchange.body.progress();
        let listeners = listeners(&target.plugins, &exchange);
        let is_seen = seers(&target.plugins, &exchange).next().is_some() || !listeners.is_empty();
        let mut asked = None;
        let mut response = match verdict {
            Verdict::Next => {
                let began = (!listeners.is_empty()).then(Instant::now);
                let body = std::mem::replace(&mut exchange.body, Held::Gone);
                let forward = self.forward(target, (&mut exchange, is_seen), body, arrival);
                let answer = forward.await;
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
        let mut told = std::mem::take(&mut exchange.answer_headers);
        if is_seen {
            std::mem::take(&mut told).set(response.headers_mut());
        }
        for plugin in seers(&target.plugins, &exchange) {
            plugin.answer(&exchange, &mut response);
        }
        if !listeners.is_empty() {
            arrival.listeners = Some(Box::new(Listeners {
                plugins: listeners,
                exchange,
                headers: response.headers().clone(),
                service_took: asked.map(|(took, _)| took),
                service_status: asked.and_then(|(_, status)| status),
            }));
        }
        (response, told)
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
        let plugin = slot.plugin(exchange.consumer_name()).cloned();
        if let Some(plugin) = plugin.filter(|plugin| plugin.sees_answers()) {
            plugin.received(exchange, response);
        }
    }
}

/// Headers that most requests get on their way.
const ADDED: usize = 8;
/// Those who have something to do with the answer, whoever gave it; often nobody.
fn seers<'a>(
    plugins: &'a [Slot],
    exchange: &'a Exchange,
) -> impl Iterator<Item = &'a Arc<dyn Plugin>> {
    let consumer = exchange.consumer_name();
    let all = plugins.iter().filter_map(move |slot| slot.plugin(consumer));
    all.filter(|plugin| plugin.sees_answers())
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
