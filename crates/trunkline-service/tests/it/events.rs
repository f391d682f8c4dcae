//! Events on their way: retries, dead letters, batches.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_core::{Event, Result};
use trunkline_service::{Cx, Platform, Service};
use trunkline_testkit::eventually;

use crate::sample::{SOON, Sample, Switches};

#[tokio::test]
async fn an_order_flows_through_both_services() {
    let sample = Sample::start().await;
    let order = sample.place("tea").await;
    eventually(SOON, async || sample.status(&order).await == "taken").await;
    assert_eq!(sample.taken("tea").await, [order]);
    eventually(SOON, async || sample.tallied().await == 1).await;
    sample.stop().await;
}

#[tokio::test]
async fn what_fails_is_tried_again_and_has_its_effect_once() {
    let sample = Sample::start().await;
    sample.switches.failures.store(2, Ordering::SeqCst);
    let order = sample.place("flaky").await;
    eventually(SOON, async || sample.status(&order).await == "taken").await;
    assert_eq!(sample.switches.attempts.load(Ordering::SeqCst), 3);
    assert_eq!(sample.taken("flaky").await, [order]);
    assert_eq!(sample.letters().await, Vec::<Value>::new());
    sample.stop().await;
}

#[tokio::test]
async fn a_dead_letter_holds_its_key_and_is_replayed_in_order() {
    let sample = Sample::start().await;
    sample.switches.poisoned.store(1, Ordering::SeqCst);
    let first = sample.place("poison").await;
    let second = sample.place("poison").await;
    let other = sample.place("tea").await;
    eventually(SOON, async || sample.letters().await.len() == 2).await;
    eventually(SOON, async || sample.status(&other).await == "taken").await;
    let letters = sample.letters().await;
    assert_eq!(letters[0]["code"], "item_poisoned", "{letters:?}");
    assert_eq!(
        letters[0]["attempts"], 1,
        "a permanent error is not tried again: {letters:?}"
    );
    assert_eq!(letters[0]["event"]["data"]["order_id"], json!(first));
    assert_eq!(
        letters[1]["error"],
        Value::Null,
        "it only waits: {letters:?}"
    );
    assert_eq!(
        sample.taken("poison").await,
        Vec::<String>::new(),
        "nothing took effect"
    );
    assert_eq!(
        sample.status(&first).await,
        "pending",
        "what a failed handler published is not sent"
    );

    let replay = |body| sample.admin().post("/api/v1/dead-letters/replay", body);
    let would = async || {
        let dry = replay(json!({ "dry_run": true })).await;
        let letters = dry.body["groups"][0]["letters"].as_array().unwrap();
        let outcomes = letters.iter().map(|letter| letter["outcome"].clone());
        (outcomes.collect::<Vec<_>>(), letters[0]["error"].clone())
    };
    let before = sample.letters().await;
    let attempts = sample.switches.attempts.load(Ordering::SeqCst);
    let (outcomes, why) = would().await;
    assert_eq!(outcomes, ["would_fail", "would_wait"]);
    assert_eq!(why, "this item can't be taken");
    let tried = sample.switches.attempts.load(Ordering::SeqCst);
    assert_eq!(tried, attempts + 1, "the handler itself said so");
    assert_eq!(sample.letters().await, before, "no attempt is counted");
    let vain = replay(json!({ "group": "stock" })).await;
    assert_eq!(vain.body["groups"][0]["failed"], 1, "{vain:?}");

    sample.switches.poisoned.store(0, Ordering::SeqCst);
    assert_eq!(would().await.0, ["would_pass", "would_pass"]);
    // What it wrote is undone, and what it published is not sent.
    assert_eq!(sample.taken("poison").await, Vec::<String>::new());
    let done = replay(json!({ "type": "order.placed" })).await;
    assert_eq!(
        (done.status, &done.body["groups"][0]["freed"]),
        (200, &json!(1)),
        "{done:?}"
    );
    assert_eq!(
        sample.taken("poison").await,
        [first.clone(), second.clone()]
    );
    eventually(SOON, async || sample.status(&second).await == "taken").await;
    assert_eq!(sample.letters().await, Vec::<Value>::new());
    let events = async || {
        let told = sample.admin().get("/api/v1/events?type=stock.taken").await;
        told.body["events"].as_array().unwrap().len()
    };
    eventually(SOON, async || events().await >= 3).await;
    assert_eq!(
        events().await,
        3,
        "one for each order, and none of a dry run"
    );
    sample.stop().await;
}

#[tokio::test]
async fn a_dead_letter_is_edited_or_discarded() {
    let sample = Sample::start().await;
    sample.switches.poisoned.store(1, Ordering::SeqCst);
    let order = sample.place("poison").await;
    eventually(SOON, async || sample.letters().await.len() == 1).await;
    let letter = sample.letters().await.remove(0);
    let id = letter["id"].as_str().unwrap().to_owned();
    let edit = format!("/api/v1/dead-letters/{id}/edit");
    let data = json!({ "order_id": order, "item": "tea", "quantity": 1 });
    let edited = sample.admin().post(&edit, json!({ "data": data })).await;
    assert_eq!(edited.body["event"]["data"]["item"], "tea", "{edited:?}");
    assert_eq!(edited.body["original"]["item"], "poison", "{edited:?}");
    sample
        .admin()
        .post("/api/v1/dead-letters/replay", json!({ "id": id }))
        .await;
    eventually(SOON, async || sample.status(&order).await == "taken").await;
    assert_eq!(sample.taken("tea").await, [order]);

    sample.place("poison").await;
    eventually(SOON, async || sample.letters().await.len() == 1).await;
    let id = sample.letters().await[0]["id"].as_str().unwrap().to_owned();
    let discard = format!("/api/v1/dead-letters/{id}/discard");
    let gone = sample.admin().post(&discard, json!(null)).await;
    assert_eq!(gone.body, json!({ "discarded": 1 }), "{gone:?}");
    assert_eq!(sample.admin().post(&discard, json!(null)).await.status, 404);
    assert_eq!(sample.letters().await, Vec::<Value>::new());
    sample.stop().await;
}

#[tokio::test]
async fn one_event_of_a_batch_fails_and_the_others_count() {
    let sample = Sample::start().await;
    for item in ["a", "b", "uncountable", "c"] {
        sample.place(item).await;
    }
    eventually(SOON, async || sample.tallied().await == 3).await;
    eventually(SOON, async || sample.letters().await.len() == 1).await;
    assert_eq!(sample.letters().await[0]["group"], "stock.batch");
    sample.stop().await;
}

#[tokio::test]
async fn an_event_for_later_comes_later() {
    let sample = Sample::start().await;
    let order = sample.place("tea").await;
    let path = format!("/api/v1/orders/{order}/reminders");
    let answer = sample.orders().key("r").post(&path, json!(40)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    eventually(SOON, async || sample.status(&order).await == "reminded").await;
    sample.stop().await;
}

/// A newer version of an event than its handler reads.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "thing.made", version = "2.0", topic = "things", key = name)]
struct ThingMadeTwo {
    name: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "thing.made", version = "1.0", topic = "things", key = name)]
struct ThingMade {
    name: String,
}

async fn make(cx: Cx) -> Result<axum::Json<()>> {
    cx.publish(ThingMadeTwo {
        name: "x".to_owned(),
    })
    .await
    .map(axum::Json)
}

async fn made(_: Cx, event: Event<ThingMade>) -> Result<()> {
    panic!("{event:?} is not one that this handler reads")
}

#[tokio::test]
async fn an_event_that_can_not_be_read_is_a_dead_letter_at_once() {
    let maker = Service::new("maker")
        .publishes::<ThingMadeTwo>()
        .post("/things", make);
    let taker = Service::new("taker").on(made);
    let platform = Platform::new("things").service(maker).service(taker);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start_this(platform, Arc::new(Switches::default()), folder).await;
    sample.ask("maker").post("/things", json!(null)).await;
    eventually(SOON, async || sample.letters().await.len() == 1).await;
    let letter = sample.letters().await.remove(0);
    assert_eq!(
        (&letter["code"], &letter["attempts"]),
        (&json!("event_version_newer"), &json!(1))
    );
    sample.stop().await;
}
