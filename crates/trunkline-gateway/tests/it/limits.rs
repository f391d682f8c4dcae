use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use trunkline_gateway::{Limits, Route};

use crate::kit::{SOON, config, echo, read_all, read_until, start, start_with};

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let limited = json!({ "minute": 2, "hour": 100 });
    let kit = start(config([Route::new("api", "/api")
        .plugin("jwt", json!({}))
        .plugin("rate-limiting", limited)]))
    .await;
    let ada = kit.bearer("ada");
    let first = kit.send("GET /api", &ada, "").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit-minute"), Some("2"));
    assert_eq!(first.header("x-ratelimit-remaining-minute"), Some("1"));
    assert_eq!(first.header("x-ratelimit-remaining-hour"), Some("99"));
    assert_eq!(first.header("ratelimit-limit"), Some("2"));
    assert_eq!(first.header("ratelimit-remaining"), Some("1"));
    assert_eq!(first.header("ratelimit-reset"), Some("60"));
    assert_eq!(
        first.header("ratelimit-policy"),
        Some(r#""minute";q=2;w=60, "hour";q=100;w=3600"#)
    );
    assert_eq!(first.header("ratelimit"), Some(r#""minute";r=1;t=60"#));
    kit.clock.advance(Duration::from_secs(10));
    assert_eq!(kit.send("GET /api", &ada, "").await.status, 200);
    let refused = kit.send("GET /api", &ada, "").await;
    refused.is_problem(429, "rate_limit_exceeded");
    assert_eq!(refused.header("retry-after"), Some("50"));
    assert_eq!(refused.header("x-ratelimit-remaining-minute"), Some("0"));
    let other = kit.send("GET /api", &kit.bearer("bob"), "").await;
    assert_eq!(other.status, 200, "another consumer has a count of his own");
    kit.clock.advance(Duration::from_secs(50));
    assert_eq!(
        kit.send("GET /api", &kit.bearer("ada"), "").await.status,
        200
    );
}

#[tokio::test]
async fn without_a_user_the_address_is_counted() {
    let limited = json!({ "second": 1, "hide_client_headers": true });
    let kit = start(config([
        Route::new("api", "/api").plugin("rate-limiting", limited)
    ]))
    .await;
    assert_eq!(kit.get("/api").await.header("ratelimit-limit"), None);
    let claimed = "x-forwarded-for: 9.9.9.9\r\nx-user-id: other\r\n";
    let refused = kit.send("GET /api", claimed, "").await;
    refused.is_problem(429, "rate_limit_exceeded");
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_body_beyond_its_bound_is_refused_announced_or_not() {
    let bound = json!({ "allowed_payload_size": 10, "size_unit": "bytes" });
    let kit = start(config([
        Route::new("api", "/api").plugin("request-size-limiting", bound),
        Route::new("length", "/length").plugin(
            "request-size-limiting",
            json!({ "allowed_payload_size": 10, "require_content_length": true }),
        ),
    ]))
    .await;
    let fits = kit.send("POST /api", "", "0123456789").await;
    assert_eq!(fits.json()["body_bytes"], 10);
    let announced = kit.send("POST /api", "", "0123456789x").await;
    announced.is_problem(413, "body_too_large");
    let chunked = "transfer-encoding: chunked\r\n";
    let body = "5\r\n01234\r\n6\r\n56789x\r\n0\r\n\r\n";
    let request = |path| {
        format!("POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{chunked}\r\n{body}")
    };
    let found = kit.raw(&request("/api")).await;
    assert!(found.starts_with("HTTP/1.1 413 "), "{found}");
    let found = kit.raw(&request("/length")).await;
    assert!(found.starts_with("HTTP/1.1 411 "), "{found}");
}

#[tokio::test]
async fn a_large_body_that_is_refused_early_still_hears_why() {
    let bound = json!({ "allowed_payload_size": 1, "size_unit": "kilobytes" });
    let kit = start(config([
        Route::new("api", "/api").plugin("request-size-limiting", bound)
    ]))
    .await;
    let body = "x".repeat(200_000);
    kit.send("POST /api", "", &body)
        .await
        .is_problem(413, "body_too_large");
}

#[tokio::test]
async fn a_head_that_trickles_is_cut_off() {
    let limits = limits(|limits| limits.head_within = Duration::from_millis(100));
    let kit = start_with(config([Route::new("api", "/api")]), echo(), limits).await;
    let mut stream = kit.connect().await;
    stream
        .write_all(b"GET /api HTTP/1.1\r\nhost: h\r\nx-sl")
        .await
        .unwrap();
    let said = read_all(&mut stream).await;
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 408"),
        "{said}"
    );
    // A connection that is kept and sends nothing more is let go as well.
    let mut stream = kit.connect().await;
    stream
        .write_all(b"GET /api HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_that_pauses_is_a_timeout_of_the_client() {
    let limits = limits(|limits| limits.body_idle_max = Duration::from_millis(100));
    let kit = start_with(config([Route::new("api", "/api")]), echo(), limits).await;
    let said = kit
        .raw("POST /api HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n01234")
        .await;
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert!(
        said.contains("request_body_slow") && said.contains("connection: close"),
        "{said}"
    );
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_their_turn() {
    let limits = limits(|limits| limits.connections_max = 2);
    let kit = start_with(config([Route::new("api", "/api")]), echo(), limits).await;
    let request = b"GET /api HTTP/1.1\r\nhost: h\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = kit.connect().await;
        stream.write_all(request).await.unwrap();
        read_until(&mut stream, "\"uri\"").await;
        held.push(stream);
    }
    let mut third = kit.connect().await;
    third.write_all(request).await.unwrap();
    assert_eq!(kit.gateway.connections(), 2);
    drop(held.pop());
    tokio::time::timeout(SOON, read_until(&mut third, "\"uri\""))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_head_beyond_its_bound_is_refused() {
    let kit = start(config([Route::new("api", "/api")])).await;
    let huge = format!("x-a: {}\r\n", "a".repeat(70_000));
    let said = kit
        .raw(&format!("GET /api HTTP/1.1\r\nhost: h\r\n{huge}\r\n"))
        .await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    let many = "x-a: 1\r\n".repeat(101);
    let said = kit
        .raw(&format!("GET /api HTTP/1.1\r\nhost: h\r\n{many}\r\n"))
        .await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
}

#[tokio::test]
async fn requests_are_counted_by_what_the_settings_say() {
    let text = r#"
services:
- name: echo
  routes:
  - {name: service, paths: [/service], plugins: [{name: rate-limiting, config: {day: 2, limit_by: service}}]}
  - {name: header, paths: [/header], plugins: [{name: rate-limiting, config: {day: 1, limit_by: header, header_name: x-tenant}}]}
  - {name: path, paths: [/path], strip_path: false, plugins: [{name: rate-limiting, config: {day: 1, limit_by: path, path: /path/slow}}]}
  - name: credential
    paths: [/credential]
    plugins:
    - {name: key-auth}
    - {name: rate-limiting, config: {day: 1, limit_by: credential, error_code: 420, error_message: Calm down}}
consumers:
- {username: ann, keyauth_credentials: [{key: one}, {key: two}]}
"#;
    let kit = start(trunkline_gateway::Config::parse("kong.yml", text).unwrap()).await;
    let statuses = async |asked: &[(&str, &str)]| {
        let mut statuses = Vec::new();
        for (path, headers) in asked {
            let answer = kit.send(&format!("GET {path}"), headers, "").await;
            statuses.push(answer.status);
        }
        statuses
    };
    let service = [("/service", ""); 3];
    assert_eq!(statuses(&service).await, [200, 200, 429]);
    let header = [
        ("/header", "x-tenant: a\r\n"),
        ("/header", "x-tenant: b\r\n"),
        ("/header", "x-tenant: a\r\n"),
        ("/header", ""),
    ];
    assert_eq!(statuses(&header).await, [200, 200, 429, 200]);
    let path = [
        ("/path/slow", ""),
        ("/path/slow", ""),
        ("/path/fast", ""),
        ("/path/fast", ""),
    ];
    assert_eq!(statuses(&path).await, [200, 429, 200, 200]);
    let credential = [
        ("/credential", "apikey: one\r\n"),
        ("/credential", "apikey: two\r\n"),
        ("/credential", "apikey: one\r\n"),
    ];
    assert_eq!(statuses(&credential).await, [200, 200, 420]);
    let told = kit.send("GET /credential", "apikey: two\r\n", "").await;
    assert_eq!(told.json(), json!({ "message": "Calm down" }));
    kit.clock.advance(std::time::Duration::from_secs(86_400));
    assert_eq!(statuses(&credential[..1]).await, [200]);
}
