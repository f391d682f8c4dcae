//! Stock updates, and who hears of them.

use retail_erp::demo;
use serde_json::json;
use trunkline_testkit::eventually;
use trunkline_testkit::trace::way;

use crate::erp::{BEANS, SOON, TestErp, UMBRELLA, data, new_order, place, types};

#[tokio::test(flavor = "multi_thread")]
async fn inventory_update_flow() {
    let erp = TestErp::start().await;
    let flow = "low-stock";
    let customer = erp.customer().with("x-correlation-id", flow);
    place(&customer, "k", new_order(UMBRELLA, 3, "tok_visa"))
        .await
        .expect(201);

    // InventorySvc->>EventBus: Publish StockUpdated Event
    let events = erp.events(flow, &["LowStockAlert"]).await;
    let last: Vec<_> = types(&events).split_off(4);
    assert_eq!(last, ["StockUpdated", "LowStockAlert"]);
    let updated = json!({
        "shopId": demo::SHOP, "productId": UMBRELLA, "newStock": 9, "previousStock": 12, "change": -3,
    });
    assert_eq!(data(&events, "StockUpdated"), &updated);
    let alert = json!({
        "shopId": demo::SHOP, "productId": UMBRELLA, "currentStock": 9, "minimumStock": 10,
    });
    assert_eq!(data(&events, "LowStockAlert"), &alert);

    // ReportSvc->>ReportSvc: Update Inventory Metrics
    let staff = erp.staff();
    eventually(SOON, async || {
        let rows = staff
            .get(&format!("/api/reports/stock?shopId={}", demo::SHOP))
            .await
            .expect(200);
        let rows = rows.as_array().unwrap().clone();
        rows.iter()
            .any(|row| row["productId"] == UMBRELLA && row["stock"] == 9)
    })
    .await;
    // ProductSvc->>ProductSvc: Update Product Availability
    let place_of = json!([{ "shopId": demo::SHOP, "stock": 9 }]);
    let product = async || {
        customer
            .get(&format!("/api/products/{UMBRELLA}"))
            .await
            .expect(200)
    };
    eventually(SOON, async || product().await["shops"] == place_of).await;
    // NotificationSvc->>NotificationSvc: Send Low Stock Alert
    eventually(SOON, async || {
        erp.mails(&format!("9 pieces of {UMBRELLA} left")).len() == 1
    })
    .await;
    let mail = erp.mails(UMBRELLA).remove(0);
    assert!(mail.contains("To: keeper@retail.example"), "{mail}");

    // Low is said once, when it comes to be so; with the last piece the product is gone.
    place(&customer, "k2", new_order(UMBRELLA, 9, "tok_visa"))
        .await
        .expect(201);
    eventually(SOON, async || product().await["available"] == false).await;
    let events = erp.events(flow, &[]).await;
    assert_eq!(
        types(&events)
            .iter()
            .filter(|name| **name == "LowStockAlert")
            .count(),
        1
    );

    let created = events
        .iter()
        .find(|event| event["type"] == "OrderCreated")
        .unwrap()
        .clone();
    let drawing = erp.trace_of(&created).await;
    let alerted = way(&drawing, "notification-service: handle LowStockAlert");
    assert_eq!(
        alerted[3..],
        [
            "order-service: send OrderConfirmed",
            "inventory-service: handle OrderConfirmed",
            "inventory-service: send LowStockAlert",
            "notification-service: handle LowStockAlert",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_staff_sets_stock_and_takes_deliveries() {
    let erp = TestErp::start().await;
    let (staff, customer) = (erp.staff(), erp.customer());
    let path = format!("/api/inventory/{}/{BEANS}", demo::SHOP);
    let level = customer.get(&path).await.expect(200);
    let printed = json!({
        "shopId": demo::SHOP, "productId": BEANS, "stock": 45, "reserved": 0, "available": 45,
        "minimumStock": 10,
    });
    assert_eq!(level, printed);

    let flow = "delivery";
    let delivering = staff
        .with("idempotency-key", "d")
        .with("x-correlation-id", flow);
    for _ in 0..2 {
        let delivery = json!({ "quantity": 5 });
        let level = delivering
            .post(&format!("{path}/deliveries"), delivery)
            .await
            .expect(200);
        assert_eq!(level["stock"], 50, "the same delivery comes once");
    }
    // StockUpdated, as the communication document prints it.
    let events = erp.events(flow, &["StockUpdated"]).await;
    let updated = json!({
        "shopId": demo::SHOP, "productId": BEANS, "newStock": 50, "previousStock": 45, "change": 5,
    });
    assert_eq!(data(&events, "StockUpdated"), &updated);

    let level = json!({ "stock": 7, "minimumStock": 5 });
    assert_eq!(
        staff.put(&path, level.clone()).await.expect(200)["available"],
        7
    );
    customer
        .put(&path, level.clone())
        .await
        .refused(403, "role_missing");
    let nowhere = format!("/api/inventory/{}/prod_1", demo::SHOP);
    customer.get(&nowhere).await.refused(404, "stock_unknown");
    staff.put(&nowhere, level).await.expect(200);
    assert_eq!(erp.stock(demo::SHOP, "prod_1").await, (7, 0));
    erp.stop().await;
}
