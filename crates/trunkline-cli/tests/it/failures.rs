use serde_json::json;
use tokio::net::TcpListener;

use crate::kit::{Admin, run};

#[tokio::test]
async fn whoever_can_not_be_reached_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let ran = run(&["--admin", &address, "health"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.err.contains(&format!("tried http://{address}")),
        "{ran:?}"
    );
    assert!(
        ran.err.contains("refused") && ran.err.contains("--admin"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn an_address_that_is_none_is_a_mistake_on_the_command_line() {
    for admin in [
        "https://127.0.0.1:1",
        "http://127.0.0.1:1/api",
        "http://",
        "a b",
    ] {
        let ran = run(&["--admin", admin, "health"]).await;
        assert_eq!(ran.code, Some(2), "{admin}: {ran:?}");
        assert!(ran.err.contains("expected an address"), "{admin}: {ran:?}");
    }
    assert_eq!(run(&["dead-leters", "list"]).await.code, Some(2));
}

#[tokio::test]
async fn a_refusal_is_told_with_its_code() {
    let problem = json!({ "status": 404, "code": "dead_letter_unknown", "detail": "no dead letter has this id" });
    let admin = Admin::start(404, problem).await;
    let ran = admin.run(&["dead-letters", "show", "L9"]).await;
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.err,
        "trunkline: no dead letter has this id (404 Not Found, dead_letter_unknown)\n"
    );
    assert_eq!(ran.out, "");
}

#[tokio::test]
async fn a_token_is_asked_for_and_sent() {
    let problem =
        json!({ "status": 401, "code": "admin_token_missing", "detail": "expected a token" });
    let admin = Admin::start(401, problem).await;
    let ran = admin.run(&["topology"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("TRUNKLINE_ADMIN_TOKEN"), "{ran:?}");
    admin.run(&["topology", "--token", "s3cret"]).await;
    assert_eq!(
        admin.asked(),
        [
            "GET /api/v1/topology",
            "GET /api/v1/topology  Bearer s3cret"
        ]
    );
}

#[tokio::test]
async fn an_unhealthy_platform_is_shown_and_fails() {
    let report = json!({ "status": "unhealthy", "services": [
        { "service": "order-service", "status": "unhealthy", "latency_us": 1_234,
          "checks": { "database": "disk is full", "sagas": "ok" },
          "details": { "sagas": { "parked": 2, "overdue": 0 } } },
        { "service": "cart-service", "status": "healthy", "latency_us": 45_678, "checks": { "database": "ok" } }
    ], "unreachable": [{ "service": "far", "error": "nobody answers" }] });
    let admin = Admin::start(503, report).await;
    let ran = admin.run(&["health"]).await;
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.out,
        "\
CHECK                   STATUS                           LATENCY  DETAILS
platform                unhealthy
order-service           unhealthy                        1.2 ms
order-service/database  disk is full
order-service/sagas     ok                                        overdue: 0, parked: 2
cart-service            healthy                          45 ms
cart-service/database   ok
far                     does not answer: nobody answers
"
    );
    assert_eq!(ran.err, "trunkline: the platform is not healthy\n");
}

#[tokio::test]
async fn something_else_than_a_platform_is_recognised() {
    let admin = Admin::start(404, json!("<html>")).await;
    let ran = admin.run(&["subscriptions", "list"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("is this a platform's admin address?"),
        "{ran:?}"
    );
}
