//! Calls to services with several instances, over TCP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::http::StatusCode;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use trunkline_core::Result;

use super::*;
use crate::balance::{Affinity, Avoid, Balance, Served};
use crate::discovery::{Discovery, Fixed, Instance};

const COMES: Duration = Duration::from_secs(20);

/// A server that says its number, unless it is told to fail.
struct Server {
    url: String,
    got: Arc<AtomicU32>,
    fails: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

async fn server(number: u32) -> Server {
    let (got, fails) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
    let (count, failing) = (got.clone(), fails.clone());
    let answer = move || {
        count.fetch_add(1, Ordering::Relaxed);
        let fails = failing.load(Ordering::Relaxed);
        async move {
            if fails {
                Err(StatusCode::SERVICE_UNAVAILABLE)
            } else {
                Ok(Json(number))
            }
        }
    };
    let router = Router::new().route("/", get(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, router, std::future::pending()));
    Server {
        url,
        got,
        fails,
        tasks,
    }
}

async fn servers(count: u32) -> Vec<Server> {
    let mut all = Vec::new();
    for number in 0..count {
        all.push(server(number).await);
    }
    all
}

fn network() -> Network {
    let env = Env::system();
    Network::new(Telemetry::new(env.clone()), env)
}

fn spread(network: &Network, servers: &[Server]) {
    let fixed = Fixed::urls(servers.iter().map(|server| &server.url)).unwrap();
    network.discover(
        "there",
        Arc::new(fixed),
        Balance::default(),
        Responses::Plain,
    );
}

fn client(network: &Network) -> Client {
    let context = Context::root(&Env::system());
    // Without the layers above: a retry would hide what fails.
    Client::new(network.channel("here", "there").bare(), context)
}

#[tokio::test]
async fn half_of_the_instances_fail_and_callers_see_next_to_nothing_of_it() {
    let servers = servers(4).await;
    let network = network();
    spread(&network, &servers);
    let client = client(&network);
    for server in &servers[..2] {
        server.fails.store(true, Ordering::Relaxed);
    }
    let mut failed = 0;
    for _ in 0..2_000 {
        failed += u32::from(client.get("/").send::<u32>().await.is_err());
    }
    // Five each until they are out, for a minute; what a slow machine adds is what comes back by then.
    assert!((10..=16).contains(&failed), "{failed}");
    assert_eq!(network.places()[0].left_out, 2);
    for server in &servers[2..] {
        assert!(server.got.load(Ordering::Relaxed) > 500);
    }
}

#[tokio::test]
async fn an_instance_that_is_gone_is_left_out_too() {
    let mut servers = servers(3).await;
    let network = network();
    spread(&network, &servers);
    let client = client(&network);
    assert!(client.get("/").send::<u32>().await.is_ok());
    servers[0].tasks.shutdown().await;
    let mut failed = 0;
    for _ in 0..1_000 {
        let Err(error) = client.get("/").send::<u32>().await else {
            continue;
        };
        failed += 1;
        let instance = error.context().find(|(key, _)| *key == "instance");
        assert_eq!(
            instance,
            Some(("instance", servers[0].url.trim_start_matches("http://")))
        );
    }
    assert!(failed <= 20, "{failed}");
}

#[tokio::test]
async fn an_instance_that_hangs_is_left_out_too() {
    let mut servers = servers(2).await;
    let hangs = Router::new().route(
        "/",
        get(|| async { std::future::pending::<Json<u32>>().await }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    servers[0].url = format!("http://{}", listener.local_addr().unwrap());
    servers[0]
        .tasks
        .spawn(serve(listener, hangs, std::future::pending()));
    let network = network();
    spread(&network, &servers);
    let client = client(&network);
    let mut late = 0;
    while network.places()[0].left_out == 0 {
        let call = client.get("/").timeout(Duration::from_millis(300));
        late += u32::from(call.send::<u32>().await.is_err());
        assert!(late < 40);
    }
    assert!(late >= 5);
    assert!(client.get("/").send::<u32>().await.is_ok());
}

#[tokio::test]
async fn a_key_or_what_was_tried_chooses_and_the_answer_says_who_gave_it() {
    let servers = servers(4).await;
    let network = network();
    spread(&network, &servers);
    let channel = network.channel("here", "there");
    let send = |request: http::Request<Body>| tower::ServiceExt::oneshot(channel.clone(), request);
    let served = |response: &http::Response<Body>| {
        let Served(member) = response.extensions().get().unwrap();
        member.authority().clone()
    };
    let mut homes = std::collections::HashSet::new();
    for _ in 0..20 {
        let mut request = http::Request::new(Body::empty());
        request
            .headers_mut()
            .insert("x-trunkline-affinity", "ann".parse().unwrap());
        homes.insert(served(&send(request).await.unwrap()));
        let mut request = http::Request::new(Body::empty());
        request
            .extensions_mut()
            .insert(Affinity(Bytes::from_static(b"ann")));
        homes.insert(served(&send(request).await.unwrap()));
    }
    assert_eq!(homes.len(), 1);
    let avoid = Avoid::new();
    let mut tried = std::collections::HashSet::new();
    for _ in 0..4 {
        let mut request = http::Request::new(Body::empty());
        request.extensions_mut().insert(avoid.clone());
        tried.insert(served(&send(request).await.unwrap()));
    }
    assert_eq!(tried.len(), 4, "each once");
}

/// Lists what it is sent.
struct Sent(tokio::sync::watch::Receiver<Option<Vec<Instance>>>);

impl Discovery for Sent {
    fn watch(&self, _: &str) -> BoxStream<'static, Result<Vec<Instance>>> {
        let lists = tokio_stream(self.0.clone());
        lists.boxed()
    }
}

fn tokio_stream(
    lists: tokio::sync::watch::Receiver<Option<Vec<Instance>>>,
) -> impl futures::Stream<Item = Result<Vec<Instance>>> {
    futures::stream::unfold((lists, true), |(mut lists, first)| async move {
        if !first {
            lists.changed().await.ok()?;
        }
        let list = loop {
            if let Some(list) = lists.borrow_and_update().clone() {
                break list;
            }
            lists.changed().await.ok()?;
        };
        Some((Ok(list), (lists, false)))
    })
}

#[tokio::test]
async fn the_first_call_waits_for_the_first_list_and_a_change_is_seen_by_the_next() {
    let servers = servers(2).await;
    let network = network();
    let (lists, seen) = tokio::sync::watch::channel(None);
    network.discover(
        "there",
        Arc::new(Sent(seen)),
        Balance::default(),
        Responses::Plain,
    );
    let client = client(&network);
    let first = async { client.get("/").send::<u32>().await };
    let list = |number: usize| vec![Instance::from_url(&servers[number].url).unwrap()];
    let later = async {
        tokio::task::yield_now().await;
        lists.send_replace(Some(list(0)));
    };
    assert_eq!(tokio::join!(first, later).0.unwrap(), 0);
    lists.send_replace(Some(list(1)));
    let moved = async { while client.get("/").send::<u32>().await.unwrap() != 1 {} };
    timeout(COMES, moved).await.expect("the change is seen");
    // Put elsewhere, it is watched no more.
    network.mount(
        "there",
        Router::new().route("/", get(|| async { Json(7) })),
        Responses::Plain,
    );
    assert_eq!(client.get("/").send::<u32>().await.unwrap(), 7);
    timeout(COMES, lists.closed())
        .await
        .expect("nobody watches");
}

#[tokio::test]
async fn a_registry_that_is_away_from_the_start_is_told_to_callers() {
    struct Away;
    impl Discovery for Away {
        fn watch(&self, _: &str) -> BoxStream<'static, Result<Vec<Instance>>> {
            let error = Error::unavailable("registry_unreachable", "the registry can't be reached");
            futures::stream::iter([Err(error)]).boxed()
        }
    }
    let network = network();
    network.discover(
        "there",
        Arc::new(Away),
        Balance::default(),
        Responses::Plain,
    );
    let error = client(&network).get("/").send::<u32>().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Unavailable, Retry::Transient)
    );
    assert!(
        error.to_string().contains("the registry can't be reached"),
        "{error}"
    );
    let place = &network.places()[0];
    assert!(place.instances == 0 && place.trouble.is_some(), "{place:?}");
}
