//! `request-validator` by OpenAPI documents.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use trunkline_gateway::{Limits, Means};

use super::{gateway, read, serve};
use crate::kit::{Kit, echo, start_of};

fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "paths": {
            "/orders": {
                "get": { "parameters": [{ "$ref": "#/components/parameters/Limit" }] },
                "post": { "requestBody": { "required": true, "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/Order" } } } } }
            },
            "/orders/{id}": {
                "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "$ref": "#/components/schemas/Id" } }],
                "get": {}, "delete": {}
            },
            "/orders/mine": { "get": {} }
        },
        "components": {
            "parameters": { "Limit": { "name": "limit", "in": "query", "schema": { "type": ["integer", "null"], "minimum": 1 } } },
            "schemas": {
                "Id": { "type": "integer" },
                "Order": { "type": "object", "required": ["id", "lines"], "properties": {
                    "id": { "type": "string", "readOnly": true },
                    "lines": { "type": "array", "minItems": 1, "items": { "$ref": "#/components/schemas/Line" } } } },
                "Line": { "type": "object", "required": ["sku"], "properties": { "sku": { "type": "string", "pattern": "^[A-Z]+$" } } }
            }
        }
    })
}

const JSON: &str = "content-type: application/json; charset=utf-8\r\n";

async fn holds_to_it(kit: &Kit, under: &str) {
    let send = async |line: &str, body: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        let headers = if body.is_empty() { "" } else { JSON };
        kit.send(&format!("{method} {under}{path}"), headers, body)
            .await
    };
    let good = "{\"lines\": [{\"sku\": \"A\"}]}";
    for (line, body) in [
        ("GET /orders?limit=5", ""),
        ("HEAD /orders", ""),
        ("POST /orders", good),
        ("GET /orders/17", ""),
        ("GET /orders/mine", ""),
    ] {
        assert_eq!(send(line, body).await.status, 200, "{line}");
    }
    for (line, body, said) in [
        (
            "GET /orders?limit=0",
            "",
            "query limit /: value is less than the minimum of 1",
        ),
        (
            "GET /orders/x",
            "",
            "path id /: value is not of type \"integer\"",
        ),
        ("POST /orders", "", "body: expected one"),
        (
            "POST /orders",
            "{\"lines\": [{\"sku\": \"A\"}, {\"sku\": \"b\"}]}",
            "body /lines/1/sku: value does not match",
        ),
        (
            "POST /orders",
            "{\"lines\": [{}]}",
            "body /lines/0: \"sku\" is a required property",
        ),
    ] {
        let answer = send(line, body).await;
        answer.is_problem(400, "request_invalid");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with(said), "{line}: {detail}");
    }
    send("GET /carts", "")
        .await
        .is_problem(404, "operation_unknown");
    let answer = send("PATCH /orders/17", "").await;
    answer.is_problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, DELETE"));
}

const DECLARED: &str = "services: [{name: echo, routes: [{name: api, paths: [/api]}], plugins: [{name: request-validator}]}]";

#[tokio::test]
async fn a_service_is_held_to_what_it_declares() {
    let means = |verifier| {
        Means::from(Some(verifier)).documents(|service| (service == "echo").then(document))
    };
    let kit = start_of(read(DECLARED), echo(), Limits::default(), means).await;
    holds_to_it(&kit, "/api").await;
    let for_all = "
services: [{name: echo, routes: [{name: api, paths: [/api]}]}]
plugins: [{name: request-validator}]";
    kit.gateway.reload(&read(for_all)).unwrap();
    holds_to_it(&kit, "/api").await;
    let other = kit
        .gateway
        .reload(&read(&DECLARED.replace("echo", "other")))
        .unwrap_err();
    assert!(
        other
            .to_string()
            .contains("services[0].plugins[0].config: expected `body_schema`"),
        "{other}"
    );
}

#[tokio::test]
async fn a_document_of_a_file_or_of_an_older_version_does_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("openapi.yml");
    let mut old = document();
    old["openapi"] = json!("3.0.3");
    old["servers"] = json!([{ "url": "https://shop.example.com/v1/" }]);
    old["components"]["parameters"]["Limit"]["schema"] =
        json!({ "type": "integer", "nullable": true, "minimum": 0, "exclusiveMinimum": true });
    std::fs::write(&path, old.to_string()).unwrap();
    let kit = gateway(&format!(
        "services: [{{name: echo, routes: [{{name: api, paths: [/api], plugins: [{{name: request-validator, config: {{openapi: '{}'}}}}]}}]}}]",
        path.display()
    ))
    .await;
    assert_eq!(kit.get("/api/v1/orders?limit=1").await.status, 200);
    kit.get("/api/v1/orders?limit=0")
        .await
        .is_problem(400, "request_invalid");
    kit.get("/api/v1/orders/x")
        .await
        .is_problem(400, "request_invalid");
}

#[tokio::test]
async fn a_document_that_is_published_is_fetched_when_it_is_needed() {
    async fn publish(State(is_up): State<Arc<AtomicBool>>) -> (StatusCode, String) {
        match is_up.load(Ordering::Relaxed) {
            true => (StatusCode::OK, document().to_string()),
            false => (StatusCode::NOT_FOUND, String::new()),
        }
    }
    let is_up = Arc::new(AtomicBool::new(true));
    let router = Router::new()
        .route("/openapi.json", get(publish))
        .with_state(is_up.clone());
    let (url, _server) = serve(router).await;
    let file = |url: &str| {
        format!(
            "services: [{{name: echo, routes: [{{name: api, paths: [/api], plugins: [{{name: request-validator, config: {{openapi: '{url}/openapi.json'}}}}]}}]}}]"
        )
    };
    let kit = gateway(&file(&url)).await;
    holds_to_it(&kit, "/api").await;
    is_up.store(false, Ordering::Relaxed);
    assert_eq!(
        kit.get("/api/orders").await.status,
        200,
        "the last one holds"
    );
    let other = gateway(&file(&url)).await;
    other
        .get("/api/orders")
        .await
        .is_problem(503, "openapi_unavailable");
}
