//! Vending machines that sell.

use std::time::Duration;

use retail_erp::events::{Count, DeviceStatus};
use retail_erp::machine::{Done, Machine, Plan};
use retail_erp::{DEVICE, demo};
use serde_json::{Value, json};
use trunkline::Program as _;
use trunkline_testkit::eventually;
use trunkline_testkit::http::Caller;

use crate::erp::{SOON, TestErp, types};

const BAR: &str = "prod_456";
const WATER: &str = "prod_790";

async fn online(erp: &TestErp) -> Caller {
    let machine = erp.machine();
    let path = format!("/api/devices/{}/status", demo::MACHINE);
    machine
        .post(&path, json!({ "status": "online" }))
        .await
        .expect(204);
    // vm-service hears of it by the event.
    let wrong = json!({ "saleId": "probe", "slot": "Z9", "cardToken": "tok_visa" });
    eventually(SOON, async || {
        let answer = machine.post("/api/vm/sales", wrong.clone()).await;
        answer.json()["code"] == "slot_unknown"
    })
    .await;
    machine
}

fn sale(sale_id: &str, card_token: &str) -> Value {
    json!({ "saleId": sale_id, "slot": "A1", "cardToken": card_token })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_sells_what_lies_in_its_slot() {
    let erp = TestErp::start().await;
    let early = erp
        .machine()
        .post("/api/vm/sales", sale("s1", "tok_visa"))
        .await;
    early.refused(409, "machine_offline");
    let machine = online(&erp).await.with("x-correlation-id", "sale");

    let sold = machine
        .post("/api/vm/sales", sale("s1", "tok_visa"))
        .await
        .expect(200);
    assert_eq!(sold["status"], "vending");
    let again = machine
        .post("/api/vm/sales", sale("s1", "tok_visa"))
        .await
        .expect(200);
    assert_eq!(again, sold, "the same sale");
    erp.has_stock(demo::VENDING_SHOP, BAR, (11, 0)).await;
    let vended = json!({ "vended": true });
    let ended = machine
        .post("/api/vm/sales/s1/finish", vended)
        .await
        .expect(200);
    assert_eq!(ended["status"], "vended");
    assert_eq!(machine.get("/api/vm/sales/s1").await.expect(200), ended);
    let order_id = sold["orderId"].as_str().unwrap();
    let order = machine
        .get(&format!("/orders/{order_id}"))
        .await
        .expect(200);
    assert_eq!(
        (&order["userId"], &order["totalAmount"]),
        (&json!(demo::MACHINE), &json!(1.5))
    );
    let charges = erp.charges(order_id).await;
    assert_eq!(
        (charges.len(), &charges[0]["status"]),
        (1, &json!("succeeded"))
    );

    let refused = machine
        .post("/api/vm/sales", sale("s2", "tok_declined"))
        .await
        .expect(200);
    assert_eq!(
        (&refused["status"], &refused["reason"]),
        (&json!("refused"), &json!("payment_failed"))
    );
    assert_eq!(erp.stock(demo::VENDING_SHOP, BAR).await, (11, 0));
    erp.customer()
        .post("/api/vm/sales", sale("s3", "tok_visa"))
        .await
        .refused(403, "role_missing");
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fall_is_paid_back() {
    let erp = TestErp::start().await;
    let machine = online(&erp).await.with("x-correlation-id", "jam");
    let sold = machine
        .post("/api/vm/sales", sale("s1", "tok_visa"))
        .await
        .expect(200);
    let order_id = sold["orderId"].as_str().unwrap();
    erp.has_stock(demo::VENDING_SHOP, BAR, (11, 0)).await;
    let jammed = json!({ "vended": false });
    let ended = machine
        .post("/api/vm/sales/s1/finish", jammed)
        .await
        .expect(200);
    assert_eq!(ended["status"], "refunded");
    assert_eq!(erp.charges(order_id).await[0]["status"], "refunded");
    // It is in the machine still.
    erp.has_stock(demo::VENDING_SHOP, BAR, (12, 0)).await;
    let late = machine
        .post("/api/vm/sales/s1/finish", json!({ "vended": true }))
        .await;
    assert_eq!(late.expect(200)["status"], "refunded");
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_falls_silent_is_taken_to_have_vended_nothing() {
    let erp = TestErp::start_with("[service.vm-service]\nvend_within_ms = 300\n").await;
    let flow = "silent";
    let machine = online(&erp).await.with("x-correlation-id", flow);
    let sold = machine
        .post("/api/vm/sales", sale("s1", "tok_visa"))
        .await
        .expect(200);
    let order_id = sold["orderId"].as_str().unwrap();
    let events = erp
        .events(flow, &["RefundProcessed", "OrderCancelled"])
        .await;
    assert!(types(&events).contains(&"SettleSale"));
    assert_eq!(erp.charges(order_id).await[0]["status"], "refunded");
    eventually(SOON, async || {
        machine.get("/api/vm/sales/s1").await.expect(200)["status"] == "refunded"
    })
    .await;
    erp.has_stock(demo::VENDING_SHOP, BAR, (12, 0)).await;
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_after_a_sale_is_not_taken_twice() {
    let erp = TestErp::start().await;
    let machine = online(&erp).await;
    machine
        .post("/api/vm/sales", sale("s1", "tok_visa"))
        .await
        .expect(200);
    machine
        .post("/api/vm/sales/s1/finish", json!({ "vended": true }))
        .await
        .expect(200);
    let report = json!({
        "status": "online", "stock": [{ "productId": BAR, "quantity": 11 }],
    });
    let path = format!("/api/devices/{}/status", demo::MACHINE);
    machine.post(&path, report).await.expect(204);
    // The sale and the count may be heard in either order.
    erp.has_stock(demo::VENDING_SHOP, BAR, (11, 0)).await;
    let history = format!("/api/inventory/{}/{BAR}/history", demo::VENDING_SHOP);
    eventually(SOON, async || {
        let history = erp.staff().get(&history).await.expect(200);
        history
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["cause"] == "ordered")
    })
    .await;
    assert_eq!(erp.stock(demo::VENDING_SHOP, BAR).await, (11, 0));
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_was_counted_before_it_is_paid_back_is_not_added_once_more() {
    let erp = TestErp::start().await;
    let machine = online(&erp).await;
    let sold = machine.post("/api/vm/sales", sale("s1", "tok_visa")).await;
    sold.expect(200);
    erp.has_stock(demo::VENDING_SHOP, BAR, (11, 0)).await;
    // It hangs, and the machine sees it.
    let report = json!({
        "status": "online", "stock": [{ "productId": BAR, "quantity": 12 }],
    });
    let path = format!("/api/devices/{}/status", demo::MACHINE);
    machine.post(&path, report).await.expect(204);
    erp.has_stock(demo::VENDING_SHOP, BAR, (12, 0)).await;
    let jammed = json!({ "vended": false });
    let ended = machine.post("/api/vm/sales/s1/finish", jammed).await;
    ended.expect(200);
    let returned = "SELECT COUNT(*) FROM reservations WHERE status = 'returned'";
    eventually(SOON, async || erp.ask("inventory-service", returned) == "1").await;
    assert_eq!(erp.stock(demo::VENDING_SHOP, BAR).await, (12, 0));
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_machine_sells_until_it_is_empty() {
    let erp = TestErp::start().await;
    let data = erp.folder.path().join("data");
    let token = retail_erp::token(&data, demo::MACHINE, &[DEVICE], Duration::from_secs(600));
    let url = erp.erp.running().gateway_url();
    let machine = Machine::new(&url, demo::VENDING_SHOP, demo::MACHINE, token.unwrap());
    let machine = machine.await.unwrap();
    machine
        .report(DeviceStatus::Online, vec![count(BAR, 2), count(WATER, 2)])
        .await
        .unwrap();
    erp.has_stock(demo::VENDING_SHOP, WATER, (2, 0)).await;
    erp.has_stock(demo::VENDING_SHOP, BAR, (2, 0)).await;
    let plan = Plan {
        sales: 6,
        pause: Duration::ZERO,
        jam_every: 0,
        card_token: "tok_visa".to_owned(),
    };
    let mut told = 0;
    let done = machine.run(&plan, |_| told += 1).await.unwrap();
    assert_eq!(
        done,
        Done {
            vended: 4,
            refunded: 0,
            refused: 2
        }
    );
    assert_eq!(told, 4);
    erp.has_stock(demo::VENDING_SHOP, BAR, (0, 0)).await;
    erp.has_stock(demo::VENDING_SHOP, WATER, (0, 0)).await;
    assert_eq!(machine.level(BAR).await.unwrap().available, 0);
    erp.stop().await;
}

fn count(product_id: &str, quantity: u32) -> Count {
    let product_id = product_id.to_owned();
    Count {
        product_id,
        quantity,
    }
}
