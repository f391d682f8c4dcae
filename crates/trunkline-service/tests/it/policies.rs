//! How services are called: declared, configured, and read again while the platform runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Json;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;
use trunkline_call::policy::Operation;
use trunkline_core::{Error, Result};
use trunkline_service::{Config, Cx, Platform, Service};
use trunkline_testkit::eventually;

use crate::sample::{Ask, SOON};

#[derive(Default)]
struct Asked(AtomicU32);

async fn busy(cx: Cx) -> Result<Json<()>> {
    cx.state::<Arc<Asked>>()?.0.fetch_add(1, Ordering::SeqCst);
    Err(Error::unavailable("busy", "not now"))
}

/// How many seconds whoever asks goes on waiting.
async fn left(cx: Cx) -> Result<Json<u64>> {
    let left = cx.context().remaining(cx.env());
    Ok(Json(left.unwrap_or_default().as_secs()))
}

/// How often the other was asked.
async fn asks(cx: Cx) -> Result<Json<u32>> {
    let asked = cx.state::<Arc<Asked>>()?;
    let before = asked.0.load(Ordering::SeqCst);
    let answer = cx.service("back")?.get("/api/v1/busy").send_empty().await;
    answer.unwrap_err();
    Ok(Json(asked.0.load(Ordering::SeqCst) - before))
}

async fn waits(cx: Cx) -> Result<Json<[u64; 2]>> {
    let back = cx.service("back")?;
    Ok(Json([
        back.get("/api/v1/left").send().await?,
        back.get("/api/v1/left/short").send().await?,
    ]))
}

fn platform() -> Platform {
    let asked = Arc::new(Asked::default());
    let back = Service::new("back")
        .operation("GET /api/v1/left", Operation::new().timeout(SOON))
        .get("/api/v1/left", left)
        .get("/api/v1/left/short", left)
        .get("/api/v1/busy", busy)
        .state(asked.clone());
    let front = Service::new("front")
        .calls("back")
        .operation("GET /api/v1/waits", Operation::new().timeout(SOON))
        .get("/api/v1/asks", asks)
        .get("/api/v1/waits", waits)
        .state(asked);
    Platform::new("policies").service(front).service(back)
}

fn text(folder: &tempfile::TempDir, attempts_max: u32) -> String {
    let data = folder.path().display();
    format!(
        "data = \"{data}\"\nbus = \"memory:\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [call.\"*\"]\nretry_initial_ms = 1\nbreaker = {{ failures_max = 0, rate_percent = 0 }}\n\
         [call.back]\nattempts_max = {attempts_max}\n"
    )
}

#[tokio::test]
async fn what_is_configured_is_read_again_at_a_hangup_and_a_mistake_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trunkline.toml");
    std::fs::write(&path, text(&folder, 1)).unwrap();
    let config = Config::load(Some(&path), []).unwrap();
    let running = platform().start(config).await.unwrap();
    let front = || Ask::new(running.network().clone(), "front");
    assert_eq!(front().get("/api/v1/asks").await.body, json!(1));

    std::fs::write(&path, text(&folder, 2)).unwrap();
    kill_process(getpid(), Signal::HUP).unwrap();
    eventually(SOON, async || {
        front().get("/api/v1/asks").await.body == json!(2)
    })
    .await;

    std::fs::write(&path, "[call.back]\nattempts = 3\n").unwrap();
    kill_process(getpid(), Signal::HUP).unwrap();
    assert_eq!(front().get("/api/v1/asks").await.body, json!(2));
    // What the target declares holds on both ends, and what nothing is said of has its default.
    let waits = front().get("/api/v1/waits").await.body;
    let seconds: [u64; 2] = serde_json::from_value(waits).unwrap();
    assert!(seconds[0] > 10 && seconds[1] < 5, "{seconds:?}");
    running.shutdown().await;
}

#[tokio::test]
async fn a_target_or_an_operation_that_is_none_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trunkline.toml");
    std::fs::write(&path, text(&folder, 1).replace("call.back", "call.bakc")).unwrap();
    let config = Config::load(Some(&path), []).unwrap();
    let error = platform().start(config).await.unwrap_err().to_string();
    assert!(
        error.contains("call.bakc") && error.contains("back"),
        "{error}"
    );
    let service = Service::new("a").operation("FETCH", Operation::new());
    let error = Platform::new("p").service(service).check().unwrap_err();
    assert!(error.to_string().contains("GET /api/v1"), "{error}");
}
