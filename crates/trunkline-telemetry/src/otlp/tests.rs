use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use trunkline_core::{ByteString, Env};

use super::Otlp;
use crate::{SpanKind, Telemetry};

/// A collector that takes one request and gives its body.
async fn collect(listener: TcpListener) -> (String, Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut read = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap();
        read.extend_from_slice(&part[..count]);
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        if read.len() >= end + 4 + length.parse::<usize>().unwrap() {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            return (head, read[end + 4..].to_vec());
        }
    }
}

#[tokio::test]
async fn spans_reach_a_collector_with_their_parents_links_and_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let otlp = Otlp::to(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let telemetry = Telemetry::new(Env::system()).with_sink(Arc::new(otlp.clone()));
    let (orders, stock) = (
        ByteString::from("order-service"),
        ByteString::from("stock-service"),
    );
    let root = telemetry.span(SpanKind::Server, "POST /orders", &orders, None);
    let mut child = telemetry.span(SpanKind::Consumer, "handle", &stock, Some(root.context()));
    child.link(root.context());
    child.set("attempt", 2);
    child.fail_with("no stock");
    let (root_context, child_context) = (root.context(), child.context());
    drop(child);
    drop(root);
    let ((head, body), ()) = tokio::join!(collect(listener), otlp.flush(Duration::from_secs(5)));
    assert!(head.starts_with("post /v1/traces") && head.contains("application/x-protobuf"));
    let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    assert_eq!(request.resource_spans.len(), 2);
    let spans: Vec<_> = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .collect();
    let child = spans.iter().find(|span| span.name == "handle").unwrap();
    assert_eq!(child.trace_id, root_context.trace_id.to_be_bytes());
    assert_eq!(child.span_id, child_context.span_id.to_be_bytes());
    assert_eq!(child.parent_span_id, root_context.span_id.to_be_bytes());
    assert_eq!(child.links.len(), 1);
    assert_eq!(child.status.as_ref().unwrap().message, "no stock");
    assert!(child.end_time_unix_nano >= child.start_time_unix_nano);
    assert_eq!(otlp.dropped(), 0);
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let otlp = Otlp::to(&url).unwrap();
    let telemetry = Telemetry::new(Env::system()).with_sink(Arc::new(otlp.clone()));
    drop(telemetry.span(SpanKind::Internal, "x", &ByteString::from("s"), None));
    otlp.flush(Duration::from_secs(5)).await;
    assert_eq!(otlp.dropped(), 1);
    assert!(Otlp::to("https://x").is_err());
    assert!(Otlp::to("nonsense").is_err());
}
