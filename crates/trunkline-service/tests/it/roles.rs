//! Who may do what: roles come from the verified token and from nowhere else.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use trunkline_core::Env;
use trunkline_gateway::{Config as Gateway, Route, Service as Behind};
use trunkline_security::{Claims, Secret, Signer, Verifier};
use trunkline_service::Platform;

use crate::sample::{Ask, Sample, Switches, platform};

const SECRET: &[u8] = b"a secret of the test, long enough for HS256";

fn secret() -> Secret {
    Secret::new(SECRET).unwrap()
}

fn behind(name: &str, prefix: &str) -> Behind {
    let route = Route::new(name, prefix).plugin("jwt", json!({}));
    let mut service = Behind::new(name);
    service.routes.push(route);
    service
}

fn guarded(switches: &Arc<Switches>) -> Platform {
    let gateway = Gateway::default()
        .service(behind("orders", "/orders"))
        .service(behind("stock", "/stock"));
    let verifier = Verifier::hs256(&secret(), Env::system());
    platform(switches).gateway(gateway, Some(verifier))
}

fn bearer(roles: &[&str]) -> String {
    let mut claims = Claims::new("ann", Duration::from_secs(60), &Env::system());
    claims.roles = roles.iter().map(|role| (*role).into()).collect();
    let signer = Signer::hs256(&secret());
    format!("Bearer {}", signer.sign(&claims).unwrap())
}

#[tokio::test]
async fn a_role_is_what_the_token_says_and_travels_with_the_user() {
    let switches = Arc::new(Switches::default());
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start_this(guarded(&switches), switches, folder).await;
    let gateway = sample.running.gateway_address().unwrap();
    for (path, has) in [
        ("/orders/api/v1/audit", true),
        ("/stock/api/v1/audit", true),
        ("/orders/api/v1/audit", false),
        ("/stock/api/v1/audit", false),
    ] {
        let roles: &[&str] = if has {
            &["buyer", "auditor"]
        } else {
            &["buyer"]
        };
        // Whatever the client says of itself is of no effect.
        let ask = Ask::at(gateway)
            .with("authorization", &bearer(roles))
            .with("x-user-id", "root")
            .with("x-user-roles", "auditor");
        let answer = ask.get(path).await;
        if has {
            assert_eq!((answer.status, &answer.body), (200, &json!("all is well")));
        } else {
            assert_eq!(
                (answer.status, answer.code()),
                (403, "role_missing"),
                "{path}"
            );
            assert!(answer.detail().contains("`auditor`"), "{answer:?}");
        }
    }
    sample.stop().await;
}

#[tokio::test]
async fn a_role_without_a_user_is_nobodys() {
    let sample = Sample::start().await;
    let ask = sample.orders().with("x-user-roles", "auditor");
    let answer = ask.get("/api/v1/audit").await;
    assert_eq!((answer.status, answer.code()), (401, "user_missing"));
    sample.stop().await;
}
