use serde_json::json;
use trunkline_gateway::Route;

use crate::kit::{config, start};

const PREFLIGHT: &str = "origin: https://shop.example.com\r\naccess-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n";

#[tokio::test]
async fn a_preflight_is_answered_before_anybody_asks_for_a_token() {
    let settings = json!({
        "origins": ["https://shop.example.com"], "credentials": true, "max_age": 600,
        "exposed_headers": ["x-request-id"]
    });
    let route = Route::new("api", "/api").method("POST");
    let route = route.plugin("jwt", json!({})).plugin("cors", settings);
    let kit = start(config([route])).await;
    let yes = kit.send("OPTIONS /api", PREFLIGHT, "").await;
    assert_eq!(yes.status, 204);
    assert_eq!(
        yes.header("access-control-allow-origin"),
        Some("https://shop.example.com")
    );
    assert_eq!(yes.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(
        yes.header("access-control-allow-headers"),
        Some("authorization")
    );
    assert_eq!(yes.header("access-control-max-age"), Some("600"));
    assert!(
        yes.header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );

    let foreign = PREFLIGHT.replace("shop.example.com", "evil.example.com");
    let no = kit.send("OPTIONS /api", &foreign, "").await;
    assert_eq!(no.header("access-control-allow-origin"), None);
    assert_eq!(no.header("access-control-allow-methods"), None);
    assert_eq!(no.header("vary"), Some("access-control-request-headers"));

    // A page can read why it was refused.
    let refused = kit
        .send("POST /api", "origin: https://shop.example.com\r\n", "")
        .await;
    refused.is_problem(401, "token_missing");
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("https://shop.example.com")
    );
    assert_eq!(
        refused.header("access-control-expose-headers"),
        Some("x-request-id")
    );
    assert_eq!(refused.header("vary"), Some("origin"));
    kit.send("OPTIONS /api", "", "")
        .await
        .is_problem(405, "method_not_allowed");
}

#[tokio::test]
async fn any_origin_is_any_origin_without_credentials() {
    let kit = start(config([
        Route::new("api", "/api").plugin("cors", json!(null))
    ]))
    .await;
    let simple = kit.send("GET /api", "origin: null\r\n", "").await;
    assert_eq!(simple.header("access-control-allow-origin"), Some("*"));
    assert_eq!(simple.header("access-control-allow-credentials"), None);
    assert_eq!(simple.header("vary"), None);
    assert_eq!(
        kit.get("/api").await.header("access-control-allow-origin"),
        Some("*"),
        "a cache may give it to a page"
    );
}

#[tokio::test]
async fn origins_may_be_expressions_and_pages_may_reach_into_a_network() {
    let settings = json!({
        "origins": [r"https://([a-z]+\.)?shop\.example", r".*\.dev\.example", "https://a.example:8443"],
        "credentials": true, "private_network": true, "allow_origin_absent": false
    });
    let kit = start(config([Route::new("api", "/api").plugin("cors", settings)])).await;
    for (origin, is_allowed) in [
        ("https://shop.example", true),
        ("https://eu.shop.example", true),
        ("https://EU.shop.example", true),
        ("http://eu.shop.example", false),
        ("https://eu.shop.example.evil", false),
        ("https://evil.example/https://shop.example", false),
        ("http://x.dev.example:3000", true),
        ("http://dev.example", false),
        ("https://a.example:8443", true),
        ("https://a.example", false),
        ("null", false),
    ] {
        let headers = format!("origin: {origin}\r\n");
        let answer = kit.send("GET /api", &headers, "").await;
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, is_allowed.then_some(origin), "{origin}");
    }
    let told = kit.get("/api").await;
    assert_eq!(told.header("access-control-allow-origin"), None);
    let asks = "origin: https://shop.example\r\naccess-control-request-method: GET\r\naccess-control-request-private-network: true\r\n";
    let preflight = kit.send("OPTIONS /api", asks, "").await;
    let private = preflight.header("access-control-allow-private-network");
    assert_eq!(private, Some("true"));
}
