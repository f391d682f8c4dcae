//! What is declared is enforced.

use std::sync::Arc;

use axum::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_core::{Event, Result};
use trunkline_service::{Cx, Platform, Service};

use crate::sample::{OrderPlaced, Sample, StockTaken, Switches, flow, orders, stock};

#[tokio::test]
async fn an_undeclared_publish_or_call_is_refused_by_name() {
    let sample = Sample::start().await;
    let answer = sample
        .orders()
        .post("/api/v1/publishes-undeclared", json!(null))
        .await;
    assert_eq!(
        (answer.status, answer.code()),
        (403, "publish_undeclared"),
        "{answer:?}"
    );
    assert!(answer.detail().contains("orders") && answer.detail().contains("rogue.event"));
    let answer = sample
        .orders()
        .post("/api/v1/calls-undeclared", json!(null))
        .await;
    assert_eq!(
        (answer.status, answer.code()),
        (403, "call_undeclared"),
        "{answer:?}"
    );
    assert!(answer.detail().contains("orders") && answer.detail().contains("billing"));
    sample.stop().await;
}

/// The same type and version as the sample's, with another field.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "stock.taken", version = "1.0", topic = "stock", key = order_id)]
struct OtherStockTaken {
    order_id: String,
    warehouse: String,
}

/// A command: one group handles it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "order.ship", version = "1.0", topic = "orders", key = order_id, kind = command)]
struct Ship {
    order_id: String,
}

async fn nothing(_: Cx) -> Result<Json<()>> {
    Ok(Json(()))
}

async fn ship(_: Cx, _: Event<Ship>) -> Result<()> {
    Ok(())
}

async fn ship_too(_: Cx, _: Event<Ship>) -> Result<()> {
    Ok(())
}

async fn on_taken(_: Cx, _: Event<StockTaken>) -> Result<()> {
    Ok(())
}

fn service(name: &'static str) -> Service {
    Service::new(name)
}

/// The message of a platform of these services, which must not start.
fn refused(services: impl IntoIterator<Item = Service>) -> String {
    let error = Platform::new("wrong")
        .services(services)
        .check()
        .unwrap_err();
    assert_eq!(error.code(), "topology_invalid", "{error}");
    error.to_string()
}

fn assert_names(message: &str, names: &[&str]) {
    assert!(
        names.iter().all(|name| message.contains(name)),
        "{message} lacks one of {names:?}"
    );
}

#[test]
fn what_does_not_fit_together_does_not_start() {
    let twice = refused([service("a"), service("a")]);
    assert_names(&twice, &["same name", "a"]);
    assert_names(&refused([service("A b")]), &["A b", "lower-case"]);
    assert_names(&refused([service("a").calls("b")]), &["a", "b"]);
    let unheard = refused([service("a").on(on_taken)]);
    assert_names(&unheard, &["stock.taken", "no service publishes"]);
    let publisher = || service("a").publishes::<Ship>();
    let command = refused([
        publisher(),
        service("b").on(ship),
        service("c").on(ship_too),
    ]);
    assert_names(&command, &["order.ship", "b", "c"]);
    let schemas = refused([
        service("a").publishes::<StockTaken>(),
        service("b").publishes::<OtherStockTaken>(),
    ]);
    assert_names(&schemas, &["stock.taken", "schema"]);
    let routes = refused([service("a").get("/x", nothing).get("/x", nothing)]);
    assert_names(&routes, &["GET /x"]);
    let clash = refused([service("a")
        .get("/x/{id}", nothing)
        .get("/x/{name}", nothing)]);
    assert_names(&clash, &["/x/{name}", "/x/{id}"]);
    assert_names(
        &refused([service("a").get("x", nothing)]),
        &["starts with /"],
    );
    let twice = refused([publisher(), service("b").on(ship).on(ship_too)]);
    assert_names(&twice, &["b", "order.ship"]);
}

#[test]
fn a_job_with_a_wrong_schedule_does_not_start() {
    async fn job(_: Cx) -> Result<()> {
        Ok(())
    }
    let cron = trunkline_service::Schedule::Cron("every day");
    assert_names(
        &refused([service("a").job("tidy", cron, job)]),
        &["a", "tidy", "every day"],
    );
}

#[test]
fn a_flow_of_unknown_events_does_not_start() {
    let error = Platform::new("wrong")
        .service(service("a"))
        .flow(flow())
        .check()
        .unwrap_err();
    assert_names(&error.to_string(), &["order", "no service publishes"]);
}

#[test]
fn a_changed_event_without_a_new_version_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let switches = Arc::new(Switches::default());
    let platform = || {
        Platform::new("right")
            .service(orders(&switches))
            .service(stock(&switches))
    };
    platform().write_schemas(folder.path()).unwrap();
    platform().schemas(folder.path()).check().unwrap();
    let changed = Platform::new("changed")
        .service(service("stock").publishes::<OtherStockTaken>())
        .schemas(folder.path());
    let error = changed.check().unwrap_err();
    assert_eq!(error.code(), "schemas_differ");
    assert_names(
        &error.to_string(),
        &["stock.taken 1.0", "warehouse", "new version"],
    );
}

#[tokio::test]
async fn the_topology_is_shown_as_it_is_declared() {
    let sample = Sample::start().await;
    let topology = sample.admin().get("/api/v1/topology").await.body;
    assert_eq!(topology["platform"], "sample");
    let services = topology["services"].as_array().unwrap();
    let orders = services
        .iter()
        .find(|service| service["name"] == "orders")
        .unwrap();
    assert_eq!(orders["calls"], json!(["stock"]));
    let types = |list: &serde_json::Value| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        types(&orders["publishes"]),
        ["order.placed", "order.reminded"]
    );
    assert_eq!(types(&orders["handles"]), ["stock.taken", "order.reminded"]);
    let stock = services
        .iter()
        .find(|service| service["name"] == "stock")
        .unwrap();
    assert_eq!(
        types(&stock["handles"]),
        [<OrderPlaced as trunkline_core::EventData>::TYPE; 2]
    );
    sample.stop().await;
}
