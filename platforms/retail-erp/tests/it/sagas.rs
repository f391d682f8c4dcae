//! The payment saga: what was done is undone, whatever fails when.

use std::time::Duration;

use hyper::Method;
use retail_erp::demo;
use retail_erp::proto::inventory::inventory_client::InventoryClient;
use retail_erp::proto::inventory::{Line, ReserveStockRequest};
use retail_erp::proto::payment::ProcessPaymentRequest;
use retail_erp::proto::payment::payment_client::PaymentClient;
use serde_json::json;
use trunkline::grpc;
use trunkline_testkit::eventually;
use trunkline_testkit::http::Caller;
use trunkline_testkit::trace::way;
use trunkline_testkit::{Child, free_port};

use crate::erp::{BEANS, SOON, TestErp, data, new_order, place, types};

/// Reservations end soon.
/// Calls are made once, or they would be tried again until the payment is decided.
const IMPATIENT: &str = "\
[service.inventory-service]
reservation_ms = 400

[call.\"*\"]
attempts_max = 1
";

#[tokio::test(flavor = "multi_thread")]
async fn payment_failure_flow() {
    let erp = TestErp::start().await;
    let flow = "payment-failure";
    let customer = erp.customer().with("x-correlation-id", flow);

    // OrderSvc->>InventorySvc: Reserve Stock (gRPC)
    // OrderSvc->>PaymentSvc: Process Payment (gRPC)
    // PaymentSvc-->>OrderSvc: Payment Failed
    // OrderSvc->>InventorySvc: Release Stock (gRPC)
    // OrderSvc->>EventBus: Publish OrderCancelled Event
    let order = place(&customer, "k", new_order(BEANS, 4, "tok_insufficient"))
        .await
        .expect(201);
    let order_id = order["orderId"].as_str().unwrap();
    assert_eq!(order["status"], "cancelled");
    assert_eq!(order["reason"], "payment_failed");
    assert_eq!(
        erp.stock(demo::SHOP, BEANS).await,
        (45, 0),
        "released before the answer"
    );

    let events = erp.events(flow, &["OrderCancelled"]).await;
    assert_eq!(
        types(&events),
        ["InventoryReserved", "PaymentFailed", "OrderCancelled"]
    );
    let failed = data(&events, "PaymentFailed");
    let printed = json!({
        "paymentId": failed["paymentId"], "orderId": order_id, "reason": "insufficient_funds",
    });
    assert_eq!(failed, &printed);
    let cancelled = json!({ "orderId": order_id, "reason": "payment_failed" });
    assert_eq!(data(&events, "OrderCancelled"), &cancelled);
    let charges = erp.charges(order_id).await;
    assert_eq!(charges[0]["status"], "declined");
    let again = customer.with("idempotency-key", "r");
    let again = again
        .post(&format!("/orders/{order_id}/refund"), json!({}))
        .await;
    again.refused(409, "order_not_confirmed");
    eventually(SOON, async || {
        let story = erp.admin.get(&format!("/api/v1/flows/{order_id}")).await;
        story.expect(200)["flows"][0]["state"] == "failed"
    })
    .await;

    let drawing = erp.trace_of(&events[2]).await;
    let way = way(
        &drawing,
        "inventory-service: POST /retail.inventory.v1.Inventory/ReleaseStock",
    );
    assert_eq!(
        way[..3].last(),
        Some(&"order-service: POST /orders"),
        "{drawing}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refund_flow() {
    let erp = TestErp::start().await;
    let customer = erp.customer();
    let order = place(&customer, "k", new_order(BEANS, 4, "tok_visa"))
        .await
        .expect(201);
    let order_id = order["orderId"].as_str().unwrap();
    erp.has_stock(demo::SHOP, BEANS, (41, 0)).await;

    let flow = "refund";
    let path = format!("/orders/{order_id}/refund");
    erp.caller("user_790", &[])
        .with("idempotency-key", "r")
        .post(&path, json!({}))
        .await
        .refused(404, "order_unknown");
    let refunding = customer
        .with("x-correlation-id", flow)
        .with("idempotency-key", "r");
    let refunded = refunding.post(&path, json!({})).await.expect(200);
    assert_eq!(refunded["status"], "cancelled");
    assert_eq!(refunded["reason"], "refunded");

    let events = erp.events(flow, &["StockUpdated"]).await;
    assert_eq!(
        types(&events),
        ["RefundProcessed", "OrderCancelled", "StockUpdated"]
    );
    let payment = customer
        .get(&format!("/api/payments/{order_id}"))
        .await
        .expect(200);
    let printed = json!({
        "refundId": payment["refundId"], "paymentId": payment["paymentId"], "amount": 100.0,
        "status": "success",
    });
    assert_eq!(data(&events, "RefundProcessed"), &printed);
    let back = json!({
        "shopId": demo::SHOP, "productId": BEANS, "newStock": 45, "previousStock": 41, "change": 4,
    });
    assert_eq!(data(&events, "StockUpdated"), &back);
    assert_eq!(erp.stock(demo::SHOP, BEANS).await, (45, 0));
    let charges = erp.charges(order_id).await;
    assert_eq!(
        (charges.len(), &charges[0]["status"]),
        (1, &json!("refunded"))
    );
    eventually(SOON, async || {
        let sales = erp.staff().get("/api/reports/sales").await.expect(200);
        sales[0]["orders"] == 0 && sales[0]["returned"] == 1 && sales[0]["totalAmount"] == 0.0
    })
    .await;

    // Once: the next time there is nothing to give back.
    let again = customer
        .with("idempotency-key", "r2")
        .post(&path, json!({}))
        .await
        .expect(200);
    assert_eq!(again["reason"], "refunded");
    assert_eq!(erp.events(flow, &[]).await.len(), 3);
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_nobody_comes_back_for_is_cancelled() {
    let erp = TestErp::start_with(IMPATIENT).await;
    let flow = "abandoned";
    let customer = erp.customer().with("x-correlation-id", flow);
    let order = new_order(BEANS, 2, "tok_slow");
    place(&customer, "k", order.clone())
        .await
        .refused(503, "payment_pending");

    let events = erp.events(flow, &["OrderCancelled"]).await;
    assert_eq!(
        data(&events, "OrderCancelled")["reason"],
        "reservation_expired"
    );
    erp.has_stock(demo::SHOP, BEANS, (45, 0)).await;
    let order_id = data(&events, "OrderCancelled")["orderId"].as_str().unwrap();
    eventually(SOON, async || {
        erp.charges(order_id).await[0]["status"] == "voided"
    })
    .await;

    // Whoever comes too late learns how it ended, and pays nothing.
    let late = place(&customer, "k", order).await.expect(201);
    assert_eq!(
        (&late["status"], &late["orderId"]),
        (&json!("cancelled"), &json!(order_id))
    );
    assert_eq!(erp.charges(order_id).await[0]["status"], "voided");
    assert_eq!(erp.stock(demo::SHOP, BEANS).await, (45, 0));
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_taken_for_an_order_that_was_never_written_down_is_paid_back() {
    let erp = TestErp::start_with(IMPATIENT).await;
    let customer = erp.context("user_789", &[]);
    let mut inventory =
        InventoryClient::new(erp.rpc("order-service", "inventory-service", &customer));
    let mut payment = PaymentClient::new(erp.rpc("order-service", "payment-service", &customer));
    let line = Line {
        product_id: BEANS.to_owned(),
        quantity: 3,
    };
    let reserve = ReserveStockRequest {
        order_id: "lost".to_owned(),
        shop_id: demo::SHOP.to_owned(),
        lines: vec![line],
    };
    let pay = ProcessPaymentRequest {
        order_id: "lost".to_owned(),
        amount_minor: 7_500,
        card_token: "tok_visa".to_owned(),
    };
    for _ in 0..2 {
        inventory.reserve_stock(reserve.clone()).await.unwrap();
        payment.process_payment(pay.clone()).await.unwrap();
    }
    // Here order-service died.
    erp.has_stock(demo::SHOP, BEANS, (45, 0)).await;
    eventually(SOON, async || {
        erp.charges("lost").await[0]["status"] == "refunded"
    })
    .await;
    let paid = async || erp.customer().get("/api/payments/lost").await.expect(200);
    eventually(SOON, async || paid().await["status"] == "refunded").await;

    // Neither step can be done any more.
    let status = inventory.reserve_stock(reserve).await.unwrap_err();
    assert_eq!(grpc::error(status).code(), "reservation_released");
    let status = payment.process_payment(pay).await.unwrap_err();
    assert_eq!(grpc::error(status).code(), "payment_voided");
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_reserving_and_paying_leaves_nothing_held() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // A payment gateway that takes requests and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [gateway, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
    let config = folder.path().join("crash.toml");
    std::fs::write(&config, IMPATIENT.replace("400", "3000")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_retail-erp"));
    command.args(["up", "--quiet", "--gateway", &gateway, "--admin", &admin]);
    command.args([
        "--swishpay",
        &format!("http://{}", silent.local_addr().unwrap()),
    ]);
    command
        .arg("--data")
        .arg(&data)
        .arg("--config")
        .arg(&config);
    command.stdout(std::process::Stdio::null());
    let child = Child::spawn(&mut command).unwrap();
    let outside = Caller::new(format!("http://{gateway}"));
    eventually(SOON, async || {
        outside.try_send(Method::GET, "/orders", None).await.is_ok()
    })
    .await;
    let token = retail_erp::token(&data, "user_789", &[], Duration::from_secs(600)).unwrap();
    let customer = outside.bearing(&token);
    let order = new_order(BEANS, 5, "tok_visa").to_string();
    let ordering = customer.with("idempotency-key", "k");
    let order = ordering.try_send(Method::POST, "/orders", Some(order));
    let held = async {
        eventually(SOON, async || {
            let path = format!("/api/inventory/{}/{BEANS}", demo::SHOP);
            customer.get(&path).await.expect(200)["reserved"] == 5
        })
        .await;
        // Killed, and not asked.
        drop(child);
    };
    let (order, ()) = tokio::join!(order, held);
    order.unwrap_err();

    let erp = TestErp::start_in(folder, IMPATIENT).await;
    erp.has_stock(demo::SHOP, BEANS, (45, 0)).await;
    let orders = erp.customer().get("/orders").await.expect(200);
    assert_eq!(orders[0]["reason"], "reservation_expired");
    erp.stop().await;
}
