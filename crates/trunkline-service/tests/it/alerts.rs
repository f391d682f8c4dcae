//! Dead letters are noticed: a metric, a hook, a webhook.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use trunkline_core::{Error, Event, Result};
use trunkline_service::{Cx, Platform, Service};
use trunkline_testkit::eventually;

use crate::sample::{SOON, Sample, Switches, config};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "pot.thrown", version = "1.0", topic = "pots", key = name)]
struct PotThrown {
    name: String,
}

async fn throw(cx: Cx, Json(name): Json<String>) -> Result<Json<()>> {
    cx.publish(PotThrown { name }).await.map(Json)
}

async fn fire(cx: Cx, _: Event<PotThrown>) -> Result<()> {
    if cx.state::<AtomicBool>()?.load(Ordering::SeqCst) {
        return Ok(());
    }
    Err(Error::invalid("kiln_cold", "the kiln is cold"))
}

/// A name of its own, because all tests of this process share the metrics.
pub(crate) fn pottery(name: &'static str, is_hot: bool) -> Platform {
    let kiln = Service::new(name)
        .state(AtomicBool::new(is_hot))
        .publishes::<PotThrown>()
        .post("/throw", throw)
        .on(fire);
    Platform::new("pottery").service(kiln)
}

async fn metric(sample: &Sample, name: &str, service: &str) -> Option<f64> {
    let labels = format!("{name}{{service=\"{service}\",group=\"{service}\"}} ");
    let text = sample.admin().get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(&labels));
    line.map(|value| value.parse().unwrap())
}

#[tokio::test]
async fn metrics_say_how_many_keys_are_parked_and_since_when() {
    let sample = start(pottery("kiln-a", false), None).await;
    let oldest = async |sample: &Sample| {
        let name = "trunkline_dead_letters_oldest_timestamp_seconds";
        metric(sample, name, "kiln-a").await
    };
    assert_eq!(oldest(&sample).await, Some(0.0));
    for name in ["bowl", "bowl", "cup"] {
        sample.ask("kiln-a").post("/throw", json!(name)).await;
    }
    eventually(SOON, async || sample.letters().await.len() == 3).await;
    let first = sample.letters().await[0]["parked_at"].clone();
    let first: jiff::Timestamp = first.as_str().unwrap().parse().unwrap();
    let expected = Some(first.as_second() as f64);
    eventually(SOON, async || oldest(&sample).await == expected).await;
    let keys = metric(&sample, "trunkline_consumer_parked_keys", "kiln-a").await;
    assert_eq!(keys, Some(2.0));

    // The next process, whose metrics begin at nothing, knows it too; and when the letters are gone, so is the alarm.
    let folder = sample.stop().await;
    let labels = [("service", "kiln-a"), ("group", "kiln-a")];
    metrics::gauge!("trunkline_dead_letters_oldest_timestamp_seconds", &labels).set(0.0);
    let sample = start(pottery("kiln-a", true), Some(folder)).await;
    assert_eq!(oldest(&sample).await, expected);
    let replay = sample
        .admin()
        .post("/api/v1/dead-letters/replay", json!({}));
    assert_eq!(replay.await.body["groups"][0]["freed"], 2);
    assert_eq!(oldest(&sample).await, Some(0.0));
    sample.stop().await;
}

async fn start(platform: Platform, folder: Option<TempDir>) -> Sample {
    let folder = folder.unwrap_or_else(|| tempfile::tempdir().unwrap());
    Sample::start_this(platform, Arc::new(Switches::default()), folder).await
}

/// A webhook that is out of order the first time.
async fn webhook(told: Arc<Mutex<Vec<Value>>>) -> (String, JoinSet<()>) {
    let asked = Arc::new(AtomicU32::new(0));
    let take = move |Json(alert): Json<Value>| async move {
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        told.lock().push(alert);
        StatusCode::OK
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/alerts", listener.local_addr().unwrap());
    let router = Router::new().route("/alerts", post(take));
    let mut server = JoinSet::new();
    server.spawn(trunkline_call::server::serve(
        listener,
        router,
        std::future::pending(),
    ));
    (url, server)
}

#[tokio::test]
async fn a_hook_and_a_webhook_are_told_of_each_key_that_is_parked() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (url, _server) = webhook(told.clone()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = seen.clone();
    let platform = pottery("kiln-b", false).on_dead_letter(move |letter| {
        into.lock().push(letter.key.to_string());
        // That is the hook's own affair.
        assert_ne!(letter.key, "bowl", "a hook that panics");
    });
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.alerts.webhook = Some(url);
    let running = platform.start(config).await.unwrap();
    let ask = crate::sample::Ask::new(running.network().clone(), "kiln-b");
    for name in ["bowl", "bowl", "cup"] {
        ask.clone().post("/throw", json!(name)).await;
    }
    // The second bowl only waits behind the first.
    eventually(SOON, async || told.lock().len() == 2).await;
    assert_eq!(*seen.lock(), ["bowl", "cup"]);
    let alerts = told.lock().clone();
    let keys: Vec<_> = alerts.iter().map(|alert| alert["key"].clone()).collect();
    assert_eq!(keys, ["bowl", "cup"]);
    assert_eq!(alerts[0]["code"], "kiln_cold");
    assert_eq!(alerts[0]["error"], "the kiln is cold");
    assert_eq!(alerts[0]["event_type"], "pot.thrown");
    running.shutdown().await;
}

#[tokio::test]
async fn a_webhook_that_is_none_is_a_mistake_of_the_configuration() {
    for url in ["https://a/b", "nowhere", "/alerts"] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        config.alerts.webhook = Some(url.to_owned());
        let error = pottery("kiln-c", true).start(config).await.unwrap_err();
        assert_eq!(error.code(), "config_invalid", "{url}");
        assert!(error.to_string().contains("alerts.webhook"), "{error}");
    }
}
