//! A collector of traces that speaks OTLP over HTTP, and what it shows of one order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::store::{CONFIG, TEA_SET, TestStore};
use trunkline_testkit::trace::{Hop, draw, way};

type Traces = Arc<Mutex<BTreeMap<Vec<u8>, Vec<Hop>>>>;

/// Takes spans as any collector does, and keeps them by trace.
async fn take(State(traces): State<Traces>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let content_type = headers["content-type"].to_str();
    assert_eq!(content_type.unwrap(), "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        let service = service(&resource);
        for span in resource.scope_spans.into_iter().flat_map(|of| of.spans) {
            assert_ne!(span.start_time_unix_nano, 0);
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
            let id = |bytes: &[u8]| bytes.iter().fold(0, |id, byte| id << 8 | u64::from(*byte));
            let hop = Hop {
                began: span.start_time_unix_nano.into(),
                id: id(&span.span_id),
                parent: id(&span.parent_span_id),
                service: service.clone(),
                name: span.name,
            };
            let mut traces = traces.lock().unwrap();
            traces.entry(span.trace_id).or_default().push(hop);
        }
    }
    StatusCode::OK
}

fn service(spans: &ResourceSpans) -> String {
    let attributes = &spans.resource.as_ref().unwrap().attributes;
    let name = attributes.iter().find(|of| of.key == "service.name");
    match name.unwrap().value.as_ref().unwrap().value.as_ref() {
        Some(Value::StringValue(name)) => name.clone(),
        other => panic!("a service's name is a text: {other:?}"),
    }
}

/// A collector that runs, and what it has got.
pub(crate) struct Collector {
    pub(crate) url: String,
    traces: Traces,
    _serves: JoinSet<std::io::Result<()>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let traces = Traces::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&traces));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut serves = JoinSet::new();
        serves.spawn(async move { axum::serve(listener, router).await });
        Self {
            url,
            traces,
            _serves: serves,
        }
    }

    /// The spans of a trace.
    pub(crate) fn hops(&self, trace: u128) -> Vec<Hop> {
        let traces = self.traces.lock().unwrap();
        let hops = traces.get(&trace.to_be_bytes()[..]);
        hops.cloned().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_sees_one_order_as_one_whole_trace() {
    let collector = Collector::start().await;
    let telemetry = format!("[telemetry]\notlp = \"{}\"\n", collector.url);
    let shop = TestStore::start_with(&format!("{CONFIG}{telemetry}")).await;
    let ann = shop.user("ann");
    let accepted = ann.order("k", TEA_SET, 2).await.expect(202);
    ann.ended(accepted["order_id"].as_str().unwrap()).await;
    let sent = shop.order_event("notification.sent", &accepted).await;
    // What waits to be exported is sent when the store stops.
    shop.stop().await;

    let traces = collector.traces.lock().unwrap();
    let orders: Vec<_> = traces
        .iter()
        .filter(|(_, hops)| hops.iter().any(|hop| hop.name == "POST /api/v1/orders"))
        .collect();
    let [(trace, hops)] = orders[..] else {
        panic!("one order is one trace: {orders:#?}")
    };
    let traceparent = sent["traceparent"].as_str().unwrap();
    let trace: String = trace.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(traceparent.split('-').nth(1), Some(&*trace));
    let drawing = draw(hops.clone());
    assert_eq!(
        way(&drawing, "send notification.sent"),
        [
            "gateway: POST order-service-routes",
            "gateway: POST order-service",
            "order-service: POST /api/v1/orders",
            "order-service: send order.created",
            "payment-service: handle order.created",
            "payment-service: send payment.success",
            "order-service: handle payment.success",
            "order-service: send order.confirmed",
            "notification-service: handle order.confirmed",
            "notification-service: send notification.send",
            "notification-service: handle notification.send",
            "notification-service: send notification.sent",
        ]
    );
}
