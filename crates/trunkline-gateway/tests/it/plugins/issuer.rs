//! Tokens of an issuer that publishes its keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use trunkline_security::{Claims, Secret, Signer};
use trunkline_testkit::eventually;

use super::{gateway, serve};
use crate::kit::{Kit, SOON};

/// Publishes keys, or is away.
#[derive(Default)]
struct Issuer {
    document: Mutex<Option<Value>>,
    max_age: Mutex<Option<u32>>,
    asked: AtomicUsize,
}

async fn publish(State(issuer): State<Arc<Issuer>>) -> impl IntoResponse {
    issuer.asked.fetch_add(1, Ordering::Relaxed);
    let age = issuer.max_age.lock().unwrap_or(300);
    let age = [("cache-control", format!("public, max-age={age}"))];
    match &*issuer.document.lock() {
        Some(document) => (StatusCode::OK, age, document.to_string()),
        None => (StatusCode::SERVICE_UNAVAILABLE, age, String::new()),
    }
}

fn signer(byte: u8) -> Signer {
    Signer::ed25519(&Secret::new([byte; 32]).unwrap()).unwrap()
}

impl Issuer {
    fn publish(&self, signers: &[u8]) {
        let keys = signers
            .iter()
            .map(|byte| signer(*byte).jwks()["keys"][0].clone());
        *self.document.lock() = Some(json!({ "keys": keys.collect::<Vec<_>>() }));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

struct Place {
    issuer: Arc<Issuer>,
    kit: Kit,
    _server: JoinSet<()>,
}

async fn place(settings: &str) -> Place {
    let issuer = Arc::new(Issuer::default());
    let router = Router::new()
        .route("/keys", get(publish))
        .with_state(issuer.clone());
    let (url, server) = serve(router).await;
    let kit = gateway(&format!(
        "services: [{{name: echo, routes: [{{name: api, paths: [/api], plugins: [{{name: jwt, config: {{jwks_uri: '{url}/keys', {settings}}}}}]}}]}}]"
    ))
    .await;
    Place {
        issuer,
        kit,
        _server: server,
    }
}

impl Place {
    fn claims(&self) -> Claims {
        let claims = Claims::new("ada", Duration::from_secs(100_000), &self.kit.env);
        claims.issued_by("https://issuer").for_audience("shop")
    }

    fn token(&self, by: u8) -> String {
        bearer(&signer(by).sign(&self.claims()).unwrap())
    }

    /// The status and the code of a request with this line.
    async fn ask(&self, line: &str) -> (u16, String) {
        let answer = self.kit.send("GET /api", line, "").await;
        let code = match answer.status {
            200 => String::new(),
            _ => answer.json()["code"].as_str().unwrap().to_owned(),
        };
        (answer.status, code)
    }
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

fn refused(code: &str) -> (u16, String) {
    let status = if code == "keys_unavailable" { 503 } else { 401 };
    (status, code.to_owned())
}

#[tokio::test]
async fn published_keys_are_fetched_once_and_again_when_they_are_replaced() {
    let place = place("issuer: https://issuer, audience: [other, shop]").await;
    place.issuer.publish(&[1]);
    let line = place.token(1);
    let all = (0..20).map(|_| place.kit.send("GET /api", &line, ""));
    for answer in futures::future::join_all(all).await {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.got("x-user-id"), ["ada"]);
    }
    assert_eq!(place.issuer.asked(), 1, "by one for all");
    place.issuer.publish(&[1, 2]);
    let (old, new) = (place.token(1), place.token(2));
    for _ in 0..5 {
        assert_eq!(place.ask(&new).await, refused("token_forged"));
    }
    assert_eq!(place.issuer.asked(), 1, "it was asked a moment ago");
    place.kit.clock.advance(Duration::from_secs(30));
    assert_eq!(place.ask(&new).await.0, 200);
    assert_eq!(place.ask(&old).await.0, 200);
    assert_eq!(place.issuer.asked(), 2);
    place.issuer.publish(&[2]);
    place.kit.clock.advance(Duration::from_secs(300));
    eventually(SOON, async || {
        place.ask(&old).await == refused("token_forged")
    })
    .await;
    assert_eq!(place.ask(&new).await.0, 200);
}

#[tokio::test]
async fn the_last_known_keys_hold_while_the_issuer_is_away() {
    let place = place("rediscovery_lifetime: 1").await;
    let line = place.token(1);
    assert_eq!(place.ask(&line).await, refused("keys_unavailable"));
    place.kit.clock.advance(Duration::from_secs(1));
    place.issuer.publish(&[1]);
    *place.issuer.max_age.lock() = Some(60);
    assert_eq!(place.ask(&line).await.0, 200);
    *place.issuer.document.lock() = None;
    let asked = place.issuer.asked();
    for _ in 0..5 {
        place.kit.clock.advance(Duration::from_secs(3_600));
        assert_eq!(place.ask(&line).await.0, 200);
    }
    eventually(SOON, async || place.issuer.asked() > asked).await;
    *place.issuer.document.lock() = Some(json!("nonsense"));
    place.kit.clock.advance(Duration::from_secs(3_600));
    assert_eq!(place.ask(&line).await.0, 200);
    place.kit.clock.advance(Duration::from_secs(24 * 3_600));
    assert_eq!(
        place.ask(&place.token(1)).await,
        refused("keys_unavailable"),
        "but not for ever"
    );
}

#[tokio::test]
async fn a_token_has_to_be_of_this_issuer_for_this_place_and_time() {
    let place = place("issuer: https://issuer, audience: [shop], leeway: 5, claims_to_verify: [exp, nbf], maximum_expiration: 200000").await;
    place.issuer.publish(&[1]);
    let sign = |change: &dyn Fn(&mut Claims)| {
        let mut claims = place.claims();
        claims.nbf = claims.iat;
        change(&mut claims);
        bearer(&signer(1).sign(&claims).unwrap())
    };
    assert_eq!(place.ask(&sign(&|_| {})).await.0, 200);
    let now = place.kit.env.now().as_second();
    type Change = Box<dyn Fn(&mut Claims)>;
    let wrong: [(Change, &str); 7] = [
        (
            Box::new(|claims| claims.iss = Some("https://evil".into())),
            "token_forged",
        ),
        (Box::new(|claims| claims.iss = None), "token_forged"),
        (Box::new(|claims| claims.aud = None), "token_forged"),
        (
            Box::new(move |claims| claims.exp = now - 6),
            "token_expired",
        ),
        (
            Box::new(move |claims| claims.nbf = Some(now + 6)),
            "token_expired",
        ),
        (Box::new(|claims| claims.nbf = None), "token_forged"),
        (
            Box::new(move |claims| claims.exp = now + 200_001),
            "token_forged",
        ),
    ];
    for (index, (change, code)) in wrong.iter().enumerate() {
        assert_eq!(place.ask(&sign(&**change)).await, refused(code), "{index}");
    }
    let within = sign(&move |claims| claims.exp = now - 4);
    assert_eq!(place.ask(&within).await.0, 200, "clocks may be 5 s apart");
    // Whoever knows a public key can sign with it as if it were a secret.
    let public = signer(1).jwks()["keys"][0]["x"]
        .as_str()
        .unwrap()
        .to_owned();
    let confused = Signer::hs256(&Secret::new(public).unwrap())
        .sign(&place.claims())
        .unwrap();
    assert_eq!(place.ask(&bearer(&confused)).await, refused("token_forged"));
    assert_eq!(place.ask("").await, refused("token_missing"));
    assert_eq!(place.issuer.asked(), 1);
}

#[tokio::test]
async fn nobody_is_anonymous_because_keys_are_away() {
    let issuer = Arc::new(Issuer::default());
    let router = Router::new()
        .route("/keys", get(publish))
        .with_state(issuer);
    let (url, _server) = serve(router).await;
    let kit = gateway(&format!(
        "
services: [{{name: echo, routes: [{{name: api, paths: [/api], plugins: [{{name: jwt, config: {{jwks_uri: '{url}/keys', anonymous: nobody}}}}]}}]}}]
consumers: [{{username: nobody}}]"
    ))
    .await;
    assert_eq!(kit.get("/api").await.got("x-consumer-username"), ["nobody"]);
    let claims = Claims::new("ada", Duration::from_secs(60), &kit.env);
    let token = bearer(&signer(1).sign(&claims).unwrap());
    kit.send("GET /api", &token, "")
        .await
        .is_problem(503, "keys_unavailable");
}
