//! The admin address of a running platform.

use std::sync::Arc;

use serde_json::json;
use trunkline_testkit::eventually;

use crate::sample::{Ask, SOON, Sample, Switches, config, platform};

#[tokio::test]
async fn the_story_of_an_order_is_found_by_its_id() {
    let sample = Sample::start().await;
    let order = sample.place("tea").await;
    let flow = format!("/api/v1/flows/{order}");
    eventually(SOON, async || {
        sample.admin().get(&flow).await.body["flows"][0]["state"] == "succeeded"
    })
    .await;
    let story = sample.admin().get(&flow).await.body["flows"][0].clone();
    let types: Vec<_> = story["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["type"])
        .collect();
    assert_eq!(types, ["order.placed", "stock.taken"]);
    assert_eq!(story["key"], json!(order));
    let correlation = story["correlation_ids"][0].as_str().unwrap();
    let path = format!("/api/v1/events?correlation_id={correlation}");
    let events = sample.admin().get(&path).await.body;
    let events = events["events"].as_array().unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(events[1]["causation_id"], events[0]["id"]);
    let by_correlation = sample
        .admin()
        .get(&format!("/api/v1/flows/{correlation}"))
        .await;
    assert_eq!(by_correlation.body["flows"][0]["events"], story["events"]);
    assert_eq!(
        sample.admin().get("/api/v1/flows/nothing").await.status,
        404
    );
    sample.stop().await;
}

#[tokio::test]
async fn a_flow_tells_what_it_is_stuck_on() {
    let sample = Sample::start().await;
    sample
        .switches
        .poisoned
        .store(1, std::sync::atomic::Ordering::SeqCst);
    let order = sample.place("poison").await;
    let flow = format!("/api/v1/flows/{order}");
    eventually(SOON, async || {
        sample.admin().get(&flow).await.body["flows"][0]["state"] == "stuck"
    })
    .await;
    let story = sample.admin().get(&flow).await.body["flows"][0].clone();
    assert!(
        story["stuck_on"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("can't be taken"),
        "{story}"
    );
    assert_eq!(story["expected"][0]["one_of"], json!(["stock.taken"]));
    let stuck = sample.admin().get("/api/v1/flows?state=stuck").await.body;
    assert_eq!(stuck["flows"].as_array().map(Vec::len), Some(1), "{stuck}");
    sample.stop().await;
}

#[tokio::test]
async fn a_subscription_is_paused_and_resumed() {
    let sample = Sample::start().await;
    let paused = sample
        .admin()
        .post("/api/v1/subscriptions/stock/pause", json!(null))
        .await;
    assert_eq!(
        paused.body["subscriptions"][0]["state"], "paused",
        "{paused:?}"
    );
    let order = sample.place("tea").await;
    eventually(SOON, async || sample.tallied().await == 1).await;
    assert_eq!(
        sample.taken("tea").await,
        Vec::<String>::new(),
        "only the other group went on"
    );
    sample
        .admin()
        .post("/api/v1/subscriptions/stock/resume", json!(null))
        .await;
    eventually(SOON, async || sample.status(&order).await == "taken").await;
    let all = sample.admin().get("/api/v1/subscriptions").await.body;
    let groups: Vec<_> = all["subscriptions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["group"])
        .collect();
    assert_eq!(
        groups,
        ["orders", "stock", "stock.batch", "trunkline.trail"]
    );
    let unknown = sample
        .admin()
        .post("/api/v1/subscriptions/x/pause", json!(null))
        .await;
    assert_eq!((unknown.status, unknown.code()), (404, "group_unknown"));
    sample.stop().await;
}

#[tokio::test]
async fn health_speaks_of_every_service() {
    let sample = Sample::start().await;
    let health = sample.admin().get("/health").await;
    assert_eq!(
        (health.status, &health.body["status"]),
        (200, &json!("healthy")),
        "{health:?}"
    );
    assert_eq!(health.body["services"].as_array().map(Vec::len), Some(2));
    assert_eq!(health.body["services"][0]["checks"]["database"], "ok");
    assert_eq!(health.body["services"][0]["checks"]["eventBus"], "ok");
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(sample.admin().get(path).await.status, 200, "{path}");
        assert_eq!(sample.orders().get(path).await.status, 200, "{path}");
    }
    let own = sample.orders().get("/health").await;
    assert_eq!(
        (&own.body["service"], &own.body["version"]),
        (&json!("orders"), &json!("1.2.3"))
    );
    sample.stop().await;
}

#[tokio::test]
async fn a_wrong_question_is_told_what_was_expected() {
    let sample = Sample::start().await;
    for (path, named) in [
        ("/api/v1/events?limit=0", "between 1 and 1000"),
        ("/api/v1/events?after=x", "after"),
        ("/api/v1/events?colour=red", "colour"),
        ("/api/v1/events?since=yesterday", "since"),
        ("/api/v1/dead-letters?limit=many", "limit"),
        ("/api/v1/flows?state=odd", "running"),
    ] {
        let answer = sample.admin().get(path).await;
        assert!((400..=422).contains(&answer.status), "{path}: {answer:?}");
        assert!(answer.detail().contains(named), "{path}: {answer:?}");
    }
    let unknown = sample.admin().get("/api/v2/events").await;
    assert_eq!((unknown.status, unknown.code()), (404, "route_unknown"));
    sample.stop().await;
}

#[tokio::test]
async fn with_a_token_nobody_else_may_ask() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.admin.address = ([0, 0, 0, 0], 0).into();
    config.admin.token = Some("0123456789abcdef".to_owned());
    let running = platform(&Arc::new(Switches::default()))
        .start(config)
        .await
        .unwrap();
    let port = running.admin_address().port();
    let ask = || Ask::at(([127, 0, 0, 1], port).into());
    assert_eq!(ask().get("/api/v1/topology").await.status, 401);
    let wrong = ask().with("authorization", "Bearer 0123456789abcdeX");
    assert_eq!(wrong.get("/api/v1/topology").await.status, 401);
    let right = ask().with("authorization", "Bearer 0123456789abcdef");
    assert_eq!(right.get("/api/v1/topology").await.status, 200);
    assert_eq!(
        ask().get("/health/live").await.status,
        200,
        "a probe has no token"
    );
    running.shutdown().await;
}
