//! What is wrong is refused, clearly and with no effect.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use storefront::demo;
use trunkline::{Env, Secret, Signer};

use crate::store::{TEA_SET, TestStore, address};

/// One wrong request: method, path, body, and the status and code that refuse it.
type Case = (Method, &'static str, &'static str, u16, &'static str);

fn cases() -> Vec<Case> {
    let (get, post, patch) = (Method::GET, Method::POST, Method::PATCH);
    let orders = "/api/v1/orders";
    let items = "/api/cart/items";
    vec![
        (post.clone(), items, "{", 400, "json_malformed"),
        (post.clone(), items, "", 400, "json_malformed"),
        (post.clone(), items, "[]", 422, "body_mismatch"),
        (
            post.clone(),
            items,
            r#"{"quantity":1}"#,
            422,
            "body_mismatch",
        ),
        (
            post.clone(),
            items,
            r#"{"product_id":7,"quantity":1}"#,
            422,
            "body_mismatch",
        ),
        (
            post.clone(),
            items,
            r#"{"product_id":"p","quantity":-1}"#,
            422,
            "quantity_out_of_range",
        ),
        (
            post.clone(),
            items,
            r#"{"product_id":"p","quantity":1.5}"#,
            422,
            "body_mismatch",
        ),
        (
            post.clone(),
            items,
            r#"{"product_id":"p","quantity":"1"}"#,
            422,
            "body_mismatch",
        ),
        (
            post.clone(),
            items,
            r#"{"product_id":"p","quantity":1e30}"#,
            422,
            "body_mismatch",
        ),
        (
            post.clone(),
            items,
            r#"{"product_id":"p","quantity":0}"#,
            422,
            "quantity_out_of_range",
        ),
        (
            post.clone(),
            items,
            r#"{"product_id":"p","quantity":1001}"#,
            422,
            "quantity_out_of_range",
        ),
        (
            post.clone(),
            items,
            r#"{"product_id":"p","quantity":1}"#,
            404,
            "product_unknown",
        ),
        (
            post.clone(),
            items,
            r#"{"product_id":"p","quantity":1,"free":true}"#,
            422,
            "body_mismatch",
        ),
        (
            post.clone(),
            orders,
            r#"{"items":[]}"#,
            422,
            "lines_out_of_range",
        ),
        (
            post.clone(),
            orders,
            r#"{"items":[{"product_id":"p","quantity":1}]}"#,
            404,
            "product_unknown",
        ),
        (
            get.clone(),
            "/api/products/nothing",
            "",
            404,
            "product_unknown",
        ),
        (
            get.clone(),
            "/api/products?limit=0",
            "",
            422,
            "limit_out_of_range",
        ),
        (
            get.clone(),
            "/api/products?limit=many",
            "",
            400,
            "query_invalid",
        ),
        (
            get.clone(),
            "/api/products?colour=red",
            "",
            400,
            "query_invalid",
        ),
        (
            get.clone(),
            "/api/products?cursor=elsewhere",
            "",
            422,
            "cursor_foreign",
        ),
        (
            get.clone(),
            "/api/products?q=a+b+c+d+e+f+g",
            "",
            422,
            "query_too_long",
        ),
        (
            get.clone(),
            "/api/inventory/nothing",
            "",
            404,
            "product_unknown",
        ),
        (
            get.clone(),
            "/api/v1/orders/nothing",
            "",
            404,
            "order_unknown",
        ),
        (get.clone(), "/api/analytics/daily", "", 403, "role_missing"),
        (
            patch.clone(),
            "/api/cart/items/x",
            r#"{"quantity":1}"#,
            404,
            "item_unknown",
        ),
        (get.clone(), "/api/nowhere", "", 404, "route_unknown"),
        (get.clone(), "/", "", 404, "route_unknown"),
        (
            post.clone(),
            "/internal/reservations",
            "{}",
            404,
            "route_unknown",
        ),
        (
            post,
            "/internal/payments/x/void",
            "{}",
            404,
            "route_unknown",
        ),
        (patch, "/internal/products/x", "{}", 404, "route_unknown"),
        (
            get.clone(),
            "/api/products/../../internal/products/x",
            "",
            404,
            "route_unknown",
        ),
        (
            get,
            "/api/cart/%2e%2e/%2e%2e/internal/checkouts",
            "",
            404,
            "route_unknown",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_clearly() {
    let shop = TestStore::start().await;
    let ann = shop.user("ann");
    let mut wrong = Vec::new();
    for (number, (method, path, body, status, code)) in cases().into_iter().enumerate() {
        let caller = ann.caller.with("idempotency-key", format!("case {number}"));
        let body_sent = (method != Method::GET).then(|| body.to_owned());
        let answer = caller.send(method.clone(), path, body_sent).await;
        let problem: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        if answer.status.as_u16() != status || problem["code"] != code {
            wrong.push(format!(
                "{method} {path} {body}: {status} {code}, not {answer:?}"
            ));
        }
        assert!(
            problem["correlation_id"].is_string(),
            "{method} {path}: {answer:?}"
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    shop.boss()
        .get("/api/analytics/daily?from=yesterday")
        .await
        .refused(422, "day_invalid");
    assert_eq!(
        ann.caller.get("/api/cart").await.expect(200)["items"],
        json!([])
    );
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_without_a_key_and_a_body_without_an_end_are_refused() {
    let shop = TestStore::start().await;
    let ann = shop.user("ann").caller;
    let order = json!({
        "items": [{ "product_id": TEA_SET, "quantity": 1 }],
        "shipping_address": address(),
    });
    ann.post("/api/v1/orders", order)
        .await
        .refused(422, "idempotency_key_invalid");

    let name = "x".repeat(2 * 1024 * 1024);
    let body = json!({ "product_id": name, "quantity": 1 }).to_string();
    let answer = ann.send(Method::POST, "/api/cart/items", Some(body)).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_token_of_this_store_opens_it() {
    let shop = TestStore::start().await;
    let other = TestStore::start().await;
    let good = shop.token("ann");
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.";
    let mut changed = good.clone().into_bytes();
    let middle = changed.len() / 2;
    changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
    let cases = [
        ("another store's", other.token("ann")),
        ("unsigned", unsigned.to_owned()),
        ("changed", String::from_utf8(changed).unwrap()),
        ("cut", good[..good.len() - 4].to_owned()),
        ("empty", String::new()),
        ("nonsense", "nonsense".to_owned()),
        ("expired", expired(&shop)),
    ];
    for (what, token) in cases {
        let answer = shop.gateway.bearing(&token).get("/api/cart").await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert!(
            answer.header("www-authenticate").is_some(),
            "{what}: {answer:?}"
        );
    }
    assert_eq!(shop.gateway.get("/api/cart").await.status, 401);
    let pretender = shop.gateway.with("x-user-id", shop.user("ann").id);
    assert_eq!(pretender.get("/api/cart").await.status, 401);
    shop.user("ann").caller.get("/api/cart").await.expect(200);
    other.stop().await;
    shop.stop().await;
}

/// A token of this store, signed with its key, that expired an hour ago.
fn expired(shop: &TestStore) -> String {
    let secret = shop.folder.path().join("data/token.secret");
    let env = Env::system();
    let mut claims = demo::claims("ann", &[], Duration::ZERO, &env);
    claims.exp -= 3_600;
    let secret = Secret::load_or_create(&secret, &env).unwrap();
    Signer::hs256(&secret).sign(&claims).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_list_is_refused() {
    let shop = TestStore::start().await;
    let other = TestStore::start().await;
    let page = shop
        .gateway
        .get("/api/products?q=tea&limit=1")
        .await
        .expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let ours = format!("/api/products?q=tea&limit=1&cursor={cursor}");
    shop.gateway.get(&ours).await.expect(200);
    other
        .gateway
        .get(&ours)
        .await
        .refused(422, "cursor_foreign");
    let elsewhere = format!("/api/products?q=kettle&cursor={cursor}");
    shop.gateway
        .get(&elsewhere)
        .await
        .refused(422, "cursor_foreign");
    other.stop().await;
    shop.stop().await;
}
