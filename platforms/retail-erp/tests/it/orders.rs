//! Order processing: reserve, pay, tell.

use retail_erp::demo;
use serde_json::{Value, json};
use trunkline_testkit::eventually;
use trunkline_testkit::trace::way;

use crate::erp::{BEANS, SOON, TestErp, UMBRELLA, data, new_order, place, types};

#[tokio::test(flavor = "multi_thread")]
async fn order_processing_flow() {
    let erp = TestErp::start().await;
    let flow = "order-processing";
    let customer = erp.customer().with("x-correlation-id", flow);
    let contact = json!({ "email": "ann@example.com" });
    customer
        .put("/api/notifications/contact", contact)
        .await
        .expect(200);

    // Client->>Gateway: POST /orders
    // Gateway-->>Client: 201 Created
    let answer = place(&customer, "k", new_order(BEANS, 4, "tok_visa")).await;
    let order = answer.expect(201);
    let order_id = order["orderId"].as_str().unwrap();
    assert_eq!(
        answer.header("location"),
        Some(&*format!("/orders/{order_id}"))
    );
    assert_eq!(order["status"], "confirmed");
    assert!(
        answer.body.contains("\"totalAmount\":100.00"),
        "{}",
        answer.body
    );

    // OrderSvc->>InventorySvc: Reserve Stock (gRPC)
    // OrderSvc->>PaymentSvc: Process Payment (gRPC)
    // OrderSvc->>EventBus: Publish OrderCreated Event
    let events = erp.events(flow, &["StockUpdated"]).await;
    assert_eq!(
        types(&events),
        [
            "InventoryReserved",
            "PaymentProcessed",
            "OrderCreated",
            "OrderConfirmed",
            "StockUpdated"
        ]
    );
    assert!(events.iter().all(|event| event["correlation_id"] == flow));
    let reserved = json!({
        "orderId": order_id, "shopId": demo::SHOP, "productId": BEANS, "quantity": 4,
    });
    assert_eq!(data(&events, "InventoryReserved"), &reserved);
    let paid = data(&events, "PaymentProcessed");
    let printed = json!({
        "paymentId": paid["paymentId"], "orderId": order_id, "amount": 100.0,
        "status": "success", "gateway": "swishpay",
    });
    assert_eq!(paid, &printed);
    let created = json!({
        "orderId": order_id, "shopId": demo::SHOP, "userId": "user_789",
        "items": [{ "productId": BEANS, "quantity": 4, "price": 25.0 }],
        "totalAmount": 100.0,
    });
    assert_eq!(data(&events, "OrderCreated"), &created);
    let confirmed = json!({ "orderId": order_id, "status": "confirmed" });
    assert_eq!(data(&events, "OrderConfirmed"), &confirmed);

    ends_well(&erp, order_id).await;
    let story = erp.admin.get(&format!("/api/v1/flows/{order_id}")).await;
    assert_eq!(story.expect(200)["flows"][0]["state"], "succeeded");

    // EventBus->>NotificationSvc: OrderCreated Event
    // NotificationSvc->>Client: Send Confirmation Email
    eventually(SOON, async || erp.mails(order_id).len() == 1).await;
    let mail = erp.mails(order_id).remove(0);
    assert!(
        mail.contains("To: ann@example.com") && mail.contains("100.00"),
        "{mail}"
    );

    one_trace(erp.trace_of(&events[2]).await);
}

/// The end state of every service that has a part in the order.
async fn ends_well(erp: &TestErp, order_id: &str) {
    erp.has_stock(demo::SHOP, BEANS, (41, 0)).await;
    let charges = erp.charges(order_id).await;
    assert_eq!(charges.len(), 1);
    assert_eq!(
        (&charges[0]["amount"], &charges[0]["status"]),
        (&json!(100.0), &json!("succeeded"))
    );
    let payment = erp
        .customer()
        .get(&format!("/api/payments/{order_id}"))
        .await
        .expect(200);
    assert_eq!(payment["status"], "succeeded");
    let mut order = Value::Null;
    eventually(SOON, async || {
        order = erp
            .customer()
            .get(&format!("/orders/{order_id}"))
            .await
            .expect(200);
        order.get("receipt").is_some()
    })
    .await;
    assert_eq!(order["receipt"]["paymentId"], payment["paymentId"]);
    let path = format!("/api/inventory/{}/{BEANS}/history", demo::SHOP);
    let history = erp.staff().get(&path).await.expect(200);
    let of_order = history
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["orderId"] == order_id);
    let causes: Vec<_> = of_order
        .map(|entry| entry["cause"].as_str().unwrap())
        .collect();
    assert_eq!(causes.len(), 2);
    assert!(
        causes.contains(&"ordered") && causes.contains(&"sold"),
        "{causes:?}"
    );
    eventually(SOON, async || {
        let sales = erp
            .staff()
            .get(&format!("/api/reports/sales?shopId={}", demo::SHOP))
            .await;
        let sales = sales.expect(200);
        sales[0]["orders"] == 1 && sales[0]["pieces"] == 4 && sales[0]["totalAmount"] == 100.0
    })
    .await;
}

/// From the client's request to whoever works last, all of it hangs together.
fn one_trace(drawing: String) {
    let ordered = [
        "gateway: POST order-service-routes",
        "gateway: POST order-service",
        "order-service: POST /orders",
    ];
    let asked = |target: &str, operation: &str| {
        let way = way(&drawing, operation);
        assert_eq!(way[..3], ordered, "{drawing}");
        assert!(
            way[3].starts_with("order-service: ") && way[3].ends_with(target),
            "{drawing}"
        );
        assert_eq!(way.len(), 5, "{drawing}");
    };
    asked("campaign-service", "POST /internal/prices");
    asked(
        "inventory-service",
        "POST /retail.inventory.v1.Inventory/ReserveStock",
    );
    asked(
        "payment-service",
        "POST /retail.payment.v1.Payment/ProcessPayment",
    );
    for (event, handler) in [
        ("OrderCreated", "notification-service: handle OrderCreated"),
        ("OrderCreated", "vm-service: handle OrderCreated"),
        ("OrderConfirmed", "inventory-service: handle OrderConfirmed"),
    ] {
        let sent = format!("order-service: send {event}");
        assert_eq!(
            way(&drawing, handler),
            [&ordered[..], &[&sent, handler]].concat()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_the_same_order() {
    let erp = TestErp::start().await;
    let customer = erp.customer();
    let first = place(&customer, "k", new_order(BEANS, 1, "tok_visa"))
        .await
        .expect(201);
    let again = place(&customer, "k", new_order(BEANS, 1, "tok_visa")).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.expect(201), first);
    place(&customer, "k", new_order(BEANS, 2, "tok_visa"))
        .await
        .refused(422, "idempotency_key_reused");
    let other = place(
        &erp.caller("user_790", &[]),
        "k",
        new_order(BEANS, 1, "tok_visa"),
    )
    .await;
    assert_ne!(
        other.expect(201)["orderId"],
        first["orderId"],
        "keys are each user's own"
    );
    let orders = customer.get("/orders").await.expect(200);
    assert_eq!(orders.as_array().unwrap().len(), 1);
    erp.has_stock(demo::SHOP, BEANS, (43, 0)).await;
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_is_not_decided_is_made_once() {
    // Calls are made once, or they would be tried again until it is decided.
    let erp = TestErp::start_with("[call.\"*\"]\nattempts_max = 1\n").await;
    let customer = erp.customer();
    let order = new_order(BEANS, 2, "tok_slow");
    place(&customer, "k", order.clone())
        .await
        .refused(503, "payment_pending");
    assert_eq!(
        erp.stock(demo::SHOP, BEANS).await,
        (45, 2),
        "held while nobody knows"
    );
    let order = place(&customer, "k", order).await.expect(201);
    assert_eq!(order["status"], "confirmed");
    erp.has_stock(demo::SHOP, BEANS, (43, 0)).await;
    let charges = erp.charges(order["orderId"].as_str().unwrap()).await;
    assert_eq!(charges.len(), 1);
    assert_eq!(charges[0]["status"], "succeeded");
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_sell_every_piece_once() {
    const CUSTOMERS: usize = 30;
    const PIECES: usize = 12;
    let erp = TestErp::start().await;
    let mut placing = tokio::task::JoinSet::new();
    for number in 0..CUSTOMERS {
        let customer = erp.caller(&format!("user_{number}"), &[]);
        placing
            .spawn(async move { place(&customer, "k", new_order(UMBRELLA, 1, "tok_visa")).await });
    }
    let (mut sold, mut refused) = (0, 0);
    while let Some(answer) = placing.join_next().await {
        let answer = answer.unwrap();
        if answer.status == 201 {
            assert_eq!(answer.json()["status"], "confirmed");
            sold += 1;
        } else {
            answer.refused(409, "stock_insufficient");
            refused += 1;
        }
    }
    assert_eq!((sold, refused), (PIECES, CUSTOMERS - PIECES));
    erp.has_stock(demo::SHOP, UMBRELLA, (0, 0)).await;
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_makes_the_price() {
    let erp = TestErp::start().await;
    let (staff, customer) = (erp.staff(), erp.customer());
    let campaign = |percent: u8, more: Value| {
        let mut campaign = json!({
            "name": "Beans week", "percentOff": percent, "beginsAt": 0, "endsAt": 4_000_000_000_i64,
        });
        campaign
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        campaign
    };
    let beans = campaign(20, json!({ "productId": BEANS }));
    staff.put("/api/campaigns/beans", beans).await.expect(200);
    // Of those that apply, the one that takes most off counts, and no other.
    let here = campaign(10, json!({ "shopId": demo::SHOP }));
    staff.put("/api/campaigns/here", here).await.expect(200);
    let elsewhere = campaign(90, json!({ "shopId": demo::VENDING_SHOP }));
    staff
        .put("/api/campaigns/elsewhere", elsewhere)
        .await
        .expect(200);
    let mut over = campaign(95, json!({}));
    over["endsAt"] = json!(1);
    staff.put("/api/campaigns/over", over).await.expect(200);

    let wanted = json!({
        "shopId": demo::SHOP,
        "items": [
            { "productId": BEANS, "quantity": 2 },
            { "productId": UMBRELLA, "quantity": 1 },
        ],
    });
    let quote = customer
        .post("/orders/quote", wanted.clone())
        .await
        .expect(200);
    assert_eq!(quote["totalAmount"], 49.0, "2 * 20.00 + 9.00");
    assert_eq!(quote["available"], true);
    let mut order = wanted;
    order["cardToken"] = json!("tok_visa");
    let order = place(&customer, "k", order).await.expect(201);
    assert_eq!(order["totalAmount"], 49.0);
    assert_eq!(order["items"][0]["price"], 20.0);
    assert_eq!(order["items"][1]["price"], 9.0);

    let beans = |quantity: u32| {
        let items = [json!({ "productId": BEANS, "quantity": quantity })];
        json!({ "shopId": demo::SHOP, "items": items })
    };
    let quote = customer.post("/orders/quote", beans(100)).await.expect(200);
    assert_eq!(quote["available"], false);
    staff.delete("/api/campaigns/beans").await.expect(204);
    let quote = customer.post("/orders/quote", beans(1)).await.expect(200);
    assert_eq!(quote["totalAmount"], 22.5);
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_is_decided_soon_needs_no_second_request() {
    let erp = TestErp::start().await;
    let order = new_order(BEANS, 2, "tok_slow");
    let order = place(&erp.customer(), "k", order).await.expect(201);
    assert_eq!(order["status"], "confirmed");
    erp.has_stock(demo::SHOP, BEANS, (43, 0)).await;
    let charges = erp.charges(order["orderId"].as_str().unwrap()).await;
    assert_eq!(charges.len(), 1);
    erp.stop().await;
}
