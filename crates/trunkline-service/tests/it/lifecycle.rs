//! Starting again, and stopping.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use trunkline_core::{Error, Result};
use trunkline_service::{Cx, Platform, Service};
use trunkline_testkit::eventually;

use crate::sample::{Ask, SOON, Sample, Switches, config};

#[tokio::test]
async fn what_was_kept_is_there_at_the_next_start() {
    let sample = Sample::start().await;
    let order = sample.place("tea").await;
    eventually(SOON, async || sample.status(&order).await == "taken").await;
    let path = format!("/api/v1/orders/{order}/reminders");
    sample.orders().key("r").post(&path, json!(200)).await;
    let folder = sample.stop().await;

    let sample = Sample::start_in(folder).await;
    eventually(SOON, async || sample.status(&order).await == "reminded").await;
    let events = sample.admin().get("/api/v1/events?type=order.placed").await;
    assert_eq!(
        events.body["events"].as_array().map(Vec::len),
        Some(1),
        "{events:?}"
    );
    sample.stop().await;
}

#[tokio::test]
async fn dead_letters_outlive_the_process() {
    let sample = Sample::start().await;
    sample.switches.poisoned.store(1, Ordering::SeqCst);
    let order = sample.place("poison").await;
    eventually(SOON, async || sample.letters().await.len() == 1).await;
    let sample = Sample::start_in(sample.stop().await).await;
    assert_eq!(sample.letters().await.len(), 1);
    sample
        .admin()
        .post("/api/v1/dead-letters/replay", json!({}))
        .await;
    eventually(SOON, async || sample.status(&order).await == "taken").await;
    sample.stop().await;
}

#[tokio::test]
async fn a_shutdown_lets_handlers_end_and_makes_no_dead_letters() {
    let sample = Sample::start().await;
    sample.place("lingering").await;
    sample.switches.began.notified().await;
    let switches = sample.switches.clone();
    let stopped = sample.stop();
    let let_go = async { switches.go.notify_one() };
    let (folder, ()) = tokio::join!(stopped, let_go);
    let sample = Sample::start_in(folder).await;
    assert_eq!(
        sample.taken("lingering").await.len(),
        1,
        "its work was committed"
    );
    assert_eq!(sample.letters().await, Vec::<Value>::new());
    sample.stop().await;
}

#[tokio::test]
async fn a_handler_that_does_not_end_is_undone_and_makes_no_dead_letter() {
    let switches = Arc::new(Switches::default());
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.shutdown_seconds = 1;
    let running = crate::sample::platform(&switches)
        .start(config)
        .await
        .unwrap();
    let body = json!({ "item": "lingering", "quantity": 1 });
    let ask = Ask::new(running.network().clone(), "orders").key("k");
    assert_eq!(ask.post("/api/v1/orders", body).await.status, 202);
    switches.began.notified().await;
    running.shutdown().await;
    let sample = Sample::start_in(folder).await;
    assert_eq!(sample.letters().await, Vec::<Value>::new());
    assert_eq!(sample.taken("lingering").await, Vec::<String>::new());
    sample.stop().await;
}

async fn first_things(cx: Cx) -> Result<()> {
    let switches = cx.state::<Arc<Switches>>()?;
    switches.runs.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

async fn gone_wrong(_: Cx) -> Result<()> {
    Err(Error::unavailable(
        "catalogue_missing",
        "the catalogue can't be read",
    ))
}

#[tokio::test]
async fn what_a_service_does_at_its_start_is_done_before_anything_reaches_it() {
    let switches = Arc::new(Switches::default());
    let service = || {
        Service::new("a")
            .state(switches.clone())
            .on_start(first_things)
    };
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::new("p").service(service());
    let running = platform.start(config(folder.path())).await.unwrap();
    assert_eq!(switches.runs.load(Ordering::SeqCst), 1);
    running.shutdown().await;

    let platform = Platform::new("p").service(service().on_start(gone_wrong));
    let error = platform.start(config(folder.path())).await.unwrap_err();
    assert_eq!(error.code(), "catalogue_missing");
    assert!(error.to_string().contains("service: a"), "{error}");
    // What had started is stopped again: the folder is free.
    let platform = Platform::new("p").service(service());
    platform
        .start(config(folder.path()))
        .await
        .unwrap()
        .shutdown()
        .await;
}

#[tokio::test]
async fn a_platform_that_is_dropped_holds_nothing_back() {
    let sample = Sample::start().await;
    let network = sample.running.network().clone();
    let before = sample.place("tea").await;
    let Sample {
        running, folder, ..
    } = sample;
    drop(running);
    // Nobody answers any more, though somebody still has the network.
    let gone = Ask::new(network, "orders").try_send(http::Method::GET, "/", Vec::new());
    assert_eq!(gone.await.unwrap_err().code(), "service_unreachable");

    // The next one in its place is not kept waiting by what the last one held: the sending of events, say.
    let sample = Sample::start_in(folder).await;
    let after = sample.place("tea").await;
    for order in [before, after] {
        eventually(SOON, async || sample.status(&order).await == "taken").await;
    }
    sample.stop().await;
}
