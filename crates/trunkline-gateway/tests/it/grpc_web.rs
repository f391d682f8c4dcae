//! gRPC-Web: pages call services of gRPC in HTTP/1.1.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use trunkline_gateway::{Limits, Route};
use trunkline_testproto::stock::Line;

use crate::grpc::{message, room};
use crate::kit::{Kit, config, read_all, start_with};

async fn kit(settings: serde_json::Value) -> Kit {
    let route = Route::new("stock", "/stock.v1.Stock");
    let open = route.clone().plugin("grpc-web", settings.clone());
    let mut guarded = Route::new("guarded", "/stock.v1.Stock/Watch");
    guarded.hosts.push("guarded".to_owned());
    let guarded = guarded
        .plugin("grpc-web", settings)
        .plugin("jwt", json!({}));
    start_with(config([open, guarded]), room(), Limits::default()).await
}

fn line(sku: &str, quantity: i64) -> Line {
    Line {
        sku: sku.to_owned(),
        quantity,
        padding: Vec::new(),
    }
}

/// The head of the answer and its body without chunks.
async fn call(
    kit: &Kit,
    (host, method): (&str, &str),
    kind: &str,
    body: &[u8],
) -> (String, Vec<u8>) {
    let head = format!(
        "POST /stock.v1.Stock/{method} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: {kind}\r\nx-grpc-web: 1\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = kit.connect().await;
    stream
        .write_all(&[head.as_bytes(), body].concat())
        .await
        .unwrap();
    let mut bytes = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes);
    tokio::time::timeout(crate::kit::SOON, read)
        .await
        .unwrap()
        .unwrap();
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(bytes[..end].to_vec())
        .unwrap()
        .to_ascii_lowercase();
    let rest = &bytes[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") {
        unchunked(rest)
    } else {
        rest.to_vec()
    };
    (head, body)
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}

/// The messages of a body, each with its first byte.
fn messages(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    while let [kind, a, b, c, d, rest @ ..] = body {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap();
        messages.push((*kind, rest[..length].to_vec()));
        body = &rest[length..];
    }
    messages
}

fn trailers(messages: &[(u8, Vec<u8>)]) -> String {
    let (kind, text) = messages.last().unwrap();
    assert_eq!(*kind, 0x80);
    String::from_utf8(text.clone()).unwrap()
}

#[tokio::test]
async fn messages_and_trailers_come_in_the_body_as_bytes_or_as_text() {
    let kit = kit(json!({})).await;
    let request = message(&line("tea", 2));
    let text = STANDARD.encode(&request);
    for (kind, sent) in [
        ("application/grpc-web+proto", &request[..]),
        ("application/grpc-web", &request[..]),
        ("application/grpc-web-text+proto", text.as_bytes()),
    ] {
        let (head, body) = call(&kit, ("shop", "Watch"), kind, sent).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(
            head.contains(&format!("content-type: {kind}\r\n")),
            "{head}"
        );
        assert!(head.contains("access-control-allow-origin: *"), "{head}");
        assert!(
            head.contains("access-control-expose-headers: grpc-status"),
            "{head}"
        );
        let body = if kind.contains("text") {
            // Each piece is padded by itself.
            let four = body.chunks(4).map(|four| STANDARD.decode(four).unwrap());
            four.flatten().collect()
        } else {
            body
        };
        let told = messages(&body);
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[1].1, [0x0a, 3, b't', b'e', b'a', 0x10, 2]);
        assert!(trailers(&told).contains("grpc-status:0\r\n"), "{told:?}");
    }
}

#[tokio::test]
async fn failures_and_refusals_are_statuses() {
    let kit = kit(json!({ "allow_origin_header": "https://shop" })).await;
    let web = "application/grpc-web+proto";
    let (head, body) = call(&kit, ("shop", "Watch"), web, &message(&line("breaks", 1))).await;
    assert!(
        head.contains("access-control-allow-origin: https://shop"),
        "{head}"
    );
    let told = messages(&body);
    assert!(trailers(&told).contains("grpc-status:15\r\n"), "{told:?}");
    let (head, body) = call(&kit, ("shop", "Reserve"), web, &message(&line("closed", 1))).await;
    assert!(head.contains("grpc-status: 9"), "{head}");
    assert!(body.is_empty());
    let (head, _) = call(&kit, ("guarded", "Watch"), web, &message(&line("tea", 1))).await;
    assert!(
        head.starts_with("http/1.1 200") && head.contains("grpc-status: 16"),
        "{head}"
    );
    let garbled = call(
        &kit,
        ("shop", "Reserve"),
        "application/grpc-web-text",
        b"####",
    );
    let (head, _) = garbled.await;
    assert!(
        head.contains("grpc-status: ") && !head.contains("grpc-status: 0"),
        "{head}"
    );
}

#[tokio::test]
async fn a_page_asks_first_and_grpc_itself_goes_through() {
    let kit = kit(json!({})).await;
    let said = kit
        .raw("OPTIONS /stock.v1.Stock/Watch HTTP/1.1\r\nhost: shop\r\nconnection: close\r\norigin: https://shop\r\naccess-control-request-method: POST\r\n\r\n")
        .await;
    let said = said.to_ascii_lowercase();
    assert!(said.starts_with("http/1.1 200"), "{said}");
    assert!(
        said.contains("access-control-allow-methods: post"),
        "{said}"
    );
    assert!(said.contains("x-grpc-web"), "{said}");
    let mut stream = kit.connect().await;
    stream
        .write_all(b"POST /stock.v1.Stock/Other HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    let said = read_all(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 404"), "{said}");
}

#[tokio::test]
async fn what_is_not_supported_is_refused() {
    let routes = [Route::new("stock", "/").plugin("grpc-web", json!({ "proto": "x.proto" }))];
    let gateway = crate::kit::start(config([Route::new("a", "/a")]))
        .await
        .gateway;
    let error = gateway.reload(&config(routes)).unwrap_err();
    let told = trunkline_core::report(&error).to_string();
    assert!(told.contains("config.proto"), "{told}");
}
