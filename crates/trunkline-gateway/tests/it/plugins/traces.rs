use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use trunkline_call::{Network, Responses};
use trunkline_core::Env;
use trunkline_gateway::Gateway;
use trunkline_telemetry::Telemetry;
use trunkline_testkit::eventually;
use trunkline_testkit::http::Caller;

use super::{gateway, read, serve};
use crate::kit::{SOON, echo};

type Came = Arc<Mutex<Vec<(HeaderMap, ExportTraceServiceRequest)>>>;

async fn take(State(came): State<Came>, headers: HeaderMap, body: Bytes) {
    came.lock()
        .push((headers, ExportTraceServiceRequest::decode(body).unwrap()));
}

#[tokio::test]
async fn the_span_of_a_request_goes_to_the_plugins_collector_too() {
    let came = Came::default();
    let router = Router::new()
        .route("/v1/traces", post(take))
        .with_state(came.clone());
    let (url, _server) = serve(router).await;
    let kit = gateway(&format!(
        "
services: [{{name: echo, routes: [{{name: api, paths: [/api]}}, {{name: rare, paths: [/rare], plugins: [
  {{name: opentelemetry, config: {{endpoint: '{url}/v1/traces', sampling_rate: 0}}}}]}}]}}]
plugins: [{{name: opentelemetry, config: {{traces_endpoint: '{url}/v1/traces', headers: {{x-key: k}},
  resource_attributes: {{service.name: front, zone: north}}, queue: {{max_coalescing_delay: 0.01}},
  http_response_header_for_traceid: x-trace-id, header_type: w3c}}}}]"
    ))
    .await;
    kit.get("/rare").await;
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let answer = kit.send("GET /api", parent, "").await;
    assert_eq!(
        answer.header("x-trace-id"),
        Some("0af7651916cd43dd8448eb211c80319c")
    );
    eventually(SOON, async || !came.lock().is_empty()).await;
    let (headers, request) = came.lock()[0].clone();
    assert_eq!(headers["x-key"], "k");
    let [resource] = &request.resource_spans[..] else {
        panic!("{request:?}");
    };
    let facts = format!("{:?}", resource.resource);
    assert!(
        facts.contains("front") && facts.contains("zone") && facts.contains("north"),
        "{facts}"
    );
    let [span] = &resource.scope_spans[0].spans[..] else {
        panic!("{request:?}");
    };
    assert_eq!(span.name, "GET api");
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(hex(&span.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&span.parent_span_id), "b7ad6b7169203331");
    let trace_id = u128::from_str_radix("0af7651916cd43dd8448eb211c80319c", 16).unwrap();
    let recorded = kit.ring.spans(trace_id);
    let ours = recorded
        .iter()
        .find(|span| span.name == "GET api")
        .expect("the platform's");
    assert_eq!(
        hex(&span.span_id),
        format!("{:016x}", ours.context.span_id),
        "it is one span"
    );
}

#[tokio::test]
async fn where_the_platform_records_nothing_the_trace_goes_on_from_the_plugins_span() {
    let came = Came::default();
    let router = Router::new()
        .route("/v1/traces", post(take))
        .with_state(came.clone());
    let (url, _server) = serve(router).await;
    let (env, _clock) = Env::manual(3);
    let telemetry = Telemetry::disabled(env.clone());
    let network = Network::new(telemetry.clone(), env.clone());
    network.mount("echo", echo(), Responses::Plain);
    let config = read(&format!(
        "services: [{{name: echo, routes: [{{name: api, paths: [/api], plugins: [{{name: opentelemetry, config: {{traces_endpoint: '{url}/v1/traces'}}}}]}}]}}]"
    ));
    let channel_of = move |name: &str| network.channel("gateway", name);
    let gateway = Gateway::new(config, channel_of, None, telemetry, env).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let caller = Caller::new(format!("http://{}", listener.local_addr().unwrap()));
    let mut serving = JoinSet::new();
    serving.spawn(async move { gateway.serve(listener, std::future::pending()).await });
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (line, parent_id) in [(Some(parent), "b7ad6b7169203331"), (None, "")] {
        let caller = line.map_or(caller.clone(), |line| caller.with("traceparent", line));
        let told = caller.get("/api").await.expect(200);
        let headers = told["headers"].as_array().unwrap();
        let onward = headers
            .iter()
            .find(|pair| pair[0] == "traceparent")
            .unwrap();
        eventually(SOON, async || !came.lock().is_empty()).await;
        let (_, request) = came.lock().pop().unwrap();
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let own = format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id));
        assert_eq!(onward[1], own, "what comes after it is its child");
        assert_eq!(hex(&span.parent_span_id), parent_id);
        assert_ne!(hex(&span.span_id), parent_id);
    }
}
