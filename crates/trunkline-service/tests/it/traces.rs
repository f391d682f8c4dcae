//! One trace through everything, and metrics that do not grow.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use trunkline_core::TraceContext;
use trunkline_gateway::{Config as Gateway, Route, Service as Behind};
use trunkline_telemetry::{Ring, SpanKind};
use trunkline_testkit::eventually;

use crate::sample::{Ask, SOON, Sample, Switches, platform};

fn gateway() -> Gateway {
    let mut route = Route::new("orders", "/api/v1");
    route.strip_path = false;
    let mut orders = Behind::new("orders");
    orders.routes.push(route);
    Gateway::default().service(orders)
}

#[tokio::test]
async fn ids_make_no_new_series() {
    let sample = Sample::start().await;
    let mut orders = Vec::new();
    for _ in 0..50 {
        let order = sample.place("tea").await;
        sample.orders().get(&format!("/{order}/nowhere")).await;
        orders.push(order);
    }
    for order in &orders {
        eventually(SOON, async || sample.status(order).await == "taken").await;
    }
    let metrics = sample.admin().get("/metrics").await.text;
    assert!(metrics.contains("trunkline_requests_total"), "{metrics}");
    assert!(
        metrics.contains("operation=\"GET /api/v1/orders/{id}\""),
        "{metrics}"
    );
    assert!(metrics.contains("operation=\"unmatched\""), "{metrics}");
    let named: Vec<_> = orders
        .iter()
        .filter(|order| metrics.contains(order.as_str()))
        .collect();
    assert_eq!(named.len(), 0, "an id is a label");
    sample.stop().await;
}
