//! Plugins as Kong's file has them, each in front of a service that tells what it got.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use trunkline_gateway::{Config, Limits};
use trunkline_security::{Claims, Secret, Signer};

use crate::kit::{Kit, start, start_with};

/// A gateway for a file whose one service is `echo`.
async fn gateway(text: &str) -> Kit {
    let config = Config::parse("kong.yml", text);
    start(config.unwrap_or_else(|error| panic!("{error}"))).await
}

const KEYS: &str = r#"
_format_version: "3.0"
services:
- name: echo
  routes:
  - name: shut
    paths: [/shut]
    plugins:
    - name: key-auth
      config: {key_names: [apikey, x-key], hide_credentials: true, realm: shop}
    - name: acl
      config: {allow: [staff]}
  - name: half
    paths: [/half]
    plugins:
    - name: key-auth
      config: {anonymous: nobody}
    - name: rate-limiting
      config: {minute: 100}
  - name: not-staff
    paths: [/not-staff]
    plugins:
    - {name: key-auth}
    - {name: acl, config: {deny: [staff], hide_groups_header: true}}
plugins:
- name: rate-limiting
  consumer: bob
  config: {minute: 2}
consumers:
- username: ann
  custom_id: "17"
  keyauth_credentials: [{key: ann-key}]
  acls: [{group: staff}, {group: night}]
- username: bob
  keyauth_credentials: [{key: bob-key}]
- username: nobody
"#;

#[tokio::test]
async fn a_key_says_who_it_is_and_groups_what_they_may() {
    let kit = gateway(KEYS).await;
    let answer = kit.send("GET /shut?a=1&apikey=ann-key&b=2", "", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["uri"], "/?a=1&b=2", "the key is hidden");
    assert_eq!(answer.got("x-consumer-username"), ["ann"]);
    assert_eq!(answer.got("x-consumer-custom-id"), ["17"]);
    assert_eq!(answer.got("x-consumer-groups"), ["staff, night"]);
    let claimed = "x-key: ann-key\r\nx-consumer-username: root\r\nx-consumer-groups: root\r\n";
    let answer = kit.send("GET /shut", claimed, "").await;
    assert_eq!(answer.got("x-consumer-username"), ["ann"]);
    assert_eq!(answer.got("x-consumer-groups"), ["staff, night"]);
    assert!(answer.got("x-key").is_empty());

    for (line, headers, status, code) in [
        ("GET /shut", "", 401, "key_missing"),
        ("GET /shut", "apikey: \r\n", 401, "key_missing"),
        ("GET /shut", "apikey: wrong\r\n", 401, "key_unknown"),
        (
            "GET /shut?apikey=ann-key",
            "apikey: bob-key\r\n",
            401,
            "key_ambiguous",
        ),
        (
            "GET /shut",
            "apikey: ann-key\r\napikey: ann-key\r\n",
            401,
            "key_ambiguous",
        ),
        ("GET /shut", "apikey: bob-key\r\n", 403, "group_not_allowed"),
        (
            "GET /not-staff",
            "apikey: ann-key\r\n",
            403,
            "group_not_allowed",
        ),
    ] {
        let answer = kit.send(line, headers, "").await;
        answer.is_problem(status, code);
        if status == 401 {
            assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
        }
    }
    let answer = kit.send("GET /not-staff", "apikey: bob-key\r\n", "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.got("x-consumer-groups").is_empty());
}

#[tokio::test]
async fn who_shows_nothing_is_anonymous_and_a_consumers_plugin_is_theirs_alone() {
    let kit = gateway(KEYS).await;
    let answer = kit.get("/half").await;
    assert_eq!(answer.got("x-consumer-username"), ["nobody"]);
    assert_eq!(answer.got("x-anonymous-consumer"), ["true"]);
    let known = kit.send("GET /half", "apikey: ann-key\r\n", "").await;
    assert!(known.got("x-anonymous-consumer").is_empty());
    assert_eq!(known.header("x-ratelimit-limit-minute"), Some("100"));
    // Bob's own limit holds for him, on every route, and for nobody else.
    for _ in 0..2 {
        let bob = kit.send("GET /half", "apikey: bob-key\r\n", "").await;
        assert_eq!(
            (bob.status, bob.header("x-ratelimit-limit-minute")),
            (200, Some("2"))
        );
    }
    let bob = kit.send("GET /not-staff", "apikey: bob-key\r\n", "").await;
    bob.is_problem(429, "rate_limit_exceeded");
    let ann = kit.send("GET /half", "apikey: ann-key\r\n", "").await;
    assert_eq!(ann.status, 200);
}

#[tokio::test]
async fn a_consumers_token_is_held_against_their_own_key() {
    let secret = "ann-secret-ann-secret-ann-secret-";
    let kit = gateway(&format!(
        r#"
services:
- name: echo
  routes:
  - name: api
    paths: [/api]
    plugins:
    - name: jwt
      config:
        claims_to_verify: [exp]
        uri_param_names: [jwt]
        cookie_names: [token]
        maximum_expiration: 3600
consumers:
- username: ann
  jwt_secrets: [{{key: ann-issuer, secret: {secret}}}]
- username: bob
  jwt_secrets: [{{key: bob-issuer, secret: another-secret-another-secret-32, algorithm: HS256}}]
"#
    ))
    .await;
    let token = |secret: &str, issuer: &str, seconds: u64| {
        let signer = Signer::hs256(&Secret::new(secret).unwrap());
        let claims = Claims::new("u", Duration::from_secs(seconds), &kit.env).issued_by(issuer);
        signer.sign(&claims).unwrap()
    };
    let good = token(secret, "ann-issuer", 60);
    for (line, headers) in [
        (
            "GET /api".to_owned(),
            format!("authorization: Bearer {good}\r\n"),
        ),
        (format!("GET /api?jwt={good}"), String::new()),
        (
            "GET /api".to_owned(),
            format!("cookie: a=b; token={good}\r\n"),
        ),
    ] {
        let answer = kit.send(&line, &headers, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.got("x-consumer-username"), ["ann"]);
        assert!(answer.got("x-user-id").is_empty());
    }
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    for (headers, code) in [
        (bearer(&token(secret, "bob-issuer", 60)), "token_forged"),
        (bearer(&token(secret, "nobody", 60)), "token_forged"),
        (bearer(&token(secret, "ann-issuer", 7_200)), "token_forged"),
        (
            format!("{}cookie: token={good}\r\n", bearer(&good)),
            "token_missing",
        ),
        ("authorization: Basic YTpi\r\n".to_owned(), "token_missing"),
        (bearer("a.b.c"), "token_malformed"),
    ] {
        kit.send("GET /api", &headers, "")
            .await
            .is_problem(401, code);
    }
    kit.clock.advance(Duration::from_secs(91));
    let late = kit.send("GET /api", &bearer(&good), "").await;
    late.is_problem(401, "token_expired");
}

#[tokio::test]
async fn addresses_and_crawlers_are_kept_out() {
    let kit = gateway(
        r"
services:
- name: echo
  routes:
  - name: near
    paths: [/near]
    plugins: [{name: ip-restriction, config: {allow: [127.0.0.0/8, '::1']}}]
  - name: far
    paths: [/far]
    plugins: [{name: ip-restriction, config: {allow: [10.0.0.0/8]}}]
  - name: denied
    paths: [/denied]
    plugins: [{name: ip-restriction, config: {deny: [127.0.0.1], status: 404, message: Nothing here}}]
  - name: people
    paths: [/people]
    plugins: [{name: bot-detection, config: {allow: [GoodBot/1], deny: [curl/.*]}}]
",
    )
    .await;
    assert_eq!(kit.get("/near").await.status, 200);
    kit.get("/far").await.is_problem(403, "address_not_allowed");
    let denied = kit.get("/denied").await;
    assert_eq!(
        (denied.status, &denied.json()),
        (404, &json!({ "message": "Nothing here" }))
    );
    for (agent, status) in [
        ("Mozilla/5.0", 200),
        ("GoodBot/1 Googlebot", 200),
        ("curl/8.0", 403),
        ("Mozilla/5.0 (compatible; Googlebot/2.1)", 403),
    ] {
        let answer = kit
            .send("GET /people", &format!("user-agent: {agent}\r\n"), "")
            .await;
        assert_eq!(answer.status, status, "{agent}");
    }
}

#[tokio::test]
async fn a_request_ends_here_where_it_is_told_to() {
    let kit = gateway(
        r#"
services:
- name: echo
  routes:
  - name: gone
    paths: [/gone]
    plugins: [{name: request-termination, config: {status_code: 410, message: Gone for good}}]
  - name: page
    paths: [/page]
    plugins:
    - name: request-termination
      config: {status_code: 200, body: "<p>Back soon</p>", content_type: text/html}
  - name: asked
    paths: [/asked]
    plugins: [{name: request-termination, config: {trigger: maintenance}}]
"#,
    )
    .await;
    let gone = kit.get("/gone").await;
    assert_eq!(
        (gone.status, &gone.json()),
        (410, &json!({ "message": "Gone for good" }))
    );
    let page = kit.get("/page").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html"))
    );
    assert_eq!(page.body, "<p>Back soon</p>");
    assert_eq!(kit.get("/asked").await.status, 200);
    assert_eq!(kit.get("/asked?maintenance").await.status, 503);
    assert_eq!(
        kit.send("GET /asked", "maintenance: 1\r\n", "")
            .await
            .status,
        503
    );
}

#[tokio::test]
async fn requests_and_answers_are_changed_on_their_way() {
    let kit = gateway(
        r#"
services:
- name: echo
  routes:
  - name: orders
    paths: ["~/shops/(?<shop>[a-z%0-9A-F.]+)/orders/(\\d+)$"]
    strip_path: false
    plugins:
    - name: request-transformer
      config:
        http_method: PUT
        remove: {headers: [x-gone], querystring: [debug]}
        rename: {headers: ["x-old:x-new"], querystring: ["p:page"]}
        replace: {headers: ["x-there:$(query_params.p)", "x-not-there:1"], uri: "/v2/$(uri_captures['shop'])/$(uri_captures[2])"}
        add: {headers: ["x-there:no", "x-added:from $(headers.user-agent)"], querystring: ["limit:10"]}
        append: {headers: ["x-many:2"], querystring: ["tag:b"]}
    - name: response-transformer
      config:
        remove: {headers: [content-type]}
        add: {headers: ["x-shop:$(uri_captures.shop)", "content-type:text/x", "x-shop:no"]}
"#,
    )
    .await;
    let headers =
        "x-gone: 1\r\nx-old: a\r\nx-old: b\r\nx-there: 1\r\nuser-agent: me\r\nx-many: 1\r\n";
    let answer = kit
        .send("GET /shops/north/orders/42?p=3&debug=1&tag=a", headers, "")
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = answer.json();
    assert_eq!(
        (&told["method"], &told["uri"]),
        (
            &json!("PUT"),
            &json!("/v2/north/42?page=3&tag=a&limit=10&tag=b")
        )
    );
    // Parameters are as they came when headers are changed.
    assert_eq!(answer.got("x-there"), ["3"]);
    assert_eq!(answer.got("x-new"), ["a", "b"]);
    assert_eq!(answer.got("x-added"), ["from me"]);
    assert_eq!(answer.got("x-many"), ["1", "2"]);
    for gone in ["x-gone", "x-old", "x-not-there"] {
        assert!(answer.got(gone).is_empty(), "{gone}");
    }
    assert_eq!(answer.header("x-shop"), Some("north"));
    assert_eq!(answer.header("content-type"), Some("text/x"));
    // What a client puts into the new path can't climb out of it.
    let climbs = kit.get("/shops/%2e%2e%2fadmin/orders/1").await;
    assert_eq!(climbs.status, 400, "{climbs:?}");
}

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
  - {name: cors, config: {origins: ["https://a.example"]}}
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

#[test]
fn settings_that_can_not_be_kept_are_named() {
    for (plugin, said) in [
        (
            "{name: key-auth}",
            "config: expected a consumer with a key, and there is none",
        ),
        (
            "{name: key-auth, config: {anonymous: gone}}",
            "config.anonymous: expected the name of a consumer, found `gone`",
        ),
        (
            "{name: key-auth, config: {key_in_body: true}}",
            "config.key_in_body: expected false",
        ),
        (
            "{name: jwt, config: {secret_is_base64: true}}",
            "config.secret_is_base64: expected false",
        ),
        (
            "{name: acl, config: {allow: [a], deny: [b]}}",
            "config: expected `allow` or `deny`, and not both",
        ),
        (
            "{name: ip-restriction, config: {allow: [10.0.0.300]}}",
            "config.allow[0]: expected an address or a range",
        ),
        (
            "{name: ip-restriction}",
            "config: expected `allow` or `deny`",
        ),
        (
            "{name: request-termination, config: {status_code: 700}}",
            "config.status_code: expected a status",
        ),
        (
            "{name: request-termination, config: {echo: true}}",
            "config.echo: expected false",
        ),
        (
            "{name: request-transformer, config: {add: {body: ['a:b']}}}",
            "config.add.body: expected nothing",
        ),
        (
            "{name: request-transformer, config: {add: {headers: ['host:x']}}}",
            "config.add.headers[0]: expected `name:value`",
        ),
        (
            "{name: request-transformer, config: {replace: {uri: '$(lua code)'}}}",
            "config.replace.uri: expected headers, query_params",
        ),
        (
            "{name: request-transformer, config: {add: {uri: /x}}}",
            "config.add.uri: expected `uri` in `replace` alone",
        ),
        (
            "{name: response-transformer, config: {add: {json: ['a:b']}}}",
            "config.add.json: expected nothing",
        ),
        (
            "{name: proxy-cache, config: {request_method: [POST]}}",
            "config.request_method[0]: expected GET or HEAD",
        ),
        (
            "{name: proxy-cache, config: {strategy: redis}}",
            "config.strategy: unknown variant `redis`",
        ),
        (
            "{name: bot-detection, config: {deny: ['(']}}",
            "config.deny: expected expressions",
        ),
    ] {
        let text = format!(
            "services:\n- name: a\n  routes: [{{name: r, paths: [/]}}]\nplugins: [{plugin}]"
        );
        let error = crate::config::make_of(Config::parse("kong.yml", &text).unwrap()).unwrap_err();
        assert!(
            error.contains("kong.yml:4:") && error.contains(&format!("plugins[0].{said}")),
            "{plugin}\n{error}"
        );
    }
}
