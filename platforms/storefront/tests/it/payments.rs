//! Payments that fail, stay away or come late.

use serde_json::Value;
use storefront::order::OrderFlow;
use trunkline_testkit::eventually;

use crate::store::{CONFIG, SOON, TEA_SET, TestStore, User, by};

/// Each of these is a test of its own for each way in which an order comes to its end.
macro_rules! both_ways {
    ($($test:ident)+) => {
        mod by_choreography {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(super::OrderFlow::Choreography).await;
                }
            )+
        }

        mod by_orchestration {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(super::OrderFlow::Orchestration).await;
                }
            )+
        }
    };
}

both_ways! {
    an_amount_above_the_limit_is_declined
    a_late_answer_confirms_the_order_and_charges_once
    a_provider_that_never_answers_is_given_up_for_good
    a_provider_that_fails_once_is_asked_again
    a_payment_for_an_order_that_expired_is_given_back
    money_that_was_taken_for_a_failed_order_is_given_back_once
}

async fn ordered(user: &User, key: &str) -> String {
    let accepted = user.order(key, TEA_SET, 2).await.expect(202);
    accepted["order_id"].as_str().unwrap().to_owned()
}

fn statuses(charges: &[Value]) -> Vec<&str> {
    charges
        .iter()
        .map(|charge| charge["status"].as_str().unwrap())
        .collect()
}

async fn an_amount_above_the_limit_is_declined(flow: OrderFlow) {
    let shop = TestStore::start_with(&by(flow, CONFIG)).await;
    let ann = shop.user("ann");
    let accepted = ann.order("k", TEA_SET, 400).await.expect(202);
    let order = ann.ended(accepted["order_id"].as_str().unwrap()).await;
    assert_eq!(order["reason"], "amount_limit");
    shop.stop().await;
}

async fn a_late_answer_confirms_the_order_and_charges_once(flow: OrderFlow) {
    let config =
        "[service.payment-service]\ntimeout_ms = 200\nask_again_ms = 100\nattempts_max = 10\n";
    let shop = TestStore::start_with(&by(flow, config)).await;
    let ann = shop.user("ann");
    ann.pay_with("tok_late").await;
    let order_id = ordered(&ann, "k").await;
    assert_eq!(ann.ended(&order_id).await["status"], "confirmed");
    assert_eq!(statuses(&shop.charges(&order_id).await), ["succeeded"]);
    let payment = ann
        .caller
        .get(&format!("/api/payments/{order_id}"))
        .await
        .expect(200);
    assert_eq!(payment["status"], "succeeded");
    assert!(
        payment["transaction_id"]
            .as_str()
            .unwrap()
            .starts_with("TXN-")
    );

    ann.pay_with("tok_late_declined").await;
    let order_id = ordered(&ann, "k2").await;
    assert_eq!(ann.ended(&order_id).await["reason"], "card_declined");
    shop.stop().await;
}

async fn a_provider_that_never_answers_is_given_up_for_good(flow: OrderFlow) {
    let shop = TestStore::start_with(&by(flow, CONFIG)).await;
    let ann = shop.user("ann");
    let before = shop.availability(TEA_SET).await;
    ann.pay_with("tok_timeout").await;
    let order_id = ordered(&ann, "k").await;
    let order = ann.ended(&order_id).await;
    assert_eq!(order["status"], "failed");
    assert_eq!(order["reason"], "provider_timeout");
    assert_eq!(statuses(&shop.charges(&order_id).await), ["voided"]);
    eventually(SOON, async || shop.availability(TEA_SET).await == before).await;
    shop.stop().await;
}

async fn a_provider_that_fails_once_is_asked_again(flow: OrderFlow) {
    let shop = TestStore::start_with(&by(flow, CONFIG)).await;
    let ann = shop.user("ann");
    ann.pay_with("tok_flaky").await;
    let order_id = ordered(&ann, "k").await;
    assert_eq!(ann.ended(&order_id).await["status"], "confirmed");
    assert_eq!(statuses(&shop.charges(&order_id).await), ["succeeded"]);
    shop.stop().await;
}

async fn a_payment_for_an_order_that_expired_is_given_back(flow: OrderFlow) {
    // The answer comes after the reservation has ended.
    let config = "[service.inventory-service]\nreservation_ms = 300\n\
                  [service.payment-service]\ntimeout_ms = 5000\n";
    let shop = TestStore::start_with(&by(flow, config)).await;
    let ann = shop.user("ann");
    let before = shop.availability(TEA_SET).await;
    ann.pay_with("tok_late").await;
    let order_id = ordered(&ann, "k").await;
    assert_eq!(ann.ended(&order_id).await["reason"], "reservation_expired");
    eventually(SOON, async || {
        let charges = shop.charges(&order_id).await;
        matches!(*statuses(&charges), ["refunded" | "voided"])
    })
    .await;
    eventually(SOON, async || shop.availability(TEA_SET).await == before).await;
    shop.stop().await;
}

async fn money_that_was_taken_for_a_failed_order_is_given_back_once(flow: OrderFlow) {
    // The card is charged at 0.8 s, the order fails at 1.5 s, and only then is the provider asked again:
    // by what the failure asks for, and by what the silence did.
    let config = "[service.inventory-service]\nreservation_ms = 1500\n\
                  [service.payment-service]\ntimeout_ms = 200\nask_again_ms = 2500\n";
    let shop = TestStore::start_with(&by(flow, config)).await;
    let ann = shop.user("ann");
    let before = shop.availability(TEA_SET).await;
    ann.pay_with("tok_late").await;
    let order_id = ordered(&ann, "k").await;
    assert_eq!(ann.ended(&order_id).await["reason"], "reservation_expired");

    let refunded = shop.event("payment.refunded").await;
    assert_eq!(refunded["data"]["amount"], 59.98);
    assert_eq!(statuses(&shop.charges(&order_id).await), ["refunded"]);
    eventually(SOON, async || shop.availability(TEA_SET).await == before).await;
    // The second question comes after that, and changes nothing.
    eventually(SOON, async || {
        let asked = shop.all_events("payment.reconcile").await;
        asked.iter().any(|again| again["data"]["attempt"] == 2)
    })
    .await;
    let payment = format!("/api/payments/{order_id}");
    let payment = ann.caller.get(&payment).await.expect(200);
    assert_eq!(payment["status"], "refunded");
    shop.event("payment.refunded").await;
    shop.event("order.failed").await;
    assert!(shop.all_events("payment.success").await.is_empty());
    assert!(shop.all_events("order.confirmed").await.is_empty());
    assert_eq!(statuses(&shop.charges(&order_id).await), ["refunded"]);
    shop.stop().await;
}
