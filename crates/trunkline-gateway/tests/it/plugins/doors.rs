use serde_json::json;

use trunkline_gateway::Limits;

use super::gateway;
use crate::kit::start_with;

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

#[tokio::test]
async fn a_header_is_renamed_with_all_its_values() {
    let router = axum::Router::new().fallback(|| async {
        let twice = [("x-old", "1"), ("x-old", "2"), ("x-new", "3")];
        (axum::response::AppendHeaders(twice), "ok")
    });
    let file = "services: [{name: echo, routes: [{name: api, paths: [/api], plugins: [{name: response-transformer, config: {rename: {headers: ['x-old:x-new']}}}]}]}]";
    let kit = start_with(super::read(file), router, Limits::default()).await;
    let answer = kit.get("/api").await;
    let given = answer.head.lines().filter(|line| line.starts_with("x-"));
    let given: Vec<_> = given
        .filter(|line| line.contains("old") || line.contains("new"))
        .collect();
    assert_eq!(given, ["x-new: 1", "x-new: 2"]);
}
