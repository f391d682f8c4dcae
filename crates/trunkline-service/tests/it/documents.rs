//! The OpenAPI document of a service.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use trunkline_gateway::{Config as Gateway, Route, Service as Behind};

use crate::sample::{Ask, Sample, Switches, platform};

/// Every `$ref` in a document.
fn refs<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "$ref" => drop(found.insert(text)),
                    value => refs(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| refs(value, found)),
        _ => {}
    }
}

/// What OpenAPI 3.1 asks of a document, as far as ours use it.
fn assert_is_openapi(document: &Value) {
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut found = BTreeSet::new();
    refs(document, &mut found);
    for place in found {
        let pointer = place
            .strip_prefix('#')
            .expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{place} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let known = ["get", "put", "post", "delete", "patch"];
            assert!(known.contains(&method.as_str()), "{method} {path}");
            assert!(
                ids.insert(operation["operationId"].to_string()),
                "twice: {operation}"
            );
            let answers = operation["responses"].as_object().unwrap();
            assert!(
                answers.keys().any(|status| status.starts_with('2')),
                "{method} {path}"
            );
            let described =
                |answer: &Value| answer["description"].is_string() || answer["$ref"].is_string();
            assert!(answers.values().all(described), "{method} {path}");
            let none = Vec::new();
            let parameters = operation["parameters"].as_array().unwrap_or(&none);
            let in_path: BTreeSet<_> = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let named = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            assert_eq!(in_path, named.collect(), "{method} {path}");
            for requirement in operation["security"].as_array().unwrap() {
                for scheme in requirement.as_object().unwrap().keys() {
                    assert!(document["components"]["securitySchemes"][scheme].is_object());
                }
            }
        }
    }
}

#[tokio::test]
async fn a_service_describes_itself() {
    let sample = Sample::start().await;
    let document = sample.orders().get("/openapi.json").await.body;
    assert_is_openapi(&document);
    assert_eq!(document["info"]["title"], "orders");
    let create = &document["paths"]["/api/v1/orders"]["post"];
    let key = create["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["in"] == "header");
    assert_eq!(key.unwrap()["name"], "Idempotency-Key");
    let body = "/requestBody/content/application~1json/schema/$ref";
    assert_eq!(
        create.pointer(body).unwrap(),
        "#/components/schemas/NewOrder"
    );
    assert!(
        create["responses"]["202"]["headers"]["Location"].is_object(),
        "{create}"
    );
    let limit = &document["paths"]["/api/v1/orders"]["get"]["parameters"][0];
    assert_eq!(
        (&limit["name"], &limit["in"]),
        (&"limit".into(), &"query".into())
    );

    assert_eq!(limit["schema"]["type"], "integer", "a query has no null");
    let any = "/responses/200/content/application~1json/schema";
    let left = &document["paths"]["/api/v1/left/{item}"]["get"];
    assert_eq!(left.pointer(any), Some(&serde_json::json!({})));

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/orders.json");
    let text = format!("{document:#}\n");
    if std::env::var_os("TRUNKLINE_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    let changed = text
        .lines()
        .zip(golden.lines())
        .position(|(now, then)| now != then);
    assert!(
        text == golden,
        "golden/orders.json is no longer the document, from line {changed:?} on; read why, then bless it"
    );
    sample.stop().await;
}

#[tokio::test]
async fn the_admin_api_describes_itself() {
    let sample = Sample::start().await;
    let document = sample.admin().get("/openapi.json").await.body;
    for path in [
        "/health",
        "/metrics",
        "/api/v1/events",
        "/api/v1/flows/{id}",
    ] {
        assert!(document["paths"][path]["get"].is_object(), "{path}");
    }
    let mut found = BTreeSet::new();
    refs(&document, &mut found);
    assert!(!found.is_empty());
    for place in found {
        assert!(
            document.pointer(place.strip_prefix('#').unwrap()).is_some(),
            "{place}"
        );
    }
    sample.stop().await;
}

#[tokio::test]
async fn the_gateway_holds_requests_to_what_a_service_declares() {
    let switches = Arc::new(Switches::default());
    let folder = tempfile::tempdir().unwrap();
    let route = Route::new("orders", "/orders").plugin("request-validator", json!({}));
    let gateway = Gateway::default().service(Behind::new("orders").route(route));
    let platform = platform(&switches).gateway(gateway, None);
    let sample = Sample::start_this(platform, switches, folder).await;
    let ask = || Ask::at(sample.running.gateway_address().unwrap());
    let path = "/orders/api/v1/orders";
    let wrong = ask()
        .key("k")
        .post(path, json!({ "item": "tea", "quantity": "two" }))
        .await;
    assert_eq!((wrong.status, wrong.code()), (400, "request_invalid"));
    assert!(wrong.detail().starts_with("body /"), "{wrong:?}");
    let without = ask()
        .post(path, json!({ "item": "tea", "quantity": 1 }))
        .await;
    assert_eq!((without.status, without.code()), (400, "request_invalid"));
    assert!(
        without
            .detail()
            .starts_with("header Idempotency-Key: expected one"),
        "{without:?}"
    );
    let right = ask()
        .key("k2")
        .post(path, json!({ "item": "tea", "quantity": 1 }))
        .await;
    assert_eq!(right.status, 202, "{right:?}");
    let unknown = ask().get("/orders/api/v1/secrets").await;
    assert_eq!((unknown.status, unknown.code()), (404, "operation_unknown"));
    sample.stop().await;
}
