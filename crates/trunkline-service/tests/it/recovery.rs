//! Dead letters that their service decides about by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::Json;
use jiff::Timestamp;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;
use trunkline_bus::DeadLetter;
use trunkline_core::{Error, Event, Result, Retry};
use trunkline_service::{Config, Cx, Platform, Recovery, Service};
use trunkline_testkit::eventually;

use crate::sample::{SOON, Sample, Switches};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "parcel.sent", version = "1.0", topic = "parcels", key = to)]
struct ParcelSent {
    to: String,
    number: u32,
}

/// How the depot is, and what it did.
#[derive(Debug, Default)]
struct Depot {
    is_down: AtomicBool,
    /// So often the handler of dead letters panics first.
    panics: AtomicU32,
    /// Who comes to the event's handler, or to that of dead letters, says so and waits for ever.
    holds_event: AtomicBool,
    holds_letter: AtomicBool,
    held: Notify,
    delivered: Mutex<Vec<u32>>,
    /// Number, attempts and recoveries of each letter that was asked about.
    asked: Mutex<Vec<(u32, u32, u32)>>,
}

async fn send(cx: Cx, Json(parcel): Json<ParcelSent>) -> Result<Json<()>> {
    cx.publish(parcel).await.map(Json)
}

async fn deliver(cx: Cx, event: Event<ParcelSent>) -> Result<()> {
    let depot = cx.state::<Arc<Depot>>()?;
    if event.data.to == "nowhere" {
        return Err(Error::invalid("address_unknown", "there is no such place"));
    }
    if depot.holds_event.load(Ordering::SeqCst) {
        depot.held.notify_one();
        std::future::pending::<()>().await;
    }
    if depot.is_down.load(Ordering::SeqCst) {
        return Err(Error::unavailable("belt_down", "the belt does not move"));
    }
    depot.delivered.lock().push(event.data.number);
    Ok(())
}

async fn undelivered(cx: Cx, letter: DeadLetter) -> Result<Recovery> {
    let depot = cx.state::<Arc<Depot>>()?;
    let parcel: ParcelSent = serde_json::from_slice(&letter.envelope.data).unwrap();
    let asked = (parcel.number, letter.attempts, letter.recoveries);
    depot.asked.lock().push(asked);
    cx.audit("parcel.undelivered", &format!("parcel {}", parcel.number))?;
    // The transaction is open, so that something is undone if this comes to nothing.
    drop(cx.tx().await?);
    if depot.holds_letter.load(Ordering::SeqCst) {
        depot.held.notify_one();
        std::future::pending::<()>().await;
    }
    if depot.panics.load(Ordering::SeqCst) > 0 {
        depot.panics.fetch_sub(1, Ordering::SeqCst);
        panic!("on purpose");
    }
    if parcel.to == "nobody" {
        return Err(Error::internal("whose is it?"));
    }
    Ok(match letter.retry {
        Some(Retry::Transient) => Recovery::Retry,
        _ => Recovery::Keep,
    })
}

fn platform(depot: &Arc<Depot>) -> Platform {
    let service = Service::new("depot")
        .state(depot.clone())
        .publishes::<ParcelSent>()
        .post("/send", send)
        .on(deliver)
        .on_dead_letter(undelivered);
    Platform::new("post").service(service)
}

async fn start_in(folder: TempDir, depot: &Arc<Depot>, set: impl FnOnce(&mut Config)) -> Sample {
    let parts = (Arc::new(Switches::default()), folder);
    Sample::start_with(platform(depot), parts, set).await
}

async fn start(depot: &Arc<Depot>, set: impl FnOnce(&mut Config)) -> Sample {
    start_in(tempfile::tempdir().unwrap(), depot, set).await
}

async fn sends(sample: &Sample, to: &str, number: u32) {
    let parcel = json!({ "to": to, "number": number });
    let answer = sample.ask("depot").post("/send", parcel).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The objects of the audit log's entries of this action.
async fn audited(sample: &Sample, action: &str) -> Vec<Value> {
    let told = sample.admin().get("/api/v1/audit").await;
    let entries = told.body["entries"].as_array().unwrap().iter();
    entries
        .filter(|entry| entry["action"] == action)
        .map(|entry| entry["object"].clone())
        .collect()
}

async fn decided(sample: &Sample) -> Value {
    eventually(SOON, async || {
        let letters = sample.letters().await;
        letters
            .first()
            .is_some_and(|letter| !letter["decided_at"].is_null())
    })
    .await;
    sample.letters().await.remove(0)
}

/// In minutes.
fn pause(letter: &Value) -> i64 {
    let at = |name: &str| letter[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    let pause = at("retry_at").duration_since(at("decided_at"));
    (pause.as_secs() + 30) / 60
}

#[tokio::test]
async fn what_is_transient_is_recovered_in_order_when_its_cause_is_gone() {
    let depot = Arc::new(Depot::default());
    depot.is_down.store(true, Ordering::SeqCst);
    let sample = start(&depot, |config| {
        config.events.recovery_initial_ms = 5;
        config.events.recovery_max_ms = 20;
        config.events.recoveries_max = 1_000;
    })
    .await;
    for number in 1..=3 {
        sends(&sample, "ada", number).await;
    }
    sends(&sample, "bob", 4).await;
    // It has been tried in vain.
    eventually(SOON, async || {
        let asked = depot.asked.lock();
        [1, 4].iter().all(|one| {
            asked
                .iter()
                .any(|(n, _, recoveries)| n == one && *recoveries > 1)
        })
    })
    .await;
    assert!(depot.delivered.lock().is_empty());
    depot.is_down.store(false, Ordering::SeqCst);
    eventually(SOON, async || sample.letters().await.is_empty()).await;
    let delivered = depot.delivered.lock().clone();
    let adas: Vec<_> = delivered.iter().filter(|number| **number < 4).collect();
    assert_eq!(adas, [&1, &2, &3]);
    assert_eq!(delivered.len(), 4);
    let asked = depot.asked.lock().clone();
    assert!(
        !asked.iter().any(|(number, ..)| [2, 3].contains(number)),
        "they only waited: {asked:?}"
    );
    assert_eq!(
        audited(&sample, "parcel.undelivered").await.len(),
        asked.len()
    );
    // The key is free.
    sends(&sample, "ada", 5).await;
    eventually(SOON, async || depot.delivered.lock().last() == Some(&5)).await;
    sample.stop().await;
}

#[tokio::test]
async fn what_dies_again_and_again_is_kept_in_the_end() {
    let depot = Arc::new(Depot::default());
    depot.is_down.store(true, Ordering::SeqCst);
    let sample = start(&depot, |config| {
        config.events.recovery_initial_ms = 1;
        config.events.recoveries_max = 2;
    })
    .await;
    sends(&sample, "ada", 1).await;
    eventually(SOON, async || {
        let letters = sample.letters().await;
        letters
            .first()
            .is_some_and(|letter| letter["recoveries"] == 2 && letter["attempts"] == 5)
            && !letters[0]["decided_at"].is_null()
    })
    .await;
    let letter = sample.letters().await.remove(0);
    assert_eq!(letter["retry_at"], Value::Null, "{letter}");
    assert_eq!(letter["retry"], "transient");
    assert_eq!(*depot.asked.lock(), [(1, 3, 0), (1, 4, 1), (1, 5, 2)]);
    assert_eq!(audited(&sample, "parcel.undelivered").await.len(), 3);
    // A person still may.
    depot.is_down.store(false, Ordering::SeqCst);
    let replay = sample
        .admin()
        .post("/api/v1/dead-letters/replay", json!({}));
    assert_eq!(replay.await.body["groups"][0]["freed"], 1);
    sample.stop().await;
}

#[tokio::test]
async fn what_is_permanent_is_kept_and_pauses_double() {
    let depot = Arc::new(Depot::default());
    depot.is_down.store(true, Ordering::SeqCst);
    let sample = start(&depot, |config| {
        config.events.recovery_initial_ms = 3_600_000;
        config.events.recovery_max_ms = 3 * 3_600_000;
    })
    .await;
    sends(&sample, "nowhere", 1).await;
    let letter = decided(&sample).await;
    assert_eq!(
        (&letter["retry_at"], &letter["recoveries"]),
        (&Value::Null, &json!(0))
    );
    assert_eq!(letter["retry"], "permanent");
    let id = letter["id"].as_str().unwrap();
    let discard = format!("/api/v1/dead-letters/{id}/discard");
    sample.admin().post(&discard, json!(null)).await;

    sends(&sample, "ada", 2).await;
    let mut minutes = Vec::new();
    for _ in 0..3 {
        minutes.push(pause(&decided(&sample).await));
        // What fails by hand is decided about as well.
        let failed = depot.asked.lock().len();
        let replay = sample
            .admin()
            .post("/api/v1/dead-letters/replay", json!({}));
        assert_eq!(replay.await.body["groups"][0]["failed"], 1);
        eventually(SOON, async || depot.asked.lock().len() > failed).await;
    }
    assert_eq!(minutes, [60, 120, 180]);
    sample.stop().await;
}

#[tokio::test]
async fn a_letter_whose_process_died_before_it_decided_is_decided_about_at_the_next_start() {
    let depot = Arc::new(Depot::default());
    depot.holds_letter.store(true, Ordering::SeqCst);
    let sample = start(&depot, |_| {}).await;
    sends(&sample, "nowhere", 1).await;
    depot.held.notified().await;
    // Dropped, it is as if it were killed.
    let folder = sample.folder;
    drop(sample.running);
    depot.holds_letter.store(false, Ordering::SeqCst);
    let sample = start_in(folder, &depot, |_| {}).await;
    decided(&sample).await;
    assert_eq!(depot.asked.lock().len(), 2);
    assert_eq!(audited(&sample, "parcel.undelivered").await, ["parcel 1"]);
    // And once: not at each start.
    let folder = sample.stop().await;
    let sample = start_in(folder, &depot, |_| {}).await;
    sends(&sample, "nowhere", 2).await;
    sends(&sample, "elsewhere", 3).await;
    eventually(SOON, async || depot.delivered.lock().len() == 1).await;
    assert_eq!(depot.asked.lock().len(), 2);
    sample.stop().await;
}

#[tokio::test]
async fn a_letter_whose_process_died_while_it_was_recovered_is_recovered_at_the_next_start() {
    let depot = Arc::new(Depot::default());
    depot.is_down.store(true, Ordering::SeqCst);
    let soon = |config: &mut Config| config.events.recovery_initial_ms = 3_600_000;
    let sample = start(&depot, soon).await;
    sends(&sample, "ada", 1).await;
    decided(&sample).await;
    let folder = sample.stop().await;

    // Its time has come, and somebody dies in the middle of it.
    let store = folder.path().join("data/depot.db");
    let url = format!("sqlite:{}", store.display());
    let env = trunkline_core::Env::system();
    let store = trunkline_store::Store::open(&url, "depot", env)
        .await
        .unwrap();
    let mut tx = store.begin().await.unwrap();
    sqlx::query("UPDATE trunkline_dead_letter SET retry_at = 1")
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    store.close().await;
    depot.holds_event.store(true, Ordering::SeqCst);
    let sample = start_in(folder, &depot, soon).await;
    depot.held.notified().await;
    let folder = sample.folder;
    drop(sample.running);

    depot.holds_event.store(false, Ordering::SeqCst);
    depot.is_down.store(false, Ordering::SeqCst);
    let sample = start_in(folder, &depot, soon).await;
    eventually(SOON, async || sample.letters().await.is_empty()).await;
    assert_eq!(*depot.delivered.lock(), [1]);
    assert_eq!(*depot.asked.lock(), [(1, 3, 0)], "it was decided once");
    sample.stop().await;
}

#[tokio::test]
async fn a_handler_that_fails_is_tried_again_and_then_the_letter_is_kept() {
    let depot = Arc::new(Depot::default());
    depot.panics.store(1, Ordering::SeqCst);
    let sample = start(&depot, |_| {}).await;
    depot.is_down.store(true, Ordering::SeqCst);
    sends(&sample, "nobody", 1).await;
    let letter = decided(&sample).await;
    assert_eq!(letter["retry_at"], Value::Null);
    assert_eq!(*depot.asked.lock(), [(1, 3, 0); 3]);
    // What it did is undone each time; that it failed is told.
    assert_eq!(
        audited(&sample, "parcel.undelivered").await,
        [] as [Value; 0]
    );
    let told = audited(&sample, "dead_letter.decide").await;
    let event = letter["event"]["id"].as_str().unwrap();
    assert_eq!(told, [json!(format!("parcel.sent {event}"))]);
    sample.stop().await;
}
