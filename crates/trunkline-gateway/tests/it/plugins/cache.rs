use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trunkline_gateway::{Config, Limits};

use crate::kit::start_with;

/// A service that counts, and says what its path asks for.
fn counting() -> axum::Router {
    use axum::response::IntoResponse;
    let count = Arc::new(AtomicU64::new(0));
    axum::Router::new().fallback(move |request: axum::extract::Request| {
        let count = count.clone();
        async move {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let query = request.uri().query().unwrap_or_default().to_owned();
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let mut response = format!("{{\"number\":{number}}}").into_response();
            response.headers_mut().insert(
                "content-type",
                "application/json; charset=utf-8".parse().unwrap(),
            );
            for (name, value) in pairs {
                match name {
                    "status" => *response.status_mut() = value.parse().unwrap(),
                    name => {
                        let value = value.replace('+', " ").parse().unwrap();
                        let name: http::HeaderName = name.parse().unwrap();
                        response.headers_mut().insert(name, value);
                    }
                }
            }
            response
        }
    })
}

#[tokio::test]
async fn answers_are_given_again_to_whoever_may_have_them() {
    let text = r#"
services:
- name: echo
  routes:
  - {name: open, paths: [/open], strip_path: false}
  - {name: shut, paths: [/shut], strip_path: false, plugins: [{name: key-auth}]}
  - {name: told, paths: [/told], strip_path: false, plugins: [{name: proxy-cache, config: {cache_control: true}}]}
  plugins:
  - {name: response-cache, config: {content_type: [application/json], cache_ttl: 300}}
  - {name: cors, config: {origins: ["https://a.example", "https://b.example"]}}
consumers:
- {username: ann, keyauth_credentials: [{key: a}]}
- {username: bob, keyauth_credentials: [{key: b}]}
"#;
    let config = Config::parse("kong.yml", text).unwrap();
    let kit = start_with(config, counting(), Limits::default()).await;
    let ask = async |line: &str, headers: &str| {
        let answer = kit.send(line, headers, "").await;
        let word = answer.header("x-cache-status").unwrap().to_owned();
        (answer.json()["number"].as_u64().unwrap_or(99), word)
    };
    let is =
        |answer: (u64, String), number, word: &str| assert_eq!(answer, (number, word.to_owned()));
    is(
        ask("GET /open?a=1&b=2", "origin: https://a.example\r\n").await,
        0,
        "Miss",
    );
    is(ask("GET /open?b=2&a=1", "").await, 0, "Hit");
    is(ask("GET /open?a=1&b=3", "").await, 1, "Miss");
    let hit = kit.get("/open?a=1&b=2").await;
    // What another plugin said to somebody else is not kept.
    assert_eq!(hit.header("access-control-allow-origin"), None);
    assert_eq!(hit.header("x-cache-key").unwrap().len(), 64);
    kit.clock.advance(Duration::from_secs(299));
    assert_eq!(kit.get("/open?a=1&b=2").await.header("age"), Some("299"));
    kit.clock.advance(Duration::from_secs(1));
    is(ask("GET /open?a=1&b=2", "").await, 2, "Miss");
    // What may change something goes on, and so does what is no answer to keep.
    is(ask("POST /open?a=1&b=2", "").await, 3, "Bypass");
    for (number, query) in [
        "status=500",
        "set-cookie=a",
        "content-type=text/html",
        "vary=x-lang",
    ]
    .iter()
    .enumerate()
    {
        let line = format!("GET /open?{query}");
        is(ask(&line, "").await, 4 + 2 * number as u64, "Bypass");
        is(ask(&line, "").await, 5 + 2 * number as u64, "Bypass");
    }
    // Each consumer has their own; who has credentials that nobody verified has none.
    is(ask("GET /shut", "apikey: a\r\n").await, 12, "Miss");
    is(ask("GET /shut", "apikey: b\r\n").await, 13, "Miss");
    is(ask("GET /shut", "apikey: a\r\n").await, 12, "Hit");
    is(
        ask("GET /open?a=1&b=2", "authorization: Bearer x\r\n").await,
        14,
        "Bypass",
    );
    // Where it is told to, it does as `Cache-Control` says.
    is(
        ask("GET /told?cache-control=s-maxage=5", "").await,
        15,
        "Miss",
    );
    is(
        ask("GET /told?cache-control=s-maxage=5", "").await,
        15,
        "Hit",
    );
    is(
        ask(
            "GET /told?cache-control=s-maxage=5",
            "cache-control: no-cache\r\n",
        )
        .await,
        16,
        "Refresh",
    );
    is(
        ask(
            "GET /told?cache-control=s-maxage=5",
            "cache-control: no-store\r\n",
        )
        .await,
        17,
        "Bypass",
    );
    kit.clock.advance(Duration::from_secs(5));
    // The channel to the service keeps answers of its own, so that what is told here is only what the plugin did.
    let (_, word) = ask("GET /told?cache-control=s-maxage=5", "").await;
    assert_eq!(word, "Miss");
    let (_, word) = ask("GET /told?cache-control=private", "").await;
    assert_eq!(word, "Bypass");
    let only = kit
        .send("GET /told?x=y", "cache-control: only-if-cached\r\n", "")
        .await;
    only.is_problem(504, "cache_miss");
}
