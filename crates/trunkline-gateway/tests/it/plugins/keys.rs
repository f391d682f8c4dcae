use super::gateway;

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
