use serde_json::json;
use trunkline_gateway::Route;

use crate::kit::{config, start};

#[tokio::test]
async fn the_path_is_stripped_or_kept_and_the_query_stays() {
    let kit = start(config([
        Route::new("kept", "/api/v1/orders").keep_path(),
        Route::new("stripped", "/shop"),
    ]))
    .await;
    let kept = kit.get("/api/v1/orders/7?a=%2F..&b").await;
    assert_eq!(kept.status, 200);
    assert_eq!(kept.json()["uri"], "/api/v1/orders/7?a=%2F..&b");
    assert_eq!(kept.got("x-forwarded-prefix"), Vec::<String>::new());
    for (path, uri) in [
        ("/shop/cart", "/cart"),
        ("/shop", "/"),
        ("/shop?x=1", "/?x=1"),
        ("/shopping", "/ping"),
        ("//shop/./cart/../x", "/x"),
    ] {
        let stripped = kit.get(path).await;
        assert_eq!(stripped.json()["uri"], uri, "{path}");
        assert_eq!(stripped.got("x-forwarded-prefix"), ["/shop"]);
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_slips_past_a_plugin() {
    let kit = start(config([
        Route::new("open", "/open").keep_path(),
        Route::new("api", "/api")
            .keep_path()
            .plugin("jwt", json!({})),
    ]))
    .await;
    assert_eq!(kit.get("/open/x").await.status, 200);
    for path in [
        "/api/x",
        "/open/../api/x",
        "/open/%2e%2e/api/x",
        "/open/.%2E/api/x",
        "//api/x",
        "/%61pi/x",
        "/./api/x",
        "/open/../open/.././api",
    ] {
        kit.get(path).await.is_problem(401, "token_missing");
    }
    for path in [
        "/open/..%2fapi/x",
        "/open/..;/api/x",
        "/open/..%5capi",
        "/open/../../api",
        "/open/%00",
        "/open/%zz",
    ] {
        kit.get(path).await.is_problem(400, "path_invalid");
    }
    kit.get("/open/%252e%252e/api").await;
    let absolute = kit.send("GET http://shop/open/../api/x", "", "").await;
    absolute.is_problem(401, "token_missing");
}

#[tokio::test]
async fn what_leads_nowhere_is_a_problem() {
    let kit = start(config([
        Route::new("read", "/api").method("GET"),
        Route::new("write", "/api").method("POST").method("PUT"),
    ]))
    .await;
    kit.get("/elsewhere").await.is_problem(404, "route_unknown");
    let wrong = kit.send("DELETE /api/x", "", "").await;
    wrong.is_problem(405, "method_not_allowed");
    let mut allowed: Vec<_> = wrong.header("allow").unwrap().split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "POST", "PUT"]);
}

#[tokio::test]
async fn a_service_that_can_not_be_reached_is_unavailable_and_nothing_is_told() {
    let config = trunkline_gateway::Config::default()
        .service(trunkline_gateway::Service::new("gone").route(Route::new("gone", "/gone")));
    let kit = start(config).await;
    let answer = kit.get("/gone").await;
    answer.is_problem(503, "service_unreachable");
    assert!(!answer.body.contains("caller"), "{answer:?}");
}

#[tokio::test]
async fn the_gateway_tells_whether_it_is_ready_where_no_route_does() {
    let kit = start(config([Route::new("api", "/api")])).await;
    assert_eq!(
        kit.get("/health/live").await.json(),
        json!({ "status": "alive" })
    );
    assert_eq!(
        kit.get("/health/ready").await.json(),
        json!({ "status": "ready" })
    );
    let taken = start(config([Route::new("all", "/").keep_path()])).await;
    assert_eq!(
        taken.get("/health/live").await.json()["uri"],
        "/health/live"
    );
}

#[tokio::test]
async fn one_trace_goes_through_and_ids_come_back() {
    let kit = start(config([Route::new("api", "/api")])).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let headers = format!(
        "traceparent: 00-{trace}-b7ad6b7169203331-00\r\nx-correlation-id: flow-1\r\nx-request-id: mine\r\n"
    );
    let answer = kit.send("GET /api/x", &headers, "").await;
    assert_eq!(answer.header("x-correlation-id"), Some("flow-1"));
    assert_ne!(answer.header("x-request-id"), Some("mine"));
    assert_eq!(answer.got("x-correlation-id"), ["flow-1"]);
    assert_eq!(
        answer.got("x-request-id"),
        [answer.header("x-request-id").unwrap()]
    );
    assert!(answer.got("traceparent")[0].contains(trace));
    assert_eq!(answer.header("x-trunkline-inner"), None);
    assert_eq!(answer.header("x-gone"), None);

    let spans = kit.ring.spans(u128::from_str_radix(trace, 16).unwrap());
    let server = spans.iter().find(|span| span.name == "GET api").unwrap();
    let client = spans.iter().find(|span| span.name == "GET echo").unwrap();
    assert_eq!(client.parent.unwrap().span_id, server.context.span_id);
    assert_eq!(server.parent.unwrap().span_id, 0xb7ad_6b71_6920_3331);

    let long = format!("x-correlation-id: {}\r\n", "x".repeat(129));
    for bad in [
        &*long,
        "x-correlation-id: a b\r\n",
        "x-correlation-id: \r\n",
    ] {
        let answer = kit.send("GET /api/x", bad, "").await;
        assert_eq!(
            answer.header("x-correlation-id"),
            answer.header("x-request-id")
        );
    }
}
