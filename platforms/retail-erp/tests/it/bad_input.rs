//! What is wrong is refused with a problem that says so, and changes nothing.

use retail_erp::demo;
use serde_json::{Value, json};

use crate::erp::{BEANS, TestErp, new_order, place};

#[tokio::test(flavor = "multi_thread")]
async fn wrong_orders_are_refused() {
    let erp = TestErp::start().await;
    let customer = erp.customer();
    let with = |field: &str, value: Value| {
        let mut order = new_order(BEANS, 1, "tok_visa");
        order[field] = value;
        order
    };
    let item =
        |product: &str, quantity: i64| json!([{ "productId": product, "quantity": quantity }]);
    let many: Vec<_> = (0..101)
        .map(|_| json!({ "productId": BEANS, "quantity": 1 }))
        .collect();
    for (order, status, code) in [
        (with("items", json!([])), 422, "lines_out_of_range"),
        (with("items", json!(many)), 422, "lines_out_of_range"),
        (with("items", item(BEANS, 0)), 422, "quantity_out_of_range"),
        (
            with("items", item(BEANS, 1_001)),
            422,
            "quantity_out_of_range",
        ),
        (with("items", item(BEANS, -1)), 422, "body_mismatch"),
        (with("items", item("prod 1,prod_2", 1)), 422, "id_invalid"),
        (with("items", item("prod_0", 1)), 404, "product_unknown"),
        (with("items", item(BEANS, 46)), 409, "stock_insufficient"),
        (with("shopId", json!("../shop")), 422, "id_invalid"),
        (with("shopId", json!("shop_0")), 404, "stock_unknown"),
        (with("discount", json!(100)), 422, "body_mismatch"),
    ] {
        let key = order.to_string().len().to_string() + code;
        place(&customer, &key, order).await.refused(status, code);
    }
    customer
        .post("/orders", new_order(BEANS, 1, "tok_visa"))
        .await
        .refused(422, "idempotency_key_invalid");
    assert_eq!(erp.stock(demo::SHOP, BEANS).await, (45, 0));
    assert_eq!(customer.get("/orders").await.expect(200), json!([]));
    customer
        .get("/orders/nothing")
        .await
        .refused(404, "order_unknown");
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reaches_what_is_not_theirs() {
    let erp = TestErp::start().await;
    let customer = erp.customer();
    let nobody = customer.with("authorization", "Bearer none");
    assert_eq!(nobody.get("/orders").await.status, 401);
    for path in [
        "/internal/prices",
        "/retail.payment.v1.Payment/RefundPayment",
    ] {
        assert_eq!(customer.post(path, json!({})).await.status, 404, "{path}");
    }
    for path in ["/api/reports/sales", "/api/reports/stock"] {
        customer.get(path).await.refused(403, "role_missing");
    }
    let order = place(&customer, "k", new_order(BEANS, 1, "tok_visa"))
        .await
        .expect(201);
    let order_id = order["orderId"].as_str().unwrap();
    let other = erp.caller("user_790", &[]);
    other
        .get(&format!("/orders/{order_id}"))
        .await
        .refused(404, "order_unknown");
    other
        .get(&format!("/api/payments/{order_id}"))
        .await
        .refused(404, "payment_unknown");
    erp.staff()
        .get(&format!("/orders/{order_id}"))
        .await
        .expect(200);
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_reports_and_settings_are_refused() {
    let erp = TestErp::start().await;
    let (machine, staff) = (erp.machine(), erp.staff());
    let status = format!("/api/devices/{}/status", demo::MACHINE);
    let measured = format!("/api/devices/{}/data", demo::MACHINE);
    let many: Vec<_> = (0..101)
        .map(|_| json!({ "productId": "p", "quantity": 1 }))
        .collect();
    for (path, body, status, code) in [
        (&status, json!({ "status": "asleep" }), 422, "body_mismatch"),
        (
            &status,
            json!({ "status": "online", "stock": many }),
            422,
            "lines_out_of_range",
        ),
        (
            &measured,
            json!({ "dataType": "stock_update", "data": 7 }),
            422,
            "data_invalid",
        ),
        (
            &measured,
            json!({ "dataType": "stock_update", "data": {} }),
            422,
            "data_invalid",
        ),
        (
            &measured,
            json!({ "dataType": "a b", "data": {} }),
            422,
            "id_invalid",
        ),
    ] {
        machine.post(path, body).await.refused(status, code);
    }
    let campaign = json!({ "name": "x", "percentOff": 101, "beginsAt": 0, "endsAt": 1 });
    staff
        .put("/api/campaigns/x", campaign)
        .await
        .refused(422, "campaign_invalid");
    staff
        .delete("/api/campaigns/x")
        .await
        .refused(404, "campaign_unknown");
    let product = json!({ "name": "x", "price": -1 });
    staff
        .put("/api/products/x", product)
        .await
        .refused(422, "body_mismatch");
    staff
        .get("/api/reports/sales?from=today")
        .await
        .refused(422, "day_invalid");
    let contact = json!({ "email": "ann@" });
    erp.customer()
        .put("/api/notifications/contact", contact)
        .await
        .refused(422, "email_invalid");
    erp.stop().await;
}
