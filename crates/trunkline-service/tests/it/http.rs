//! Requests: what goes in, what comes out, and what is wrong with it.

use std::sync::Arc;

use axum::Json;
use http::Method;
use serde_json::json;
use trunkline_call::Responses;
use trunkline_core::{Env, Result};
use trunkline_service::{Cx, Platform, Service};

use crate::sample::{Answer, Order, Sample, Switches};

fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert!(!answer.detail().is_empty(), "{answer:?}");
}

#[tokio::test]
async fn an_order_is_accepted_and_found() {
    let sample = Sample::start().await;
    let body = json!({ "item": "tea", "quantity": 2 });
    let answer = sample.orders().key("k").post("/api/v1/orders", body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.body["status"], "pending");
    let place = answer.header("location").unwrap().to_owned();
    let found = sample.orders().get(&place).await;
    assert_eq!(found.status, 200);
    assert_eq!(found.body["order_id"], answer.body["order_id"]);
    let count = sample.orders().get("/api/v1/orders?limit=10").await;
    assert_eq!((count.status, count.body), (200, json!(1)));
    let left = sample.orders().get("/api/v1/left/tea").await;
    assert_eq!(left.status, 200, "a declared call works: {left:?}");
    sample.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_with_its_place() {
    let sample = Sample::start().await;
    // A refusal is an answer that its key keeps, so each request has its own.
    let keyed = || sample.orders().key(&Env::system().id().to_string());
    let send = |kind: &'static str, body: &'static str| {
        let ask = keyed().with("content-type", kind);
        ask.send(Method::POST, "/api/v1/orders", body.into())
    };
    let json = "application/json";
    assert_problem(&send(json, "{\"item\": ").await, 400, "json_malformed");
    assert_problem(&send(json, "").await, 400, "json_malformed");
    let answer = send(json, r#"{"item": "tea", "quantity": -1}"#).await;
    assert_problem(&answer, 422, "body_mismatch");
    assert!(answer.detail().contains("quantity"), "{answer:?}");
    let answer = send(json, r#"{"item": "tea", "quantity": 1, "colour": "red"}"#).await;
    assert_problem(&answer, 422, "body_mismatch");
    assert!(answer.detail().contains("colour"), "{answer:?}");
    assert_problem(
        &send("text/plain", "{}").await,
        415,
        "content_type_unsupported",
    );
    let answer = send(json, r#"{"item": "tea", "quantity": 0}"#).await;
    assert_problem(&answer, 422, "quantity_out_of_range");

    let answer = sample.orders().get("/api/v1/orders?limit=many").await;
    assert_problem(&answer, 400, "query_invalid");
    assert!(answer.detail().contains("limit"), "{answer:?}");
    let answer = sample.orders().get("/api/v1/orders?size=1").await;
    assert!(
        answer.detail().contains("size") && answer.detail().contains("limit"),
        "{answer:?}"
    );
    assert_problem(
        &sample.orders().get("/api/v1/nothing").await,
        404,
        "route_unknown",
    );
    let answer = sample
        .orders()
        .send(Method::DELETE, "/api/v1/orders", Vec::new())
        .await;
    assert_problem(&answer, 405, "method_not_allowed");
    assert_problem(
        &sample.orders().get("/api/v1/orders/none").await,
        404,
        "order_unknown",
    );
    assert_problem(
        &sample.orders().get("/api/v1/me").await,
        401,
        "user_missing",
    );

    let huge = format!(r#"{{"item": "{}", "quantity": 1}}"#, "x".repeat(2 << 20));
    let ask = keyed().with("content-type", json);
    let answer = ask
        .send(Method::POST, "/api/v1/orders", huge.into_bytes())
        .await;
    assert_problem(&answer, 413, "body_too_large");
    sample.stop().await;
}

#[tokio::test]
async fn a_panic_is_a_problem_that_tells_nothing() {
    let sample = Sample::start().await;
    let answer = sample.orders().post("/api/v1/panics", json!(null)).await;
    assert_problem(&answer, 500, "internal");
    assert!(!answer.text.contains("secret"), "{answer:?}");
    assert!(answer.body["correlation_id"].is_string(), "{answer:?}");
    assert_eq!(
        sample.orders().get("/api/v1/orders").await.status,
        200,
        "the service goes on"
    );
    sample.stop().await;
}

#[tokio::test]
async fn the_user_of_a_request_is_at_hand() {
    let sample = Sample::start().await;
    let answer = sample
        .orders()
        .with("x-user-id", "ann")
        .get("/api/v1/me")
        .await;
    assert_eq!((answer.status, answer.body), (200, json!("ann")));
    sample.stop().await;
}

async fn tea(_: Cx) -> Result<Json<Order>> {
    Ok(Json(Order {
        order_id: "1".to_owned(),
        status: "brewed".to_owned(),
    }))
}

async fn ask_for_tea(cx: Cx) -> Result<Json<Order>> {
    cx.service("kitchen")?.get("/tea").send().await.map(Json)
}

#[tokio::test]
async fn answers_are_wrapped_as_the_service_declares() {
    let kitchen = Service::new("kitchen")
        .responses(Responses::Data)
        .get("/tea", tea);
    let table = Service::new("table")
        .calls("kitchen")
        .get("/tea", ask_for_tea);
    let platform = Platform::new("wrapped").service(kitchen).service(table);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start_this(platform, Arc::new(Switches::default()), folder).await;
    let order = json!({ "order_id": "1", "status": "brewed" });
    let wrapped = sample.ask("kitchen").get("/tea").await;
    assert_eq!(wrapped.body, json!({ "data": order }));
    assert_eq!(
        sample.ask("table").get("/tea").await.body,
        order,
        "a caller sees what is within"
    );
    let document = sample.ask("kitchen").get("/openapi.json").await.body;
    let schema = "/paths/~1tea/get/responses/200/content/application~1json/schema/required/0";
    assert_eq!(
        document.pointer(schema),
        Some(&json!("data")),
        "{document:#}"
    );
    sample.stop().await;
}
