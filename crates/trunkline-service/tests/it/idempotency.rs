//! Idempotency keys over HTTP: one effect, one answer.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use trunkline_testkit::eventually;

use crate::sample::{Answer, SOON, Sample};

fn tea() -> Value {
    json!({ "item": "tea", "quantity": 1 })
}

async fn order(sample: &Sample, key: &str, body: Value) -> Answer {
    sample.orders().key(key).post("/api/v1/orders", body).await
}

async fn count(sample: &Sample) -> Value {
    sample.orders().get("/api/v1/orders").await.body
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_and_has_one_effect() {
    let sample = Sample::start().await;
    let first = order(&sample, "a", tea()).await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = order(&sample, "a", tea()).await;
    assert_eq!((again.status, &again.text), (202, &first.text));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("content-type"), Some("application/json"));
    assert_eq!(count(&sample).await, json!(1));
    let other = order(&sample, "b", tea()).await;
    assert_ne!(other.text, first.text);
    assert_eq!(count(&sample).await, json!(2));
    sample.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_body_one_path_and_one_user() {
    let sample = Sample::start().await;
    assert_eq!(order(&sample, "a", tea()).await.status, 202);
    let answer = order(&sample, "a", json!({ "item": "tea", "quantity": 2 })).await;
    assert_eq!(
        (answer.status, answer.code()),
        (422, "idempotency_key_reused"),
        "{answer:?}"
    );
    let ask = sample.orders().key("a").with("x-user-id", "ann");
    let answer = ask.post("/api/v1/orders", tea()).await;
    assert_eq!(
        (answer.status, answer.header("idempotency-replayed")),
        (202, None)
    );

    let remind = |order: &'static str| {
        let path = format!("/api/v1/orders/{order}/reminders");
        let ask = sample.orders().key("r");
        async move { ask.post(&path, json!(60_000)).await }
    };
    assert_eq!(remind("one").await.status, 200);
    let answer = remind("two").await;
    assert_eq!(
        (answer.status, answer.code()),
        (422, "idempotency_key_reused"),
        "{answer:?}"
    );

    let answer = sample.orders().post("/api/v1/orders", tea()).await;
    assert_eq!(
        (answer.status, answer.code()),
        (422, "idempotency_key_invalid"),
        "{answer:?}"
    );
    sample.stop().await;
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_a_failure_is_none() {
    let sample = Sample::start().await;
    let none = json!({ "item": "tea", "quantity": 0 });
    let first = order(&sample, "a", none.clone()).await;
    assert_eq!(first.code(), "quantity_out_of_range");
    let again = order(&sample, "a", none).await;
    assert_eq!((again.status, again.text), (first.status, first.text));
    assert_eq!(again.headers.get("idempotency-replayed").unwrap(), "true");

    sample.switches.failures.store(1, Ordering::SeqCst);
    let broken = json!({ "item": "broken", "quantity": 1 });
    assert_eq!(order(&sample, "b", broken.clone()).await.status, 503);
    let again = order(&sample, "b", broken).await;
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (202, None),
        "{again:?}"
    );
    assert_eq!(count(&sample).await, json!(1));
    sample.stop().await;
}

#[tokio::test]
async fn while_one_runs_the_other_is_told_so() {
    let sample = Sample::start().await;
    let slow = json!({ "item": "slow", "quantity": 1 });
    let first = async {
        let answer = order(&sample, "a", slow.clone()).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    };
    let second = async {
        sample.switches.began.notified().await;
        let answer = order(&sample, "a", slow.clone()).await;
        assert_eq!(
            (answer.status, answer.code()),
            (409, "idempotency_key_running"),
            "{answer:?}"
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
        sample.switches.go.notify_one();
    };
    tokio::join!(first, second);
    assert_eq!(count(&sample).await, json!(1));
    sample.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_key_back() {
    let sample = Sample::start().await;
    let slow = json!({ "item": "slow", "quantity": 1 });
    tokio::select! {
        _ = order(&sample, "a", slow.clone()) => panic!("it waits to be let go"),
        () = sample.switches.began.notified() => {}
    }
    eventually(SOON, async || {
        // Either it is still running, or it begins anew and waits to be let go.
        sample.switches.go.notify_one();
        order(&sample, "a", slow.clone()).await.status == 202
    })
    .await;
    assert_eq!(count(&sample).await, json!(1));
    sample.stop().await;
}

#[tokio::test]
async fn a_key_outlives_the_process_and_a_crash_frees_it() {
    let sample = Sample::start().await;
    let first = order(&sample, "a", tea()).await;
    let slow = json!({ "item": "slow", "quantity": 1 });
    tokio::select! {
        _ = order(&sample, "b", slow.clone()) => panic!("it waits to be let go"),
        () = sample.switches.began.notified() => {}
    }
    let Sample {
        running, folder, ..
    } = sample;
    // As if the process were killed.
    drop(running);

    let sample = Sample::start_in(folder).await;
    let again = order(&sample, "a", tea()).await;
    assert_eq!(
        (&again.text, again.header("idempotency-replayed")),
        (&first.text, Some("true"))
    );
    sample.switches.go.notify_one();
    assert_eq!(order(&sample, "b", slow).await.status, 202);
    assert_eq!(count(&sample).await, json!(2));
    sample.stop().await;
}

#[tokio::test]
async fn what_a_request_makes_has_the_same_id_when_it_comes_again() {
    let sample = Sample::start().await;
    let broken = json!({ "item": "broken", "quantity": 1 });
    for key in ["a", "b"] {
        // What fails here gives its key back, as a crash does when its lease ends.
        sample.switches.failures.store(1, Ordering::SeqCst);
        assert_eq!(order(&sample, key, broken.clone()).await.status, 503);
        let made = order(&sample, key, broken.clone()).await;
        assert_eq!(made.status, 202, "{made:?}");
        let ids = std::mem::take(&mut *sample.switches.ids.lock().unwrap());
        assert_eq!(ids.len(), 2);
        assert_eq!(ids[0], ids[1]);
        assert_eq!(made.body["order_id"], json!(ids[0]));
    }
    let (first, second) = (
        order(&sample, "a", broken.clone()),
        order(&sample, "b", broken.clone()),
    );
    let (first, second) = tokio::join!(first, second);
    assert_ne!(first.body["order_id"], second.body["order_id"]);
    sample.stop().await;
}
