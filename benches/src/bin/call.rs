//! Calls between services by REST and gRPC, in process and over loopback, against a raw tonic client and server and
//! against reqwest to axum.
//!
//! Each round runs every way once, so that a noisy neighbour meets them all. Prints one line of JSON. The first way is the
//! yardstick: `--ways reqwest_loopback,loopback` compares with reqwest. The ways that end in `bare` are without cache, retries,
//! breaker and bulkhead. `in_process_guarded` has a guard at the door, as a platform has it; `loopback_guarded` goes over mTLS
//! with a token on each call. `--ways breaker` measures the breaker's check alone.
//! `--calls 100000` makes so many calls by each way and measures nothing: for counting instructions and system calls.
//! `--seconds 1 --rounds 7 --tasks 64 [--ways tonic_loopback,grpc_in_process,grpc_loopback,in_process,loopback]`

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::TcpListenerStream;
use tonic_prost::ProstCodec;
use trunkline_benches::{Args, Span, best_ns, median, percentile, rounded};
use trunkline_call::grpc::GrpcChannel;
use trunkline_call::layer::{Breaker, Identity, Outcome, Outgoing};
use trunkline_call::policy::BreakerPolicy;
use trunkline_call::server::{self, Admission, Incoming, Limits, Peer, TlsServer};
use trunkline_call::{Client, Network, Responses, TlsClient};
use trunkline_core::{ByteString, Context, Env};
use trunkline_security::{
    Audit, Authority, Certificates, CertificatesConfig, Guard, Permissions, SERVICE_TOKEN,
    ServiceTokens, Shown, TokenKeys, TokenKeysPolicy,
};
use trunkline_telemetry::{Ring, Telemetry, prometheus};

/// What is asked, the same for both.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct Reserve {
    #[prost(string, tag = "1")]
    sku: String,
    #[prost(int64, tag = "2")]
    quantity: i64,
}

/// What is answered, the same for both.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct Reserved {
    #[prost(bool, tag = "1")]
    ok: bool,
    #[prost(string, tag = "2")]
    id: String,
}

fn ask() -> Reserve {
    Reserve {
        sku: "tea-earl-grey-250".to_owned(),
        quantity: 2,
    }
}

fn answer(asked: Reserve) -> Reserved {
    Reserved {
        ok: asked.quantity > 0,
        id: asked.sku,
    }
}

/// One way to call: cheap to clone, one clone for each task.
#[derive(Clone)]
enum Way {
    Tonic(tonic::transport::Channel),
    Grpc(GrpcChannel),
    Reqwest(reqwest::Client, String),
    Trunkline(Client),
}

/// A unary call by gRPC, over whatever channel.
async fn unary<C>(channel: C) -> Reserved
where
    C: tonic::client::GrpcService<tonic::body::Body>,
    C::ResponseBody: tonic::codegen::Body + Send + 'static,
    <C::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    let mut grpc = tonic::client::Grpc::new(channel);
    assert!(grpc.ready().await.is_ok(), "the channel is ready");
    let path = http::uri::PathAndQuery::from_static("/bench.Stock/Reserve");
    let codec = ProstCodec::<Reserve, Reserved>::default();
    let answer = grpc.unary(tonic::Request::new(ask()), path, codec).await;
    answer.expect("the service answers").into_inner()
}

impl Way {
    async fn call(&mut self) {
        let reserved = match self {
            Self::Tonic(channel) => unary(channel.clone()).await,
            Self::Grpc(channel) => unary(channel.clone()).await,
            Self::Reqwest(client, url) => {
                let sent = client.post(&*url).json(&ask()).send().await;
                let answer = sent.expect("axum answers").json().await;
                answer.expect("axum answers with JSON")
            }
            Self::Trunkline(client) => client
                .post("/api/v1/reservations")
                .json(&ask())
                .send::<Reserved>()
                .await
                .expect("the service answers"),
        };
        assert!(reserved.ok);
    }
}

/// Calls per second and CPU microseconds per call, with `tasks` callers at once.
async fn throughput(way: &Way, tasks: usize, lasts: Duration) -> (f64, f64) {
    let stop = Arc::new(AtomicBool::new(false));
    let span = Span::start(&[]);
    let mut callers = JoinSet::new();
    for _ in 0..tasks {
        let (mut way, stop) = (way.clone(), stop.clone());
        callers.spawn(async move {
            let mut calls = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                way.call().await;
                calls += 1;
                // In process nothing ever waits; a caller that does would yield here.
                tokio::task::consume_budget().await;
            }
            calls
        });
    }
    tokio::time::sleep(lasts).await;
    stop.store(true, Ordering::Relaxed);
    let calls: u64 = callers.join_all().await.into_iter().sum();
    let (wall, cpu, _) = span.stop();
    (calls as f64 / wall, cpu * 1e6 / calls as f64)
}

/// Makes so many calls, with `tasks` callers at once.
async fn counted(way: &Way, tasks: usize, calls: u64) {
    let mut callers = JoinSet::new();
    for _ in 0..tasks {
        let mut way = way.clone();
        callers.spawn(async move {
            for _ in 0..calls / tasks as u64 {
                way.call().await;
                tokio::task::consume_budget().await;
            }
        });
    }
    callers.join_all().await;
}

/// Nanoseconds of single calls, one after the other.
async fn latencies(way: &Way, lasts: Duration) -> Vec<u64> {
    let mut way = way.clone();
    // On a worker of the runtime, as callers are.
    tokio::spawn(async move {
        let began = Instant::now();
        let mut took = Vec::new();
        while began.elapsed() < lasts {
            let one = Instant::now();
            way.call().await;
            took.push(u64::try_from(one.elapsed().as_nanos()).expect("a call is short"));
            tokio::task::consume_budget().await;
        }
        took.sort_unstable();
        took
    })
    .await
    .expect("the caller does not panic")
}

/// A guard at the door, as a platform puts it there.
struct Gate(Guard);

impl Admission for Gate {
    fn admit_caller(&self, caller: &ByteString, call: &Incoming<'_>) -> trunkline_core::Result<()> {
        self.0
            .check_named(caller, call.operation, Some(call.correlation_id))
    }

    fn admit_stranger<'a>(
        &'a self,
        call: Incoming<'a>,
    ) -> futures::future::BoxFuture<'a, trunkline_core::Result<()>> {
        Box::pin(async move {
            let shown = Shown {
                token: call
                    .headers
                    .get(SERVICE_TOKEN)
                    .map(http::HeaderValue::as_bytes),
                certificate: call.peer.map(Peer::service),
                operation: call.operation,
                once: false,
                correlation_id: Some(call.correlation_id),
            };
            self.0.check(shown).await.map(drop)
        })
    }
}

/// A caller's token on each call.
struct Badge(ServiceTokens);

impl Identity for Badge {
    fn prove<'a>(
        &'a self,
        call: Outgoing<'a>,
        headers: &'a mut http::HeaderMap,
    ) -> futures::future::BoxFuture<'a, trunkline_core::Result<()>> {
        Box::pin(async move {
            let token = self.0.token(call.target)?;
            let mut token = http::HeaderValue::from_str(&token).expect("a token is ASCII");
            token.set_sensitive(true);
            headers.insert(SERVICE_TOKEN, token);
            Ok(())
        })
    }
}

const CALLER: &str = "order-service";
const TARGET: &str = "stock-service";

/// Two networks with a guard at the door: in process, and over mTLS.
async fn guarded(servers: &mut JoinSet<()>, env: &Env) -> [Network; 2] {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::init(folder.path(), "shop", env.clone()).expect("a CA");
    let own = |name: &str| {
        let issued = authority.issue(name, &[], Authority::LEAF_LIFETIME);
        issued.expect("a certificate");
        let config = CertificatesConfig::in_folder(folder.path().join(name), "shop");
        Certificates::load(config, None, env.clone()).expect("its files")
    };
    // As many as a platform's services, each with a few things that it may.
    let mut permissions = Permissions::new();
    for caller in 0..10 {
        for target in ["cart-service", TARGET] {
            permissions = permissions.allow(format!("caller-{caller}"), target);
        }
    }
    for operation in ["POST /api/v1/reservations", "GET /api/v1/stock/{sku}"] {
        permissions = permissions.allow_operation(CALLER, TARGET, operation);
    }
    let keys = TokenKeys::open(
        folder.path().join("keys"),
        TokenKeysPolicy::default(),
        env.clone(),
    );
    let keys = keys.expect("keys");
    let gate = |guard: Guard| Arc::new(Gate(guard.permissions(permissions.clone())));
    let telemetry = Telemetry::new(env.clone());
    let door = |gate: Arc<Gate>| {
        let limits = Limits::default();
        server::guarded_layer(routes(), TARGET, telemetry.clone(), limits, gate)
    };
    let guard = || Guard::new(TARGET, Audit::to_log(env.clone()));

    let near = Network::new(telemetry.clone(), env.clone());
    near.mount(TARGET, door(gate(guard())), Responses::Plain);

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let tls = own(TARGET).server_config(&[]).expect("a configuration");
    let trusting = guard().trust(CALLER, keys.clone()).expect("an issuer");
    let router = door(gate(trusting.needs_certificate()));
    let tls = TlsServer::new(&tls);
    servers.spawn(server::serve_tls(
        listener,
        router,
        tls,
        std::future::pending(),
    ));
    let far = Network::new(telemetry.clone(), env.clone());
    let mine = own(CALLER);
    far.set_tls(TlsClient::new(move |_, target| {
        mine.client_config(target, &[])
    }));
    far.set_identity(Arc::new(Badge(ServiceTokens::new(
        CALLER,
        CALLER,
        keys,
        permissions.clone(),
    ))));
    far.remote(TARGET, &url, Responses::Plain)
        .expect("an address");
    [near, far]
}

fn routes() -> Router {
    let routes = Router::new().route(
        "/api/v1/reservations",
        post(|Json(asked): Json<Reserve>| async move { Json(answer(asked)) }),
    );
    routes.route_service("/bench.Stock/Reserve", Stock)
}

fn router(telemetry: &Telemetry) -> Router {
    server::layer(routes(), TARGET, telemetry.clone(), Limits::default())
}

async fn ways(servers: &mut JoinSet<()>) -> Vec<(&'static str, Way)> {
    let env = Env::system();
    let plain = Telemetry::new(env.clone());
    let recorded = Telemetry::new(env.clone()).with_sink(Arc::new(Ring::new(4_096)));
    let client = |network: &Network| {
        let channel = network.channel("order-service", "stock-service");
        Client::new(channel, Context::root(&env))
    };
    let bare = |network: &Network| {
        let channel = network.channel("order-service", "stock-service").bare();
        Way::Trunkline(Client::new(channel, Context::root(&env)))
    };

    let near = Network::new(plain.clone(), env.clone());
    near.mount("stock-service", router(&plain), Responses::Plain);
    let traced = Network::new(recorded.clone(), env.clone());
    traced.mount("stock-service", router(&recorded), Responses::Plain);

    let [near_guarded, far_guarded] = guarded(servers, &env).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    servers.spawn(server::serve(
        listener,
        router(&plain),
        std::future::pending(),
    ));
    let far = Network::new(plain, env.clone());
    far.remote("stock-service", &url, Responses::Plain)
        .expect("an address");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    servers.spawn(async move {
        let served = tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .add_service(Stock)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await;
        served.expect("tonic serves");
    });
    let axum_url = bare_axum(servers).await;
    let endpoint = tonic::transport::Endpoint::from_shared(url).expect("an address");
    let tonic = endpoint.connect().await.expect("tonic connects");
    vec![
        ("tonic_loopback", Way::Tonic(tonic)),
        ("grpc_in_process", Way::Grpc(client(&near).grpc())),
        ("grpc_loopback", Way::Grpc(client(&far).grpc())),
        ("in_process", Way::Trunkline(client(&near))),
        ("in_process_traced", Way::Trunkline(client(&traced))),
        (
            "reqwest_loopback",
            Way::Reqwest(reqwest::Client::new(), axum_url),
        ),
        ("loopback", Way::Trunkline(client(&far))),
        ("in_process_guarded", Way::Trunkline(client(&near_guarded))),
        ("loopback_guarded", Way::Trunkline(client(&far_guarded))),
        ("in_process_bare", bare(&near)),
        ("loopback_bare", bare(&far)),
    ]
}

/// Nanoseconds for each call that a closed breaker lets through and hears the end of, alone and from two threads.
fn breaker_check() -> (f64, f64) {
    const CALLS: u32 = 5_000_000;
    let breaker = Arc::new(Breaker::new(BreakerPolicy::default()));
    let calls = || {
        for _ in 0..CALLS {
            let mut permit = breaker.permit().expect("it is closed");
            permit.record(std::hint::black_box(Outcome::Answered));
        }
    };
    let took = |began: Instant| began.elapsed().as_nanos() as f64 / f64::from(CALLS);
    let alone = best_ns(200, || {
        let mut permit = breaker.permit().expect("it is closed");
        permit.record(std::hint::black_box(Outcome::Answered));
    });
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(calls);
        scope.spawn(calls);
    });
    (alone, took(began))
}

/// The same route with nothing around it, served as axum does.
async fn bare_axum(servers: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = listener.local_addr().expect("an address");
    let routes = Router::new().route(
        "/api/v1/reservations",
        post(|Json(asked): Json<Reserve>| async move { Json(answer(asked)) }),
    );
    servers.spawn(async move { axum::serve(listener, routes).await.expect("axum serves") });
    format!("http://{at}/api/v1/reservations")
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let args = Args::parse();
    let lasts = args.seconds("seconds", 1.0);
    let rounds = args.number("rounds", 7);
    let tasks = usize::try_from(args.number("tasks", 64)).expect("a number of tasks");
    prometheus::install().expect("no other recorder");
    if args.text("ways", "") == "breaker" {
        let (alone, shared) = breaker_check();
        let run = json!({
            "bench": "breaker",
            "ns_per_call": rounded(alone, 1),
            "ns_per_call_of_two_threads": rounded(shared, 1),
        });
        println!("{run}");
        return;
    }
    let mut servers = JoinSet::new();
    let mut ways = ways(&mut servers).await;
    let wanted = args.text("ways", "");
    if !wanted.is_empty() {
        ways.retain(|(name, _)| wanted.split(',').any(|way| way == *name));
    }
    let calls = args.number("calls", 0);
    if calls > 0 {
        for (_, way) in &ways {
            counted(way, tasks, calls).await;
        }
        return;
    }
    for (_, way) in &ways {
        throughput(way, tasks, lasts / 4).await;
    }
    let mut rates = vec![Vec::new(); ways.len()];
    let mut cpus = vec![Vec::new(); ways.len()];
    let mut ratios = vec![Vec::new(); ways.len()];
    let mut singles = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (at, (_, way)) in ways.iter().enumerate() {
            let (rate, cpu) = throughput(way, tasks, lasts).await;
            rates[at].push(rate);
            cpus[at].push(cpu);
            // The first way is the yardstick.
            ratios[at].push(rate / rates[0].last().copied().unwrap_or(f64::NAN));
            singles[at].extend(latencies(way, lasts / 4).await);
        }
    }
    let mut report = serde_json::Map::new();
    for (at, (name, _)) in ways.iter().enumerate() {
        singles[at].sort_unstable();
        let micros = |share| rounded(percentile(&singles[at], share) as f64 / 1e3, 2);
        let each: Vec<f64> = ratios[at].iter().map(|ratio| rounded(*ratio, 2)).collect();
        let row: Value = json!({
            "rounds_times_first": each,
            "calls_per_second": rounded(median(&mut rates[at]), 0),
            "times_first": rounded(median(&mut ratios[at]), 2),
            "cpu_us_per_call": rounded(median(&mut cpus[at]), 2),
            "p50_us": micros(0.5),
            "p99_us": micros(0.99),
        });
        report.insert((*name).to_owned(), row);
    }
    let run = json!({ "bench": "call", "tasks": tasks, "rounds": rounds, "ways": report });
    println!("{run}");
    servers.shutdown().await;
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What tonic's code generator writes for a service of one method.
#[derive(Clone)]
struct Stock;

impl tonic::server::NamedService for Stock {
    const NAME: &'static str = "bench.Stock";
}

impl tonic::server::UnaryService<Reserve> for Stock {
    type Response = Reserved;
    type Future = BoxFuture<Result<tonic::Response<Reserved>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<Reserve>) -> Self::Future {
        Box::pin(async move { Ok(tonic::Response::new(answer(request.into_inner()))) })
    }
}

impl<B> tonic::codegen::Service<http::Request<B>> for Stock
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<tonic::codegen::StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Reserved, Reserve>::default());
            Ok(grpc.unary(Stock, request).await)
        })
    }
}
