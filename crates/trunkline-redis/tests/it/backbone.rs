//! Nodes of a realtime server that share a log on Redis.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use trunkline_realtime::{Backbone, Limits, Namespace, Of, Offset, Realtime};
use trunkline_redis::RedisBackbone;
use trunkline_testkit::eventually;
use trunkline_testkit::http::Caller;

use super::*;

fn backbone(server: &Server, prefix: &str) -> RedisBackbone {
    let url = format!("{}?prefix={prefix}&timeout_ms=2000", server.url());
    RedisBackbone::from_url(&url, "games").unwrap()
}

fn text(entries: &[(Offset, Bytes)]) -> Vec<&str> {
    let texts = entries
        .iter()
        .map(|(_, entry)| std::str::from_utf8(entry).unwrap());
    texts.collect()
}

#[tokio::test]
async fn everybody_reads_the_same_entries_in_the_same_order() {
    let prefix = prefix();
    let (one, two) = (
        backbone(Server::shared(), &prefix),
        backbone(Server::shared(), &prefix),
    );
    assert_eq!(one.latest(10).await.unwrap(), []);
    let waits = async {
        let mut read = Vec::new();
        while read.len() < 3 {
            let after = read.last().map_or(Offset::default(), |(offset, _)| *offset);
            read.extend(two.read(after).await.unwrap());
        }
        read
    };
    let write = async {
        one.append(&[Bytes::from_static(b"a"), Bytes::from_static(b"b")])
            .await
            .unwrap();
        one.append(&[Bytes::from_static(b"c")]).await.unwrap();
    };
    let (read, ()) = tokio::join!(waits, write);
    assert_eq!(text(&read), ["a", "b", "c"]);
    let latest = one.latest(2).await.unwrap();
    assert_eq!(text(&latest), ["b", "c"]);
    assert_eq!(latest, read[1..]);
    assert_eq!(two.read(read[0].0).await.unwrap(), read[1..]);
}

#[tokio::test]
async fn what_is_remembered_is_recalled_once_and_not_for_ever() {
    let prefix = prefix();
    let one = backbone(Server::shared(), &prefix);
    let two = backbone(Server::shared(), &prefix);
    let value = Bytes::from_static(b"ada");
    one.remember("k", value.clone(), COMES).await.unwrap();
    let (here, there) = tokio::join!(one.recall("k"), two.recall("k"));
    let got: Vec<Bytes> = [here.unwrap(), there.unwrap()]
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(got, std::slice::from_ref(&value));
    one.remember("k", value, Duration::from_millis(1))
        .await
        .unwrap();
    eventually(COMES, async || {
        cli(
            Server::shared(),
            &["EXISTS", &format!("{prefix}{{realtime:games}}:away:k")],
        ) == "0"
    })
    .await;
    assert_eq!(two.recall("k").await.unwrap(), None);
}

#[test]
fn a_name_that_is_none_is_told() {
    for name in ["", "a b", "a}b"] {
        let error = RedisBackbone::from_url("redis://h", name).unwrap_err();
        assert_eq!(error.code(), "backbone_name_invalid");
    }
    assert!(RedisBackbone::from_url("redis://h?prefixx=1", "games").is_err());
}

/// A node with its address.
async fn node(server: &Server, prefix: &str) -> (Of, String, tokio::task::JoinHandle<()>) {
    let realtime = Realtime::new([Namespace::at("/")], Limits::default(), Env::system()).unwrap();
    realtime
        .join(Arc::new(backbone(server, prefix)))
        .await
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = realtime.router();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (realtime.of("/").unwrap(), url, serving)
}

/// Connects by polling; a request that gives packets.
async fn polls(url: &str) -> impl AsyncFnMut() -> String {
    let caller = Caller::new(url.to_owned());
    let opening = caller.get("/socket.io/?EIO=4&transport=polling").await;
    let opening: serde_json::Value = serde_json::from_str(&opening.body[1..]).unwrap();
    let id = opening["sid"].as_str().unwrap();
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={id}");
    caller
        .send(hyper::Method::POST, &path, Some("40".to_owned()))
        .await;
    assert!(caller.get(&path).await.body.starts_with("40"));
    async move || caller.get(&path).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_go_on_when_the_server_is_back() {
    let server = Server::start();
    let (one, one_url, first) = node(&server, "nodes:").await;
    let (two, two_url, second) = node(&server, "nodes:").await;
    let mut here = polls(&one_url).await;
    let mut there = polls(&two_url).await;
    one.all().emit("move", &json!("e4")).unwrap();
    assert_eq!(here().await, "42[\"move\",\"e4\"]");
    assert_eq!(there().await, "42[\"move\",\"e4\"]");

    server.kill();
    // What is sent while it is away waits for it.
    two.all().emit("move", &json!("e5")).unwrap();
    server.restart();
    assert_eq!(there().await, "42[\"move\",\"e5\"]");
    assert_eq!(here().await, "42[\"move\",\"e5\"]");
    first.abort();
    second.abort();
}
