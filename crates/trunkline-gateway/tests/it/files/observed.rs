//! A platform that is watched: logs, traces and metrics, checked bodies, shared limits, an issuer's tokens, balancing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::Uri;
use axum::routing::{get, post};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use trunkline_security::{Claims, Secret, Signer};
use trunkline_telemetry::prometheus;
use trunkline_testkit::{eventually, redis::Server};

use super::{Place, Words, ask, drive, written};
use crate::kit::{Kit, SOON};

/// What came to the collector: paths with bodies.
type Came = Arc<Mutex<Vec<(String, String)>>>;

async fn collector(came: &Came) -> Place {
    let came = came.clone();
    let take = async move |uri: Uri, body: Bytes| {
        let text = String::from_utf8_lossy(&body).into_owned();
        came.lock().push((uri.path().to_owned(), text));
    };
    Place::serving(Router::new().fallback(post(take)), None).await
}

fn signer(byte: u8) -> Signer {
    Signer::ed25519(&Secret::new([byte; 32]).unwrap()).unwrap()
}

async fn issuer() -> Place {
    let keys = signer(1).jwks().to_string();
    Place::serving(Router::new().route("/keys", get(keys)), None).await
}

fn token(kit: &Kit, byte: u8, audience: &str) -> String {
    let claims = Claims::new("ada", Duration::from_secs(600), &kit.env);
    let claims = claims
        .issued_by("https://id.example")
        .for_audience(audience);
    format!(
        "authorization: Bearer {}\r\n",
        signer(byte).sign(&claims).unwrap()
    )
}

#[tokio::test]
async fn bodies_are_checked_limits_shared_and_all_of_it_told() {
    let registry = prometheus::install().unwrap();
    let (a, b, redis, came) = (
        Place::start("a").await,
        Place::start("b").await,
        Server::start(),
        Came::default(),
    );
    let (collector, issuer) = (collector(&came).await, issuer().await);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let words = Words::new()
        .with("UPSTREAM_A", a.at)
        .with("UPSTREAM_B", b.at)
        .with("COLLECTOR", collector.at)
        .with("ISSUER", issuer.at)
        .with("REDIS_PORT", redis.port())
        .with("LOG_FILE", log.display());
    let (kit, other) = (
        words.gateway("observed.yml").await,
        words.gateway("observed.yml").await,
    );
    let json = "content-type: application/json\r\n";
    let order = "POST any.example/orders?channel=web";
    drive(
        &kit,
        &[
            (
                order,
                json,
                "{\"sku\": \"tea\", \"count\": 2}",
                200,
                &[
                    "uri /orders?channel=web",
                    "says x-ratelimit-remaining-minute: 2",
                ],
            ),
            (
                order,
                json,
                "{\"sku\": 7}",
                400,
                &["says no x-by", "says x-ratelimit-remaining-minute: 1"],
            ),
            (
                "GET any.example/accounts/1",
                "",
                "",
                401,
                &["says www-authenticate"],
            ),
            (
                "GET any.example/accounts/1",
                &token(&kit, 1, "accounts"),
                "",
                200,
                &["uri /accounts/1", "got x-user-id: ada"],
            ),
            (
                "GET any.example/accounts/1",
                &token(&kit, 2, "accounts"),
                "",
                401,
                &[],
            ),
            (
                "GET any.example/accounts/1",
                &token(&kit, 1, "shop"),
                "",
                401,
                &[],
            ),
        ],
    )
    .await;
    drive(
        &other,
        &[
            (
                "POST any.example/orders?channel=post",
                json,
                "{\"sku\": \"tea\"}",
                400,
                &["says x-ratelimit-remaining-minute: 0"],
            ),
            (
                order,
                json,
                "{\"sku\": \"tea\"}",
                429,
                &["says retry-after"],
            ),
        ],
    )
    .await;
    drive(&kit, &[(order, json, "{\"sku\": \"tea\"}", 429, &[])]).await;
    // Six and one went through one gateway, two through the other.
    let lines = || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .count()
    };
    eventually(SOON, async || lines() == 9).await;
    let told = |path: &str, text: &str| {
        let came = came.lock();
        let to = came.iter().filter(|(to, _)| to == path);
        to.map(|(_, body)| body.matches(text).count())
            .sum::<usize>()
    };
    eventually(SOON, async || told("/logs", "\"upstream_uri\"") == 9).await;
    eventually(SOON, async || told("/v1/traces", "service.name") > 0).await;
    // Three showed a token, and no log tells it.
    assert_eq!((told("/logs", "REDACTED"), told("/logs", "eyJ")), (3, 0));
    let metrics = registry.render();
    let counted = metrics.lines().find(|line| {
        [
            "kong_http_requests_total{",
            "route=\"place-order\"",
            "code=\"429\"",
        ]
        .iter()
        .all(|part| line.contains(part))
    });
    assert!(
        counted.is_some_and(|line| line.ends_with(" 2")),
        "{metrics}"
    );
}

#[tokio::test]
async fn load_and_carts_choose_the_target() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let words = Words::new()
        .with("UPSTREAM_A", a.at)
        .with("UPSTREAM_B", b.at);
    let kit = words.gateway("observed.yml").await;
    let by = async |line: &str, headers: &str| {
        let answer = ask(&kit, line, headers, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("x-by").unwrap().to_owned()
    };
    let mut slow = kit.connect().await;
    slow.write_all(written("GET any.example/reports/slow", "", "").as_bytes())
        .await
        .unwrap();
    let under_way = || {
        let upstreams = kit.gateway.upstreams();
        let orders = upstreams.iter().find(|one| one.name == "orders-pool");
        let targets = orders.unwrap().targets.iter();
        targets.map(|target| target.under_way).collect::<Vec<_>>()
    };
    eventually(SOON, async || under_way().iter().sum::<usize>() == 1).await;
    let free = if under_way() == [1, 0] { "b" } else { "a" };
    for _ in 0..6 {
        assert_eq!(by("GET any.example/reports/1", "").await, free);
    }
    let mut seen = BTreeSet::new();
    for cart in 0..16 {
        let header = format!("x-cart: c{cart}\r\n");
        let first = by("GET any.example/carts/1", &header).await;
        assert_eq!(by("GET any.example/carts/1", &header).await, first);
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2);
    let answer = ask(&kit, "GET any.example/carts/1", "", "").await;
    let cookie = answer.header("set-cookie").unwrap();
    let (pair, _) = cookie.split_once(';').unwrap();
    assert!(
        cookie.starts_with("cart-at=") && cookie.contains("Path=/carts"),
        "{cookie}"
    );
    for _ in 0..4 {
        let again = by("GET any.example/carts/1", &format!("cookie: {pair}\r\n")).await;
        assert_eq!(Some(&*again), answer.header("x-by"));
    }
}
