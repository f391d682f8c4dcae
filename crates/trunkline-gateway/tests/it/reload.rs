//! Another configuration while requests are at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use http::Request;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tower::ServiceExt;
use trunkline_gateway::{Config, Keeper, Route};
use trunkline_testkit::eventually;

use crate::kit::{Kit, SOON, config, read_until, start};

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

/// Clients that ask all the time, and none of which is ever refused.
struct Load {
    ends: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Load {
    async fn begin(kit: &Kit) -> Self {
        let mut load = Self {
            ends: Arc::default(),
            answered: Arc::default(),
            clients: JoinSet::new(),
        };
        for _ in 0..8 {
            let mut stream = kit.connect().await;
            let (ends, answered) = (load.ends.clone(), load.answered.clone());
            load.clients.spawn(async move {
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
        load
    }

    /// Waits until another request was answered.
    async fn goes_on(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        eventually(SOON, async || {
            self.answered.load(Ordering::Relaxed) > before
        })
        .await;
    }

    async fn end(mut self) {
        self.ends.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
    }
}

/// The route that is asked for, which says something else in each round, and some others.
fn routes(round: usize) -> impl Iterator<Item = Route> {
    let others = (0..round % 7).map(|at| Route::new(format!("other-{at}"), format!("/other-{at}")));
    let route = Route::new("r", "/r");
    let route = match round % 2 {
        0 => route.keep_path(),
        _ => route,
    };
    others.chain([route])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_fail_no_request() {
    let kit = start(config(routes(0))).await;
    let load = Load::begin(&kit).await;
    for round in 0..100 {
        load.goes_on().await;
        kit.gateway.reload(&config(routes(round))).unwrap();
    }
    load.end().await;
}

/// What the admin API is sent and answers.
async fn change(router: &Router, line: &str, body: String, status: u16) {
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path);
    let request = request.body(axum::body::Body::from(body)).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), status, "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_changes_by_the_admin_api_under_load_fail_no_request() {
    let file = |round: usize| {
        let keeps = round.is_multiple_of(2);
        format!(
            "services: [{{name: echo, routes: [{{name: r, paths: [/r], strip_path: {keeps}}}]}}]"
        )
    };
    let kit = start(Config::parse("kong.yml", &file(0)).unwrap()).await;
    let keeper = Keeper::new(kit.gateway.clone(), file(0), kit.env.clone());
    let router = keeper.router(Router::new(), None);
    let load = Load::begin(&kit).await;
    for round in 0..50 {
        load.goes_on().await;
        match round % 3 {
            0 => change(&router, "POST /config", file(round), 201).await,
            1 => {
                let body = json!({ "name": "more", "paths": ["/more"] }).to_string();
                change(&router, "POST /services/echo/routes", body, 201).await;
            }
            _ => change(&router, "DELETE /routes/more", String::new(), 204).await,
        }
        load.goes_on().await;
        let body = json!({ "strip_path": round % 2 == 0 }).to_string();
        change(&router, "PATCH /routes/r", body, 200).await;
    }
    load.end().await;
}
