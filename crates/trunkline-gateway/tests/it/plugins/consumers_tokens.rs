use std::time::Duration;

use trunkline_security::{Claims, Secret, Signer};

use super::gateway;

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
async fn a_token_that_was_taken_before_is_taken_no_more_once_its_key_is_gone() {
    let secrets = [
        "ann-secret-ann-secret-ann-secret-",
        "new-secret-new-secret-new-secret-",
    ];
    let file = |secret: &str| {
        format!(
            r#"
services:
- name: echo
  routes: [{{name: api, paths: [/api], plugins: [{{name: jwt}}]}}]
consumers:
- username: ann
  jwt_secrets: [{{key: ann-issuer, secret: {secret}}}]
"#
        )
    };
    let kit = gateway(&file(secrets[0])).await;
    let claims = Claims::new("u", Duration::from_secs(60), &kit.env).issued_by("ann-issuer");
    let signed = |secret: &str| {
        let signer = Signer::hs256(&Secret::new(secret).unwrap());
        format!(
            "authorization: Bearer {}\r\n",
            signer.sign(&claims).unwrap()
        )
    };
    let [old, new] = secrets.map(signed);
    for _ in 0..2 {
        assert_eq!(kit.send("GET /api", &old, "").await.status, 200);
        // The same claims under another signature are another token.
        let forged = kit.send("GET /api", &new, "").await;
        forged.is_problem(401, "token_forged");
    }
    let config = trunkline_gateway::Config::parse("kong.yml", &file(secrets[1])).unwrap();
    kit.gateway.reload(&config).unwrap();
    let gone = kit.send("GET /api", &old, "").await;
    gone.is_problem(401, "token_forged");
    assert_eq!(kit.send("GET /api", &new, "").await.status, 200);
}
