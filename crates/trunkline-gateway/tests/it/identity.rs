use std::time::Duration;

use serde_json::json;
use trunkline_gateway::Route;

use crate::kit::{config, start};

#[tokio::test]
async fn a_verified_user_goes_on_and_a_claimed_one_does_not() {
    let kit = start(config([
        Route::new("open", "/open"),
        Route::new("api", "/api").plugin("jwt", json!({ "claims_to_verify": ["exp"] })),
    ]))
    .await;
    let claimed = "x-user-id: admin\r\nX-User-Id: root\r\nx-user-roles: admin\r\nX-User-Roles: root\r\nx-trunkline-caller: order-service\r\nx-trunkline-deadline-ms: 99999999\r\nx-forwarded-for: 1.2.3.4\r\nforwarded: for=1.2.3.4\r\n";
    let open = kit.send("GET /open", claimed, "").await;
    assert_eq!(open.status, 200);
    assert!(open.got("x-user-id").is_empty());
    assert!(open.got("x-user-roles").is_empty());
    assert_eq!(open.got("x-trunkline-caller"), ["gateway"]);
    assert_eq!(open.got("x-trunkline-deadline-ms"), ["5000"]);
    assert_eq!(open.got("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(open.got("x-forwarded-host"), ["shop"]);
    assert!(open.got("forwarded").is_empty());

    let headers = format!("{claimed}{}", kit.bearer("user-1"));
    let known = kit.send("GET /api", &headers, "").await;
    assert_eq!(known.got("x-user-id"), ["user-1"]);
    assert!(known.got("x-user-roles").is_empty());

    let headers = format!(
        "{claimed}{}",
        kit.bearer_of("user-1", &["buyer", "auditor"])
    );
    let known = kit.send("GET /api", &headers, "").await;
    assert_eq!(known.got("x-user-roles"), ["buyer,auditor"]);
}

#[tokio::test]
async fn a_connection_header_does_not_take_off_who_the_user_is() {
    let kit = start(config([Route::new("api", "/api").plugin("jwt", json!({}))])).await;
    let headers = format!(
        "connection: x-user-id, x-user-roles, host, x-request-id\r\n{}",
        kit.bearer_of("u", &["buyer"])
    );
    let answer = kit.send("GET /api", &headers, "").await;
    assert_eq!(answer.got("x-user-id"), ["u"]);
    assert_eq!(answer.got("x-user-roles"), ["buyer"]);
    assert_eq!(answer.got("x-request-id").len(), 1);
    assert_eq!(answer.got("x-forwarded-host"), ["shop"]);
}

#[tokio::test]
async fn each_wrong_token_has_its_code() {
    let kit = start(config([Route::new("api", "/api").plugin("jwt", json!({}))])).await;
    let good = kit.bearer("u");
    let forged = good.replace("\r\n", "x\r\n");
    let missing = kit.get("/api").await;
    missing.is_problem(401, "token_missing");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    let twice = format!("{good}{good}");
    for (headers, code) in [
        ("authorization: Basic YTpi\r\n", "token_missing"),
        (&*twice, "token_missing"),
        ("authorization: Bearer x\r\n", "token_malformed"),
        (&*forged, "token_forged"),
    ] {
        kit.send("GET /api", headers, "")
            .await
            .is_problem(401, code);
    }
    kit.clock.advance(Duration::from_secs(91));
    let expired = kit.send("GET /api", &good, "").await;
    expired.is_problem(401, "token_expired");
    assert_eq!(
        expired.header("www-authenticate"),
        Some("Bearer error=\"invalid_token\"")
    );
}
