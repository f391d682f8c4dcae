//! Orders by orchestration: whatever the store does by choreography, and what only a saga has to bear.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use storefront::order::OrderFlow;
use trunkline::saga::State;
use trunkline::{Client, Context, Env, Program as _};
use trunkline_testkit::eventually;
use trunkline_testkit::saga::{Switch, exhaust};

use crate::store::{CONFIG, SOON, TEA_SET, TestStore, by};

async fn store(config: &str) -> TestStore {
    TestStore::start_with(&by(OrderFlow::Orchestration, config)).await
}

crate::flows::flows!(store);

mod on_postgres {
    use crate::postgres::on_postgres;
    use crate::store::TestStore;

    async fn store(config: &str) -> TestStore {
        super::store(&on_postgres(config)).await
    }

    crate::flows::flows!(store);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_paid_bears_every_fault() {
    bears_every_fault("tok_visa").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_not_paid_bears_every_fault() {
    bears_every_fault("tok_declined").await;
}

async fn bears_every_fault(card: &str) {
    let switch = Arc::new(Switch::default());
    let probe = switch.clone();
    let config = by(OrderFlow::Orchestration, CONFIG);
    let folder = tempfile::tempdir().unwrap();
    let shop = TestStore::extended(folder, &config, |platform| platform.saga_probe(probe)).await;
    let count = AtomicUsize::new(0);
    let (shop, switch, count) = (&shop, &switch, &count);
    let runs = exhaust(|about, probe| async move {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let buyer = shop.user(&format!("buyer{number}"));
        buyer.pay_with(card).await;
        let (on_hand, held, _) = shop.availability(TEA_SET).await;
        assert_eq!(held, 0, "before {about}");
        switch.set(probe);
        let accepted = buyer.order("k", TEA_SET, 1).await.expect(202);
        let order_id = accepted["order_id"].as_str().unwrap();
        let order = buyer.ended(order_id).await;
        let saga = shop.saga(order_id).await.unwrap();
        let (left, charged) = match order["status"] == "confirmed" {
            true => (on_hand - 1, &["succeeded"][..]),
            false => (on_hand, &[][..]),
        };
        eventually(SOON, async || {
            let mut charges = shop.charges(order_id).await;
            charges.retain(|charge| charge["status"] == "succeeded");
            let charges: Vec<_> = charges.iter().map(|charge| &charge["status"]).collect();
            shop.availability(TEA_SET).await == (left, 0, left) && charges == charged
        })
        .await;
        eventually(SOON, async || !ends_of(shop, order_id).await.is_empty()).await;
        let ended = ends_of(shop, order_id).await;
        assert_eq!(ended.len(), 1, "{about}: {ended:?}");
        state(&saga)
    })
    .await;
    assert!(runs > 30, "{runs} runs");
}

/// What was said of an order's end.
async fn ends_of(shop: &TestStore, order_id: &str) -> Vec<Value> {
    let mut ends = shop.all_events("order.confirmed").await;
    ends.extend(shop.all_events("order.failed").await);
    ends.retain(|event| event["data"]["order_id"] == order_id);
    ends
}

fn state(saga: &Value) -> State {
    serde_json::from_value(saga["state"].clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_to_its_end_as_it_began() {
    // The provider answers late, and is asked again only after the next start.
    let config = "[service.payment-service]\ntimeout_ms = 200\nask_again_ms = 1500\n";
    let flows = [OrderFlow::Choreography, OrderFlow::Orchestration];
    for (began, then) in [(flows[0], flows[1]), (flows[1], flows[0])] {
        let shop = TestStore::start_with(&by(began, config)).await;
        let ann = shop.user("ann");
        ann.pay_with("tok_late").await;
        let accepted = ann.order("k", TEA_SET, 1).await.expect(202);
        let order_id = accepted["order_id"].as_str().unwrap();
        shop.order_event("order.created", &accepted).await;
        assert_eq!(ann.order_state(order_id).await["status"], "pending");
        let folder = shop.stop().await;

        let shop = TestStore::start_in(folder, &by(then, config)).await;
        let ann = shop.user("ann");
        assert_eq!(ann.ended(order_id).await["status"], "confirmed");
        let has_saga = shop.saga(order_id).await.is_some();
        assert_eq!(has_saga, began == OrderFlow::Orchestration);
        ann.pay_with("tok_visa").await;
        let next = ann.order("k2", TEA_SET, 1).await.expect(202);
        let next = next["order_id"].as_str().unwrap();
        assert_eq!(ann.ended(next).await["status"], "confirmed");
        let has_saga = shop.saga(next).await.is_some();
        assert_eq!(has_saga, then == OrderFlow::Orchestration);
        shop.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_cancelled_gives_everything_back() {
    // The provider is asked for longer than the test waits.
    let config = "[service.payment-service]\ntimeout_ms = 200\nask_again_ms = 20000\n";
    let shop = store(config).await;
    let ann = shop.user("ann");
    let before = shop.availability(TEA_SET).await;
    ann.pay_with("tok_timeout").await;
    let accepted = ann.order("k", TEA_SET, 2).await.expect(202);
    let order_id = accepted["order_id"].as_str().unwrap();
    shop.event("payment.reconcile").await;

    let sagas = format!("/api/v1/sagas?key={order_id}");
    let sagas = shop.admin.get(&sagas).await.expect(200);
    let id = sagas["sagas"][0]["id"].as_str().unwrap();
    let cancel = format!("/api/v1/sagas/order-service/{id}/cancel");
    let why = json!({ "why": "the customer called" });
    shop.admin.post(&cancel, why).await.expect(200);
    let order = ann.ended(order_id).await;
    assert_eq!(order["status"], "failed");
    assert_eq!(order["reason"], "saga_cancelled");
    assert_eq!(
        state(&shop.saga(order_id).await.unwrap()),
        State::Compensated
    );
    eventually(SOON, async || {
        let charges = shop.charges(order_id).await;
        charges.len() == 1 && charges[0]["status"] == "voided"
    })
    .await;
    assert_eq!(shop.availability(TEA_SET).await, before);
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_before_it_was_done_is_not_done_later() {
    let shop = store(CONFIG).await;
    let before = shop.availability(TEA_SET).await;
    let network = shop.here().running().network();
    let context = Context::root(&Env::system()).with_user("ann");
    let ask = |service: &str, path: &str| {
        let channel = network.channel("order-service", service.to_owned());
        Client::new(channel, context.clone()).post(path)
    };
    for _ in 0..2 {
        let released = ask("inventory-service", "/internal/reservations/late/release");
        let released: Value = released.send().await.unwrap();
        assert_eq!(released["status"], "released");
        let voided = ask("payment-service", "/internal/payments/late/void");
        let due = json!({ "user_id": "ann", "amount": 59.98, "currency": "USD" });
        let voided: Value = voided.json(&due).send().await.unwrap();
        assert_ne!(voided["status"], "succeeded");
    }
    let reserve = json!({
        "order_id": "late",
        "items": [{ "product_id": TEA_SET, "quantity": 1 }],
    });
    let late = ask("inventory-service", "/internal/reservations").json(&reserve);
    let error = late.send::<Value>().await.unwrap_err();
    assert_eq!(error.code(), "reservation_released");
    assert_eq!(shop.availability(TEA_SET).await, before);
    eventually(SOON, async || {
        let charges = shop.charges("late").await;
        charges.len() == 1 && charges[0]["status"] == "voided"
    })
    .await;
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_order_is_not_taken_back() {
    let shop = store(CONFIG).await;
    let ann = shop.user("ann");
    let accepted = ann.order("k", TEA_SET, 1).await.expect(202);
    let order_id = accepted["order_id"].as_str().unwrap();
    ann.ended(order_id).await;
    let saga = shop.saga(order_id).await.unwrap();
    let path = format!(
        "/api/v1/sagas/order-service/{}",
        saga["id"].as_str().unwrap()
    );
    let revoke = json!({ "why": "a mistake" });
    shop.admin
        .post(&format!("{path}/revoke"), revoke)
        .await
        .expect(200);
    eventually(SOON, async || {
        shop.admin.get(&path).await.expect(200)["state"] == "parked"
    })
    .await;
    let parked = shop.admin.get(&path).await.expect(200);
    assert_eq!(parked["error"]["code"], "saga_compensation_failed");
    assert_eq!(ann.order_state(order_id).await["status"], "confirmed");
    assert_eq!(shop.charges(order_id).await[0]["status"], "succeeded");
    shop.stop().await;
}
