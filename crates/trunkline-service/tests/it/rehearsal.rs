//! Dry runs of handlers that panic, or call others.

use std::sync::Arc;

use axum::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_core::{Error, Event, Result};
use trunkline_service::{Cx, Platform, Service};
use trunkline_testkit::eventually;

use crate::sample::{SOON, Sample, Switches};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "lamp.lit", version = "1.0", topic = "lamps", key = how)]
struct LampLit {
    how: String,
}

async fn light(cx: Cx, Json(how): Json<String>) -> Result<Json<()>> {
    cx.publish(LampLit { how }).await.map(Json)
}

async fn lit(cx: Cx, event: Event<LampLit>) -> Result<()> {
    let shop = cx.service("shop")?;
    match (&*event.data.how, cx.is_rehearsal()) {
        ("reads", true) => shop.get("/oil").send_empty().await.map(drop),
        ("buys", true) => shop.post("/oil").json(&1).send_empty().await.map(drop),
        ("breaks", true) => panic!("the lamp breaks"),
        _ => Err(Error::invalid("lamp_dark", "it does not burn")),
    }
}

async fn look(_: Cx) -> Result<Json<u32>> {
    Ok(Json(7))
}

async fn buy(_: Cx, Json(_): Json<u32>) -> Result<Json<()>> {
    panic!("a dry run buys nothing")
}

#[tokio::test]
async fn a_dry_run_reads_elsewhere_changes_nothing_and_survives_a_panic() {
    let lamps = Service::new("lamps")
        .calls("shop")
        .publishes::<LampLit>()
        .post("/light", light)
        .on(lit);
    let shop = Service::new("shop").get("/oil", look).post("/oil", buy);
    let platform = Platform::new("lamps").service(lamps).service(shop);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start_this(platform, Arc::new(Switches::default()), folder).await;
    for how in ["reads", "buys", "breaks"] {
        let answer = sample.ask("lamps").post("/light", json!(how)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    eventually(SOON, async || sample.letters().await.len() == 3).await;
    for (key, outcome, why) in [
        ("reads", "would_pass", ""),
        ("buys", "would_run", "does not ask another service"),
        ("breaks", "would_fail", "panicked"),
    ] {
        let body = json!({ "key": key, "dry_run": true });
        let ask = sample.admin().post("/api/v1/dead-letters/replay", body);
        let report = ask.await.body["groups"][0].clone();
        let letter = &report["letters"][0];
        assert_eq!(letter["outcome"], outcome, "{report}");
        let told = letter["error"].as_str().unwrap_or_default();
        assert!(told.contains(why), "{report}");
        assert_eq!(letter["error"] == Value::Null, why.is_empty());
    }
    assert_eq!(sample.letters().await.len(), 3);
    sample.stop().await;
}
