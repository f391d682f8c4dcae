//! A web shop: deck's nested form, an upstream with health checks, consumers' tokens, sizes, limits and browsers.

use std::time::Duration;

use trunkline_security::Claims;
use trunkline_testkit::eventually;

use super::{Place, Words, ask, drive, read};
use crate::kit::{Kit, SOON, alone};

/// A token of the mobile app, or of whoever has this key.
fn token(kit: &Kit, key: &str, lives: Duration) -> String {
    let mut claims = Claims::new("u1", lives, &kit.env);
    claims.iss = Some(key.into());
    format!(
        "authorization: Bearer {}\r\n",
        kit.signer.sign(&claims).unwrap()
    )
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn tokens_sizes_and_limits_of_a_shop() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let words = Words::new()
        .with("UPSTREAM_A", a.at)
        .with("UPSTREAM_B", b.at);
    let kit = words.gateway("shop.yml").await;
    let app = token(&kit, "mobile", HOUR);
    let traced = format!("{app}x-correlation-id: c-1\r\n");
    let chunked = format!("{app}transfer-encoding: chunked\r\n");
    let large = "x".repeat(1_025);
    drive(
        &kit,
        &[
            (
                "GET api.shop.example/orders/7",
                "",
                "",
                401,
                &["says www-authenticate", "says x-correlation-id"],
            ),
            (
                "GET api.shop.example/orders/7",
                &token(&kit, "tablet", HOUR),
                "",
                401,
                &[],
            ),
            (
                "GET api.shop.example/orders/7?a=1",
                &traced,
                "",
                200,
                &[
                    "uri /internal/v2/orders/7?a=1",
                    "got host: api.shop.example",
                    "got x-consumer-username: mobile-app",
                    "got x-consumer-custom-id: app-1",
                    "got x-correlation-id: c-1",
                    "says x-correlation-id: c-1",
                    "says x-ratelimit-limit-minute: 4",
                    "says x-ratelimit-remaining-minute: 3",
                ],
            ),
            (
                "GET eu.shop.example/orders",
                &app,
                "",
                200,
                &[
                    "got host: eu.shop.example",
                    "says x-ratelimit-remaining-minute: 2",
                ],
            ),
            (
                "GET shop.example/orders",
                &app,
                "",
                404,
                &["code route_unknown"],
            ),
            (
                "DELETE api.shop.example/orders/7",
                &app,
                "",
                405,
                &["says allow"],
            ),
            // What is too large is refused before it is counted.
            ("POST api.shop.example/orders", &app, &large, 413, &[]),
            ("POST api.shop.example/orders", &chunked, "", 411, &[]),
            (
                "POST api.shop.example/orders",
                &app,
                "{}",
                200,
                &[
                    "uri /internal/v2/orders",
                    "says x-ratelimit-remaining-minute: 1",
                ],
            ),
            (
                "HEAD api.shop.example/orders",
                &app,
                "",
                200,
                &["says x-ratelimit-remaining-minute: 0"],
            ),
            (
                "GET api.shop.example/orders",
                &app,
                "",
                429,
                &["says retry-after", "says x-correlation-id"],
            ),
        ],
    )
    .await;
    kit.clock.advance(HOUR + Duration::from_secs(60));
    let fresh = token(&kit, "mobile", HOUR);
    drive(
        &kit,
        &[
            ("GET api.shop.example/orders", &app, "", 401, &[]),
            (
                "GET api.shop.example/orders",
                &fresh,
                "",
                200,
                &["says x-ratelimit-remaining-minute: 3"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn pages_of_one_origin_are_let_in() {
    let a = Place::start("a").await;
    let kit = Words::new()
        .with("UPSTREAM_A", a.at)
        .gateway("shop.yml")
        .await;
    let (own, other) = (
        "origin: https://shop.example\r\n",
        "origin: https://other.example\r\n",
    );
    let asks = format!(
        "{own}access-control-request-method: GET\r\naccess-control-request-headers: authorization\r\n"
    );
    drive(
        &kit,
        &[
            (
                "OPTIONS any.example/products/1",
                &asks,
                "",
                204,
                &[
                    "says access-control-allow-origin: https://shop.example",
                    "says access-control-allow-methods: GET, OPTIONS",
                    "says access-control-allow-headers: Authorization, Content-Type",
                    "says access-control-max-age: 3600",
                    "says access-control-allow-credentials: true",
                    "says no x-by",
                ],
            ),
            (
                "GET any.example/products/1",
                own,
                "",
                200,
                &[
                    "uri /catalogue/1",
                    "says x-by: a",
                    "says access-control-allow-origin: https://shop.example",
                    "says access-control-expose-headers: X-Total-Count",
                ],
            ),
            (
                "GET any.example/products/1",
                other,
                "",
                200,
                &[
                    "says no access-control-allow-credentials",
                    "says no access-control-expose-headers",
                ],
            ),
        ],
    )
    .await;
}

/// The file asks each second, and one failure is enough: whoever asks in between is sent on to the other.
#[tokio::test]
async fn requests_move_on_when_a_backend_is_killed() {
    let (mut a, b) = (Place::start("a").await, Place::start("b").await);
    let words = Words::new()
        .with("UPSTREAM_A", a.at)
        .with("UPSTREAM_B", b.at);
    let text = words
        .text("shop.yml")
        .replace("minute: 4,", "minute: 1000000,");
    let kit = alone(&read("shop.yml", &text)).await;
    let app = token(&kit, "mobile", HOUR);
    let by = async || {
        let answer = ask(&kit, "GET api.shop.example/orders", &app, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("x-by").unwrap().to_owned()
    };
    let mut both = [by().await, by().await];
    both.sort();
    assert_eq!(both, ["a", "b"]);
    a.dies().await;
    for _ in 0..20 {
        assert_eq!(by().await, "b");
    }
    let is_healthy = || {
        kit.gateway.upstreams()[0]
            .targets
            .iter()
            .map(|target| target.is_healthy)
            .collect::<Vec<_>>()
    };
    let bound = Duration::from_secs(3);
    eventually(bound, async || is_healthy() == [false, true]).await;
    // Asked each second, it is found again.
    let listener = tokio::net::TcpListener::bind(a.at).await.unwrap();
    let mut again = tokio::task::JoinSet::new();
    again.spawn(async move { axum::serve(listener, crate::kit::echo()).await.unwrap() });
    eventually(SOON, async || is_healthy() == [true, true]).await;
}
