//! Aggregates in a service: handlers decide, conflicts are decided again, and tables follow.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_core::{Error, Result};
use trunkline_service::{Cx, Platform, Service};
use trunkline_store::{Aggregate, EventType, Projection, Recorded, Target, sql};
use trunkline_testkit::eventually;

use crate::sample::{SOON, Sample, Switches};

/// A count that never comes above ten.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counter {
    value: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Raised(u32),
}

impl Aggregate for Counter {
    type Event = Event;
    const KIND: &'static str = "counter";
    const EVENTS: &'static [EventType] = &[EventType::new("raised")];

    fn apply(&mut self, event: &Event) {
        let Event::Raised(by) = event;
        self.value += by;
    }
}

struct Totals;

impl Projection for Totals {
    type Aggregate = Counter;
    const NAME: &'static str = "totals";
    const TABLES: &'static [&'static str] = &["total"];
    const CREATE: &'static str =
        "CREATE TABLE {total} (counter TEXT PRIMARY KEY, value BIGINT NOT NULL)";

    async fn apply(&self, event: &Recorded<Event>, target: &mut Target<'_>) -> Result<()> {
        let Event::Raised(by) = event.event;
        let total = target.sql(
            "INSERT INTO {total} (counter, value) VALUES ($1, $2) \
             ON CONFLICT (counter) DO UPDATE SET value = {total}.value + $2",
        );
        total.bind(&event.id).bind(by).run(target.conn()).await?;
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Raise {
    by: u32,
}

async fn raise(cx: Cx, Path(id): Path<String>, Json(input): Json<Raise>) -> Result<Json<Value>> {
    let counter = cx
        .change::<Counter>(&id, |counter| {
            if counter.state().value + input.by > 10 {
                return Err(Error::conflict("full", "it would come above ten"));
            }
            Ok(vec![Event::Raised(input.by)])
        })
        .await?;
    Ok(Json(
        json!({ "value": counter.state().value, "version": counter.version() }),
    ))
}

async fn total(cx: Cx, Path(id): Path<String>) -> Result<Json<Value>> {
    let mut reader = cx.read().await?;
    let total = sql("SELECT value FROM total WHERE counter = $1").bind(&id);
    let total = total.first::<(i64,)>(&mut reader).await?;
    Ok(Json(json!({ "total": total.map_or(0, |(value,)| value) })))
}

async fn at(cx: Cx, Path((id, version)): Path<(String, u64)>) -> Result<Json<Value>> {
    let counter = cx.aggregates::<Counter>().at_version(&id, version).await?;
    Ok(Json(json!({ "value": counter.state().value })))
}

fn platform() -> Platform {
    let service = Service::new("counters")
        .projection(Totals)
        .post("/counters/{id}", raise)
        .get("/counters/{id}/total", total)
        .get("/counters/{id}/versions/{version}", at);
    Platform::new("counting").service(service)
}

async fn start(folder: tempfile::TempDir) -> Sample {
    let switches = Arc::new(Switches::default());
    Sample::start_this(platform(), switches, folder).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_decide_by_state_and_tables_follow() {
    let sample = start(tempfile::tempdir().unwrap()).await;
    let ask = || sample.ask("counters");
    let raises = join_all((0..14).map(|_| ask().post("/counters/a", json!({ "by": 1 })))).await;
    let done = raises.iter().filter(|answer| answer.status == 200).count();
    let full = raises
        .iter()
        .filter(|answer| answer.body["code"] == "full")
        .count();
    assert_eq!((done, full), (10, 4), "{raises:?}");
    let followed = async || ask().get("/counters/a/total").await.body["total"] == 10;
    eventually(SOON, followed).await;
    for version in 0..=10 {
        let answer = ask().get(&format!("/counters/a/versions/{version}")).await;
        assert_eq!(answer.body["value"], version);
    }
    let beyond = ask().get("/counters/a/versions/11").await;
    assert_eq!(
        (beyond.status, &beyond.body["code"]),
        (404, &json!("version_not_found"))
    );
    rebuilt_by_hand(&sample).await;
    assert_eq!(ask().get("/counters/a/total").await.body["total"], 10);
    // It is all there again after a start.
    let folder = sample.stop().await;
    let sample = start(folder).await;
    assert_eq!(
        sample.ask("counters").get("/counters/a/total").await.body["total"],
        10
    );
}

/// Somebody has the totals built anew by the admin API, and watches until they are.
async fn rebuilt_by_hand(sample: &Sample) {
    let admin = || sample.admin();
    let path = "/api/v1/projections/counters/totals/rebuild";
    let begun = admin().post(path, json!({ "by": "ann" })).await;
    assert_eq!(begun.body["done"], "rebuild", "{begun:?}");
    eventually(SOON, async || {
        let answer = admin().get("/api/v1/projections").await;
        let totals = &answer.body["projections"][0];
        assert_eq!(
            (&totals["service"], &totals["name"], &totals["position"]),
            (&json!("counters"), &json!("totals"), &json!(10))
        );
        totals["rebuilding"].is_null()
    })
    .await;
    let noted = admin().get("/api/v1/audit?action=projection.rebuild").await;
    let entry = &noted.body["entries"][0];
    assert_eq!(
        (&entry["actor"], &entry["object"]),
        (&json!("ann"), &json!("projection totals"))
    );
    for (path, code) in [
        ("counters/odd", "projection_unknown"),
        ("odd/totals", "projection_service_unknown"),
    ] {
        let path = format!("/api/v1/projections/{path}/rebuild");
        let refused = admin().post(&path, json!({})).await;
        assert_eq!((refused.status, &refused.body["code"]), (404, &json!(code)));
    }
}
