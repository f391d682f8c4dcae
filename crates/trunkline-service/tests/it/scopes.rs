//! What log lines say of the work that they were written in, whoever's code writes them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_core::{Event, Result};
use trunkline_service::{Cx, Platform, Service, every};
use trunkline_telemetry::Scope;
use trunkline_testkit::eventually;

use crate::sample::{SOON, Sample, Switches};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "bell.rung", version = "1.0", topic = "bells", key = name)]
struct BellRung {
    name: String,
}

/// The scopes that handlers found themselves in, each with the context that it should be of.
#[derive(Default)]
struct Seen(Mutex<Vec<(&'static str, Option<Scope>, Scope)>>);

fn note(cx: &Cx, place: &'static str) -> Result<()> {
    let of = Scope::new(cx.service_name(), cx.context());
    let seen = cx.state::<Seen>()?;
    seen.0.lock().push((place, Scope::current(), of));
    Ok(())
}

async fn begins(cx: Cx) -> Result<()> {
    note(&cx, "start")
}

async fn ticks(cx: Cx) -> Result<()> {
    note(&cx, "job")
}

async fn ring(cx: Cx) -> Result<Json<Value>> {
    note(&cx, "request")?;
    let name = "tower".to_owned();
    cx.publish(BellRung { name }).await?;
    let heard = cx.service("ears")?.get("/heard").send().await?;
    // Back from a call, the lines are this service's again.
    note(&cx, "request")?;
    Ok(Json(heard))
}

async fn heard(cx: Cx) -> Result<Json<Value>> {
    Ok(Json(
        json!({ "request_id": cx.context().request_id.as_deref() }),
    ))
}

async fn one(cx: Cx, _: Event<BellRung>) -> Result<()> {
    note(&cx, "event")
}

async fn many(cx: Cx, _: Event<BellRung>) -> Result<()> {
    note(&cx, "batch")
}

fn bells() -> Service {
    Service::new("bells")
        .state(Seen::default())
        .calls("ears")
        .publishes::<BellRung>()
        .on_start(begins)
        .job("ticks", every(Duration::from_millis(20)), ticks)
        .post("/ring", ring)
        .on(one)
        .on_batch(8, many)
}

#[tokio::test]
async fn every_piece_of_work_has_its_scope_and_a_call_its_request() {
    let seen = Arc::new(Mutex::new(None));
    let found = seen.clone();
    let bells = bells().on_start(move |cx: Cx| {
        *found.lock() = cx.state::<Seen>().ok();
        async { Ok(()) }
    });
    let ears = Service::new("ears").get("/heard", heard);
    let platform = Platform::new("bells").service(bells).service(ears);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start_this(platform, Arc::new(Switches::default()), folder).await;
    let ask = sample
        .ask("bells")
        .with("x-correlation-id", "flow-7")
        .with("x-request-id", "request-7");
    let answer = ask.post("/ring", json!(null)).await;
    assert_eq!(answer.body, json!({ "request_id": "request-7" }));
    assert_eq!(answer.header("x-request-id"), Some("request-7"));

    let seen: Arc<Seen> = seen.lock().take().expect("it has started");
    let places = ["start", "job", "request", "event", "batch"];
    let has = |place: &str| seen.0.lock().iter().any(|(at, ..)| *at == place);
    eventually(SOON, async || places.iter().all(|place| has(place))).await;
    for (place, scope, of) in seen.0.lock().iter() {
        assert_eq!(scope.as_ref(), Some(of), "{place}");
        assert_eq!(of.service, "bells");
        if !matches!(*place, "start" | "job") {
            assert_eq!(of.correlation_id, "flow-7", "{place}");
        }
    }
    sample.stop().await;
}
