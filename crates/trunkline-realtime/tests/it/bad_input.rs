//! What clients may not send, by hand.

use http::Method;
use trunkline_testkit::http::{Answer, Caller};

use crate::server::Server;

const NEW: &str = "/socket.io/?EIO=4&transport=polling";

async fn opened(server: &Server) -> (Caller, String) {
    let caller = Caller::new(server.url.clone());
    let opening = caller.get(NEW).await;
    assert_eq!(opening.status, 200, "{opening:?}");
    let opening: serde_json::Value = serde_json::from_str(&opening.body[1..]).unwrap();
    let id = opening["sid"].as_str().unwrap();
    let path = format!("{NEW}&sid={id}");
    (caller, path)
}

async fn post(caller: &Caller, path: &str, body: &str) -> Answer {
    caller.send(Method::POST, path, Some(body.to_owned())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none_are_refused_by_the_protocols_numbers() {
    let server = Server::start().await;
    let caller = Caller::new(server.url.clone());
    for (method, query, code) in [
        (Method::GET, "", 5),
        (Method::GET, "EIO=3&transport=polling", 5),
        (Method::GET, "EIO=4", 0),
        (Method::GET, "EIO=4&transport=carrier-pigeon", 0),
        (Method::GET, "EIO=4&transport=polling&sid=unknown", 1),
        (Method::POST, "EIO=4&transport=polling&sid=unknown", 1),
        (Method::POST, "EIO=4&transport=polling", 2),
        (Method::DELETE, "EIO=4&transport=polling", 2),
        (Method::GET, "EIO=4&transport=websocket", 3),
    ] {
        let answer = caller
            .send(method, &format!("/socket.io/?{query}"), None)
            .await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json()["code"], code, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_are_none_end_the_connection() {
    let server = Server::start().await;
    let deep = format!("42{}", "[".repeat(10_000));
    let large = format!("4{}", "x".repeat(1_000_001));
    for body in [
        "",
        "4",
        "49",
        "42{}",
        "5",
        "2probe",
        "b!!",
        "bAAA=",
        "451-[\"a\"]\u{1e}42[\"b\"]",
        &deep,
        &large,
    ] {
        let (caller, path) = opened(&server).await;
        let answer = post(&caller, &path, body).await;
        assert_eq!(answer.status, 400, "{}", &body[..body.len().min(40)]);
        assert_eq!(caller.get(&path).await.json()["code"], 1);
    }
    assert_eq!(server.realtime.clients(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_poll_one_connection_end_it() {
    let server = Server::start().await;
    let (caller, path) = opened(&server).await;
    let (one, other) = tokio::join!(caller.get(&path), caller.get(&path));
    assert_eq!((one.status.as_u16(), other.status.as_u16()), (400, 400));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_events_than_are_handled_end_the_connection() {
    let server = Server::start().await;
    let (caller, path) = opened(&server).await;
    assert_eq!(post(&caller, &path, "40").await.body, "ok");
    let flood = vec!["42[\"nothing\"]"; 2_000].join("\u{1e}");
    let answer = post(&caller, &path, &flood).await;
    assert!([200, 400].contains(&answer.status.as_u16()), "{answer:?}");
    let again = vec!["42[\"ask me\"]"; 2_000].join("\u{1e}");
    assert_eq!(post(&caller, &path, &again).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_says_so() {
    let mut limits = trunkline_realtime::Limits::default();
    limits.clients_max = 1;
    let server = Server::with(limits).await;
    let (caller, _) = opened(&server).await;
    let refused = caller.get(NEW).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["code"]),
        (503, &4.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_nowhere_is_let_go() {
    let mut limits = trunkline_realtime::Limits::default();
    limits.connect_within = std::time::Duration::from_millis(50);
    let server = Server::with(limits).await;
    let (caller, path) = opened(&server).await;
    assert_eq!(caller.get(&path).await.json()["code"], 1);
}
