//! What Kong does with a file where another reading of it would seem as good.

use trunkline_gateway::Config;

use super::gateway;

fn said(text: &str) -> String {
    let error = Config::parse("kong.yml", text).unwrap_err();
    error.to_string()
}

#[tokio::test]
async fn a_plugin_that_is_off_is_as_one_that_is_not_there() {
    let kit = gateway(
        r#"
services:
- name: echo
  routes:
  - {name: shut, paths: [/shut], plugins: [{name: key-auth, enabled: false}]}
plugins:
- {name: key-auth}
consumers: [{username: ann, keyauth_credentials: [{key: a}]}]
"#,
    )
    .await;
    kit.get("/shut").await.is_problem(401, "key_missing");
    let answer = kit.send("GET /shut", "apikey: a\r\n", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_consumer_has_plugins_of_its_own() {
    let kit = gateway(
        r#"
services:
- name: echo
  routes: [{name: api, paths: [/api]}]
plugins:
- {name: key-auth}
- {name: rate-limiting, config: {minute: 100}}
consumers:
- username: ann
  keyauth_credentials: [{key: a}]
  plugins: [{name: rate-limiting, config: {minute: 1}}]
- {username: bob, keyauth_credentials: [{key: b}]}
"#,
    )
    .await;
    for (key, limit) in [("a", "1"), ("b", "100")] {
        let headers = format!("apikey: {key}\r\n");
        let answer = kit.send("GET /api", &headers, "").await;
        assert_eq!(answer.header("x-ratelimit-limit-minute"), Some(limit));
    }
    let again = kit.send("GET /api", "apikey: a\r\n", "").await;
    again.is_problem(429, "rate_limit_exceeded");
}

#[tokio::test]
async fn a_tokens_header_may_name_its_key() {
    let secret = "ann-secret-ann-secret-ann-secret-";
    let kit = gateway(&format!(
        r#"
services:
- name: echo
  routes: [{{name: api, paths: [/api], plugins: [{{name: jwt, config: {{key_claim_name: kid}}}}]}}]
consumers:
- {{username: ann, jwt_secrets: [{{key: ann-key, secret: {secret}}}]}}
"#
    ))
    .await;
    // Of `{"sub":"u"}`, by that secret, with `ann-key` and with `bob-key` as the `kid`.
    for (token, status) in [
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImFubi1rZXkifQ.eyJzdWIiOiJ1In0.uQFuMaXJjzPZdb13VgvnlQABSTfb2x6TkgioZso-tMw",
            200,
        ),
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImJvYi1rZXkifQ.eyJzdWIiOiJ1In0.TDL2a2OLUROs-4RDb96LPDWfuvG5Nm86bb1xT19aO7E",
            401,
        ),
    ] {
        let headers = format!("authorization: Bearer {token}\r\n");
        let answer = kit.send("GET /api", &headers, "").await;
        assert_eq!(answer.status, status, "{token} {answer:?}");
    }
}

#[tokio::test]
async fn units_of_size_are_powers_of_two() {
    let kit = gateway(
        r#"
services:
- name: echo
  routes: [{name: api, paths: [/api]}]
  plugins: [{name: request-size-limiting, config: {allowed_payload_size: 1, size_unit: megabytes}}]
"#,
    )
    .await;
    for (bytes, status) in [(1_048_576, 200), (1_048_577, 413)] {
        let answer = kit.send("POST /api", "", &"x".repeat(bytes)).await;
        assert_eq!(answer.status, status, "{bytes}");
    }
}

#[tokio::test]
async fn each_value_of_a_header_may_be_an_expression() {
    let kit = gateway(
        r#"
services:
- name: echo
  routes:
  - {name: api, paths: [/api], headers: {x-version: [plain, "~*^V[0-9]+$", "~*^beta"]}}
"#,
    )
    .await;
    for (value, status) in [
        ("Plain", 200),
        ("v12", 200),
        ("V1", 200),
        ("BETA-3", 200),
        ("v", 404),
        ("~*^beta", 404),
    ] {
        let headers = format!("x-version: {value}\r\n");
        let answer = kit.send("GET /api", &headers, "").await;
        assert_eq!(answer.status, status, "{value}");
    }
}

#[tokio::test]
async fn an_answer_is_not_given_to_who_asks_for_another_host() {
    let kit = gateway(
        r#"
services:
- name: echo
  routes: [{name: all, paths: [/], plugins: [{name: proxy-cache, config: {content_type: [text/plain; charset=utf-8]}}]}]
"#,
    )
    .await;
    let ask = async |host: &str| {
        let text = kit
            .raw(&format!(
                "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
            ))
            .await;
        let answer = crate::kit::Answer::parse(&text);
        (
            answer.header("x-cache-status").unwrap().to_owned(),
            answer.got("x-forwarded-host"),
        )
    };
    for (host, word) in [
        ("a.example", "Miss"),
        ("b.example", "Miss"),
        ("a.example", "Hit"),
    ] {
        assert_eq!(ask(host).await, (word.to_owned(), vec![host.to_owned()]));
    }
    // Where nothing was taken off a path there is no prefix.
    assert!(kit.get("/").await.got("x-forwarded-prefix").is_empty());
}

#[test]
fn what_a_plugin_says_it_is_for_is_held_against_the_file() {
    let file = |plugin: &str| {
        format!(
            "services:\n- {{name: a, url: 'http://h', routes: [{{name: r, paths: [/]}}]}}\n- {{name: b, url: 'http://h'}}\nconsumers: [{{username: ann}}]\nplugins:\n- {plugin}\n"
        )
    };
    for (plugin, named) in [
        (
            "{name: cors, route: r, service: b}",
            "kong.yml:6:3: plugins[0].service: expected the service of the route `r`, found `b`",
        ),
        (
            "{name: cors, route: r, service: gone}",
            "plugins[0].service: expected the service of the route",
        ),
        (
            "{name: cors, protocols: [https, banana]}",
            "plugins[0].protocols[1]: expected one of http, https",
        ),
        (
            "{name: cors, protocols: [tcp, tls]}",
            "plugins[0].protocols: TCP streams are not served here",
        ),
    ] {
        let said = said(&file(plugin));
        assert!(said.contains(named), "{plugin}\n{said}");
    }
    for plugin in [
        "{name: cors, route: r, service: a, protocols: [grpc, https, tcp]}",
        "{name: rate-limiting, consumer: ann, config: {minute: 1}}",
    ] {
        crate::config::make_of(Config::parse("kong.yml", &file(plugin)).unwrap()).unwrap();
    }
    let one = "{name: cors, consumer: ann}";
    let error = crate::config::make_of(Config::parse("kong.yml", &file(one)).unwrap());
    let error = error.unwrap_err();
    let expected = "plugins[0].consumer: expected no consumer";
    assert!(error.contains(expected), "{error}");
}

#[tokio::test]
async fn alone_nobody_is_let_in_where_no_key_is_left() {
    let text = r#"
services:
- name: a
  url: http://127.0.0.1:9
  routes:
  - {name: tokens, paths: [/tokens], plugins: [{name: jwt}]}
  - {name: keys, paths: [/keys], plugins: [{name: key-auth}]}
consumers: [{username: ann}]
"#;
    let kit = crate::kit::alone(&Config::parse("kong.yml", text).unwrap()).await;
    let token = kit.bearer("ann");
    for (line, headers, code) in [
        ("GET /tokens", "", "token_missing"),
        ("GET /tokens", &*token, "token_forged"),
        ("GET /keys", "", "key_missing"),
        ("GET /keys", "apikey: a\r\n", "key_unknown"),
    ] {
        kit.send(line, headers, "").await.is_problem(401, code);
    }
}
