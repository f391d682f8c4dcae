//! Another configuration while requests are at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use trunkline_gateway::{Config, Route};

use crate::kit::{config, read_until, start};

fn limited(name: &str, minute: u32) -> Config {
    let limit = json!({ "minute": minute, "limit_by": "ip" });
    config([Route::new(name, format!("/{name}")).plugin("rate-limiting", limit)])
}

#[tokio::test]
async fn what_is_wrong_changes_nothing_and_what_is_right_holds_at_once() {
    let kit = start(config([Route::new("old", "/old")])).await;
    let wrong = config([Route::new("new", "no slash")]);
    let error = kit.gateway.reload(&wrong).unwrap_err();
    assert_eq!(error.code(), "gateway_config_invalid");
    assert_eq!(kit.get("/old").await.status, 200);
    kit.gateway
        .reload(&config([Route::new("new", "/new")]))
        .unwrap();
    kit.get("/old").await.is_problem(404, "route_unknown");
    assert_eq!(kit.get("/new").await.status, 200);
}

#[tokio::test]
async fn who_has_used_up_a_limit_is_not_let_in_by_a_reload() {
    let kit = start(limited("a", 2)).await;
    for _ in 0..2 {
        assert_eq!(kit.get("/a").await.status, 200);
    }
    kit.gateway.reload(&limited("a", 2)).unwrap();
    kit.get("/a").await.is_problem(429, "rate_limit_exceeded");
    // Another limit is another plugin.
    kit.gateway.reload(&limited("a", 3)).unwrap();
    assert_eq!(kit.get("/a").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_fail_no_request() {
    let kit = start(config([Route::new("r", "/r")])).await;
    let (ends, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let mut stream = kit.connect().await;
        let (ends, answered) = (ends.clone(), answered.clone());
        clients.spawn(async move {
            while !ends.load(Ordering::Relaxed) {
                stream
                    .write_all(b"GET /r/x HTTP/1.1\r\nhost: shop\r\n\r\n")
                    .await
                    .unwrap();
                let answer = read_until(&mut stream, "\"uri\":\"/").await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for round in 0..100_u64 {
        // Between two of them requests were answered.
        while answered.load(Ordering::Relaxed) < round {
            tokio::task::yield_now().await;
        }
        let routes =
            (0..round % 7).map(|at| Route::new(format!("other-{at}"), format!("/other-{at}")));
        let route = Route::new("r", "/r");
        let route = if round % 2 == 0 {
            route.keep_path()
        } else {
            route
        };
        kit.gateway.reload(&config(routes.chain([route]))).unwrap();
    }
    ends.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(answered.load(Ordering::Relaxed) >= 99);
}
