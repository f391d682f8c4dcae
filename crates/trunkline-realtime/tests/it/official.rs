//! What the official client does, over each of its means.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use trunkline_realtime::Limits;
use trunkline_testkit::node;

use crate::server::Server;

/// Runs a scenario of `official.cjs`, which ends well or says why not.
async fn plays(server: &Server, scenario: &str, transports: &str) {
    let file = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/official.cjs"
    ));
    let mut node = node::script(file);
    node.args([scenario, &server.url, transports]);
    let run = tokio::task::spawn_blocking(move || node.output().unwrap());
    let output = run.await.unwrap();
    assert!(
        output.status.success(),
        "{scenario} over {transports}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        mod websocket {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::plays(&super::Server::start().await, stringify!($name), "websocket").await;
            })*
        }
        mod polling {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::plays(&super::Server::start().await, stringify!($name), "polling").await;
            })*
        }
        mod upgrading {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::plays(&super::Server::start().await, stringify!($name), "polling,websocket").await;
            })*
        }
    };
}

scenarios! {
    acknowledgements
    bytes
    errors_go_to_the_sender
    rooms
    namespaces_and_tokens
    order
    volatile_and_latest
    who_is_cut_off_comes_back
    who_says_goodbye_does_not_come_back
    server_disconnects
    rates
    large
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_upgrades_and_loses_nothing_meanwhile() {
    let server = Server::start().await;
    let space = server.realtime.of("/").unwrap();
    let sends = tokio::spawn(async move {
        for number in 0.. {
            if space.all().emit("tick", &number).is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    plays(&server, "upgrades_under_traffic", "polling,websocket").await;
    sends.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_lets_its_clients_come_back() {
    let limits = Limits::default();
    let server = Server::with(limits).await;
    let realtime = server.realtime.clone();
    let (of, followed) = (realtime.of("/").unwrap(), server.followed.clone());
    let ends = tokio::spawn(async move {
        while of.all().count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        realtime.close(Duration::from_secs(10)).await;
        followed.load(Ordering::SeqCst)
    });
    plays(&server, "server_stops", "websocket").await;
    let followed = ends.await.unwrap();
    assert_eq!(followed, 1, "what follows a disconnect is waited for");
    assert_eq!(server.realtime.clients(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_is_disconnected() {
    let mut limits = Limits::default();
    limits.ping_every = Duration::from_millis(100);
    limits.ping_within = Duration::from_millis(100);
    let server = Server::with(limits).await;
    plays(&server, "answers_pings", "websocket").await;
    plays(&server, "answers_pings", "polling").await;
    plays(&server, "is_silent", "websocket").await;
    let of = server.realtime.of("/").unwrap();
    trunkline_testkit::eventually(Duration::from_secs(10), async || of.all().count() == 0).await;
    assert!(of.all().emit("nobody", &json!(1)).is_ok());
}
