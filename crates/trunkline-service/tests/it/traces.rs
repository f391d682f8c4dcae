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
async fn one_order_is_one_trace_from_the_gateway_to_the_last_handler() {
    let ring = Arc::new(Ring::new(10_000));
    let switches = Arc::new(Switches::default());
    let platform = platform(&switches)
        .gateway(gateway(), None)
        .span_sink(ring.clone());
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start_this(platform, switches, folder).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace: TraceContext = parent.parse().unwrap();
    let ask = || Ask::at(sample.running.gateway_address().unwrap());
    let body = json!({ "item": "tea", "quantity": 1 });
    let ask_order = ask()
        .with("traceparent", parent)
        .with("x-correlation-id", "flow-1")
        .key("k");
    let answer = ask_order.post("/api/v1/orders", body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let order = answer.body["order_id"].as_str().unwrap().to_owned();
    eventually(SOON, async || sample.status(&order).await == "taken").await;
    let all = |kind| {
        let spans = ring.spans(trace.trace_id);
        spans
            .into_iter()
            .filter(|span| span.kind == kind)
            .collect::<Vec<_>>()
    };
    // The order's own events: one publish each, and each handled by whoever handles it.
    eventually(SOON, async || all(SpanKind::Consumer).len() >= 2).await;
    let servers: BTreeSet<_> = all(SpanKind::Server)
        .iter()
        .map(|span| span.service.to_string())
        .collect();
    assert!(
        servers.contains("orders") && servers.contains("gateway"),
        "{servers:?}"
    );
    assert!(
        all(SpanKind::Producer).len() >= 2,
        "{:?}",
        ring.spans(trace.trace_id)
    );
    let consumers: BTreeSet<_> = all(SpanKind::Consumer)
        .iter()
        .map(|span| span.service.to_string())
        .collect();
    assert!(
        consumers.contains("stock") && consumers.contains("orders"),
        "{consumers:?}"
    );
    // Each span is part of another of the trace, or of the client's.
    let spans = ring.spans(trace.trace_id);
    let known: BTreeSet<_> = spans.iter().map(|span| span.context.span_id).collect();
    for span in &spans {
        let parent = span.parent.expect("nothing here begins a trace").span_id;
        assert!(
            parent == trace.span_id || known.contains(&parent),
            "an orphan: {span:?}"
        );
    }
    // A batch belongs to many traces: it is one of its own, and names those that it follows from.
    let batches = || {
        let all = ring.all().into_iter();
        all.filter(|span| span.name == "handle batch")
            .collect::<Vec<_>>()
    };
    eventually(SOON, async || !batches().is_empty()).await;
    for batch in batches() {
        assert_eq!(batch.parent, None);
        assert!(!batch.links.is_empty(), "{batch:?}");
        let unknown = |link: &&TraceContext| !known.contains(&link.span_id);
        assert_eq!(batch.links.iter().find(unknown), None, "{batch:?}");
    }
    let events = sample
        .admin()
        .get("/api/v1/events?correlation_id=flow-1")
        .await
        .body;
    let events = events["events"].as_array().unwrap();
    assert_eq!(events.len(), 2);
    for event in events {
        let traceparent = event["traceparent"].as_str().unwrap();
        assert!(
            traceparent.contains("0af7651916cd43dd8448eb211c80319c"),
            "{event}"
        );
    }
    sample.stop().await;
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
