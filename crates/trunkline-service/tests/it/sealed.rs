//! Events whose data is encrypted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_core::{Env, Event, Result};
use trunkline_security::{KeyringConfig, Secret};
use trunkline_service::{Config, Cx, Platform, Running, Service};
use trunkline_testkit::eventually;

use crate::ask::Ask;
use crate::sample::{SOON, config};

/// A card was charged.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "card.charged", version = "1.0", topic = "cards", key = payment_id, encrypted)]
struct CardCharged {
    payment_id: String,
    card: String,
}

type Seen = Arc<Mutex<Vec<String>>>;

async fn charge(cx: Cx) -> Result<axum::Json<()>> {
    cx.publish(CardCharged {
        payment_id: "p-1".to_owned(),
        card: "4111-1111".to_owned(),
    })
    .await
    .map(axum::Json)
}

async fn charged(cx: Cx, event: Event<CardCharged>) -> Result<()> {
    cx.state::<Seen>()?.lock().push(event.data.card);
    Ok(())
}

fn platform(seen: &Seen) -> Platform {
    let payments = Service::new("payments")
        .publishes::<CardCharged>()
        .post("/charges", charge);
    let ledger = Service::new("ledger").state(seen.clone()).on(charged);
    Platform::new("pay").service(payments).service(ledger)
}

fn with_keys(folder: &Path) -> Config {
    let path = folder.join("key");
    Secret::load_or_create(&path, &Env::system()).unwrap();
    let mut config = config(folder);
    let open = BTreeMap::from([("k1".to_owned(), format!("file:{}", path.display()))]);
    config.keys = Some(KeyringConfig::new("k1", open));
    config
}

async fn trail(running: &Running) -> String {
    let admin = Ask::at(running.admin_address());
    admin.get("/api/v1/events").await.text
}

#[tokio::test]
async fn whoever_handles_it_reads_it_and_nobody_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let seen = Seen::default();
    let running = platform(&seen)
        .start(with_keys(folder.path()))
        .await
        .unwrap();
    let payments = Ask::new(running.network().clone(), "payments");
    payments.post("/charges", json!(null)).await;
    eventually(SOON, async || seen.lock().len() == 1).await;
    assert_eq!(*seen.lock(), ["4111-1111"]);
    let mut shown = String::new();
    eventually(SOON, async || {
        shown = trail(&running).await;
        shown.contains("card.charged")
    })
    .await;
    assert!(
        shown.contains("ciphertext") && !shown.contains("4111"),
        "{shown}"
    );
    running.shutdown().await;
    for file in std::fs::read_dir(folder.path().join("data")).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes.windows(9).any(|window| window == b"4111-1111");
        assert!(!found, "{}", path.display());
    }
}

#[tokio::test]
async fn without_keys_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let error = platform(&Seen::default())
        .start(config(folder.path()))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "keys_missing");
    assert!(error.to_string().contains("card.charged"), "{error}");
    let mut wrong = with_keys(folder.path());
    wrong.keys.as_mut().unwrap().seals = "k2".to_owned();
    let error = platform(&Seen::default()).start(wrong).await.unwrap_err();
    assert_eq!(error.code(), "key_invalid");
}
