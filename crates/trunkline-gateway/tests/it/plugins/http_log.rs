use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::any;
use parking_lot::Mutex;
use serde_json::{Value, json};
use trunkline_testkit::eventually;

use super::{gateway, serve, short_lived};
use crate::kit::{Lines, SOON};

/// A place that keeps logs; it fails so often first.
#[derive(Default)]
struct Keeper {
    came: Mutex<Vec<(Method, HeaderMap, String)>>,
    fails: AtomicUsize,
}

async fn keep(
    State(keeper): State<Arc<Keeper>>,
    method: Method,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let fails = keeper
        .fails
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        });
    if fails.is_ok() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    keeper.came.lock().push((method, headers, body));
    StatusCode::NO_CONTENT
}

async fn keeper(fails: usize) -> (Arc<Keeper>, String, tokio::task::JoinSet<()>) {
    let keeper = Arc::new(Keeper::default());
    keeper.fails.store(fails, Ordering::Relaxed);
    let router = Router::new()
        .route("/logs", any(keep))
        .with_state(keeper.clone());
    let (url, server) = serve(router).await;
    (keeper, format!("{url}/logs"), server)
}

impl Keeper {
    fn entries(&self) -> Vec<Value> {
        let came = self.came.lock();
        let bodies = came
            .iter()
            .map(|(_, _, body)| serde_json::from_str(body).unwrap());
        let lists = bodies.map(|body: Value| match body {
            Value::Array(entries) => entries,
            one => vec![one],
        });
        lists.flatten().collect()
    }
}

fn file(url: &str, settings: &str) -> String {
    format!(
        "
services:
- name: echo
  routes: [{{name: api, paths: [/api]}}, {{name: shut, paths: [/shut], plugins: [{{name: request-termination}}]}}, {{name: key, paths: [/key], plugins: [{{name: key-auth}}]}}]
plugins: [{{name: http-log, config: {{http_endpoint: '{url}', {settings}}}}}]
consumers: [{{username: ann, custom_id: '17', keyauth_credentials: [{{key: ann-key}}]}}]"
    )
}

#[tokio::test]
async fn each_request_is_told_as_kong_tells_it() {
    let (keeper, url, _server) = keeper(0).await;
    let kit = gateway(&file(&url, "method: PUT, headers: {x-token: t}")).await;
    let secret =
        "authorization: Bearer s3cret\r\ncookie: a=s3cret\r\napikey: ann-key\r\nx-a: 1\r\n";
    let answer = kit.send("POST /key/a%20b?x=1&x=2&y", secret, "hello").await;
    assert_eq!(answer.status, 200);
    kit.get("/shut").await;
    eventually(SOON, async || keeper.entries().len() == 2).await;
    let (method, headers, _) = keeper.came.lock()[0].clone();
    assert_eq!(
        (method.as_str(), &headers["x-token"]),
        ("PUT", &"t".parse().unwrap())
    );
    assert_eq!(headers["content-type"], "application/json");
    let [told, shut] = &keeper.entries()[..] else {
        panic!("two");
    };
    let request = &told["request"];
    assert_eq!(request["method"], "POST");
    assert_eq!(request["uri"], "/key/a%20b?x=1&x=2&y");
    assert_eq!(request["url"], "http://shop/key/a%20b?x=1&x=2&y");
    assert_eq!(request["querystring"], json!({ "x": ["1", "2"], "y": "" }));
    assert_eq!(request["headers"]["x-a"], "1");
    assert_eq!(request["id"].as_str(), answer.header("x-request-id"));
    assert_eq!(
        (&request["size"], &told["upstream_uri"]),
        (&json!(5), &json!("/a%20b?x=1&x=2&y"))
    );
    assert_eq!(told["response"]["status"], 200);
    assert_eq!(told["response"]["size"], answer.body.len());
    assert_eq!(
        (&told["upstream_status"], &told["source"]),
        (&json!("200"), &json!("upstream"))
    );
    assert_eq!(
        (&told["service"]["name"], &told["route"]["name"]),
        (&json!("echo"), &json!("key"))
    );
    assert_eq!(
        told["consumer"],
        json!({ "username": "ann", "custom_id": "17" })
    );
    assert_eq!(
        (&told["client_ip"], &told["started_at"]),
        (&json!("127.0.0.1"), &json!(kit.env.now().as_millisecond()))
    );
    assert!(told["latencies"]["proxy"].as_i64().unwrap() >= 0);
    let text = told.to_string();
    assert!(
        !text.contains("s3cret") && !text.contains("ann-key"),
        "{text}"
    );
    assert_eq!(
        (&shut["source"], &shut["response"]["status"]),
        (&json!("kong"), &json!(503))
    );
    assert_eq!(shut["latencies"]["proxy"], -1);
}

#[tokio::test]
async fn entries_come_in_batches_and_a_place_that_fails_is_tried_again() {
    let (keeper, url, _server) = keeper(2).await;
    let kit = gateway(&file(
        &url,
        "queue: {max_batch_size: 3, max_coalescing_delay: 3600}",
    ))
    .await;
    for number in 0..6 {
        kit.get(&format!("/api/{number}")).await;
    }
    eventually(SOON, async || keeper.entries().len() == 6).await;
    assert_eq!(keeper.came.lock().len(), 2, "three and three");
    let uris = keeper.entries();
    let uris: Vec<_> = uris
        .iter()
        .map(|entry| entry["request"]["uri"].as_str().unwrap())
        .collect();
    assert_eq!(
        uris,
        ["/api/0", "/api/1", "/api/2", "/api/3", "/api/4", "/api/5"]
    );
}

#[tokio::test]
async fn what_waits_is_sent_before_the_gateway_ends_and_before_a_plugin_is_replaced() {
    let (keeper, url, _server) = keeper(0).await;
    let slow = "queue: {max_batch_size: 100, max_coalescing_delay: 3600}";
    let mut kit = short_lived(&file(&url, slow)).await;
    kit.get("/api/1").await;
    kit.gateway
        .reload(&super::read(&file(&url, &format!("timeout: 9999, {slow}"))))
        .unwrap();
    eventually(SOON, async || keeper.entries().len() == 1).await;
    kit.get("/api/2").await;
    kit.begin_stop();
    kit.stopped().await;
    assert_eq!(keeper.entries().len(), 2);
}

#[tokio::test]
async fn what_nobody_takes_is_dropped_and_said() {
    let lines = Lines::new();
    let (keeper, url, _server) = keeper(1_000_000).await;
    let kit = gateway(&file(&url, "queue: {max_retry_time: 0.05}")).await;
    assert_eq!(
        kit.get("/api").await.status,
        200,
        "no request waits for a log"
    );
    eventually(SOON, async || lines.with("log entries are dropped") == 1).await;
    assert!(keeper.entries().is_empty());
}
