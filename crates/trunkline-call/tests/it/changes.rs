//! What changes while calls are made: policies, and who proves what.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::routing::any;
use futures::future::BoxFuture;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use trunkline_call::layer::{BreakerState, Event, Identity, Outgoing};
use trunkline_call::policy::{Operation, Policies, Target};
use trunkline_call::server::serve;
use trunkline_call::{Client, Network, Problem, Responses};
use trunkline_core::{Context, Env, Error, Result};
use trunkline_telemetry::Telemetry;

fn network() -> (Network, Client) {
    let env = Env::seeded(3);
    let network = Network::new(Telemetry::new(env.clone()), env.clone());
    let client = Client::new(network.channel("here", "there"), Context::root(&env));
    (network, client)
}

fn refusing(count: &Arc<AtomicU32>) -> Router {
    let count = count.clone();
    Router::new().fallback(any(move || async move {
        count.fetch_add(1, Ordering::SeqCst);
        Problem(Error::unavailable("busy", "not now"))
    }))
}

#[tokio::test(start_paused = true)]
async fn the_next_call_of_every_channel_is_made_by_the_new_policies() {
    let (network, client) = network();
    let count = Arc::new(AtomicU32::new(0));
    network.mount("there", refusing(&count), Responses::Plain);
    let asked = async |path: &str| {
        let before = count.load(Ordering::SeqCst);
        client.post(path).send_empty().await.unwrap_err();
        count.load(Ordering::SeqCst) - before
    };
    let wary = "[\"*\"]\nbreaker = { failures_max = 0, rate_percent = 0 }\n";
    let set = |text: &str| {
        let text = format!("{wary}{text}");
        network.set_policies(toml::from_str::<Policies>(&text).unwrap());
    };
    set("");
    assert_eq!(
        asked("/a").await,
        3,
        "the problem says that nothing happened"
    );
    set("[there]\nattempts_max = 1\n[there.\"POST /b\"]\nattempts_max = 2\n");
    assert_eq!((asked("/a").await, asked("/b").await), (1, 2));
    // What the target declares counts for its operation, and the configuration before it.
    let slow = Operation::new().no_retry();
    let declared = Target::new().operation("POST /a".parse().unwrap(), slow);
    network.set_policies(Policies::default().declare("there", declared));
    let policies = network
        .policies()
        .configured_by(&toml::from_str(wary).unwrap());
    network.set_policies(policies);
    assert_eq!((asked("/a").await, asked("/b").await), (1, 3));
    network.unmount(&"there".into());
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_told_of_breakers_and_retries() {
    let (network, client) = network();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    network.on_call_event(move |event| {
        assert_eq!((&**event.caller, &**event.target), ("here", "there"));
        tell.lock().push(event.event);
    });
    let count = Arc::new(AtomicU32::new(0));
    network.mount("there", refusing(&count), Responses::Plain);
    for _ in 0..3 {
        client.get("/").send_empty().await.unwrap_err();
    }
    let told = told.lock();
    let retries = told
        .iter()
        .filter(|event| matches!(event, Event::Retried { .. }));
    // The last of them meets the breaker that had opened meanwhile.
    assert_eq!(retries.count(), 4, "{told:?}");
    assert!(
        told.contains(&Event::Breaker(BreakerState::Open)),
        "{told:?}"
    );
    assert_eq!(told.last(), Some(&Event::Refused));
    network.unmount(&"there".into());
}

struct Badge;

impl Identity for Badge {
    fn prove<'a>(
        &'a self,
        call: Outgoing<'a>,
        headers: &'a mut HeaderMap,
    ) -> BoxFuture<'a, Result<()>> {
        let said = format!("{} to {} {}", call.caller, call.target, call.path);
        headers.insert("x-badge", said.parse().unwrap());
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn an_identity_is_proven_to_other_processes_and_not_outside() {
    let (network, ours) = network();
    network.set_identity(Arc::new(Badge));
    let heard = any(|headers: HeaderMap| async move {
        let badge = headers.get("x-badge").map(|badge| badge.to_str().unwrap());
        axum::Json(badge.unwrap_or("none").to_owned())
    });
    let router = Router::new().fallback(heard);
    // In one process it is told without a proof.
    network.mount("there", router.clone(), Responses::Plain);
    assert_eq!(ours.get("/a").send::<String>().await.unwrap(), "none");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(serve(listener, router, std::future::pending()));
    network.remote("there", &url, Responses::Plain).unwrap();
    assert_eq!(
        ours.get("/a").send::<String>().await.unwrap(),
        "here to there /a"
    );
    network.outside("theirs", &url).unwrap();
    let env = Env::system();
    let theirs = Client::new(network.channel("here", "theirs"), Context::root(&env));
    assert_eq!(theirs.get("/a").send::<String>().await.unwrap(), "none");
    network.unmount(&"there".into());
    server.shutdown().await;
}
