//! The store's communication document, told again by a running store.
//!
//! Each test follows one of its sequence diagrams from the first request to the last effect, and looks at
//! the end state of every service, the events in their order, and the one trace of it all.

use serde_json::{Value, json};
use storefront::order::OrderFlow;
use trunkline_testkit::eventually;

use crate::store::{SOON, TEA_SET, TestStore, User, address, types};
use trunkline_testkit::trace::{draw, way};

/// The events of an order, as they happened, each with the one that caused it.
fn told(events: &[Value]) -> Vec<(&str, &str, Option<&str>)> {
    let type_of = |id: &Value| {
        let cause = events.iter().find(|event| event["id"] == *id);
        cause.and_then(|event| event["type"].as_str())
    };
    let told = events.iter().map(|event| {
        let text = |name: &str| event[name].as_str().unwrap();
        (
            text("type"),
            text("source"),
            type_of(&event["causation_id"]),
        )
    });
    told.collect()
}

/// Stops the store, so that every span has ended, and draws those of an event's trace.
async fn trace_of(shop: TestStore, event: &Value) -> String {
    let traceparent = event["traceparent"].as_str().unwrap();
    let trace = traceparent.split('-').nth(1).unwrap();
    let trace = u128::from_str_radix(trace, 16).unwrap();
    let (_folder, hops) = shop.stop_for_spans().await;
    draw(hops(trace))
}

#[tokio::test(flavor = "multi_thread")]
async fn order_creation_flow() {
    create(TestStore::start().await).await;
}

pub(crate) async fn create(shop: TestStore) {
    let flow = "550e8400-e29b-41d4-a716-446655440001";
    let ann = shop.user("ann");
    let (on_hand, 0, _) = shop.availability(TEA_SET).await else {
        panic!("nothing is held at first")
    };

    // Client->>Order: POST /orders
    // Order-->>Client: Order Created (202 Accepted)
    let client = ann.caller.with("x-correlation-id", flow);
    let order = json!({
        "items": [{ "product_id": TEA_SET, "quantity": 2 }],
        "shipping_address": address(),
    });
    let accepted = client
        .with("idempotency-key", "k")
        .post("/api/v1/orders", order)
        .await
        .expect(202);
    let order_id = accepted["order_id"].as_str().unwrap();
    assert_eq!(
        accepted,
        json!({ "order_id": order_id, "status": "pending" })
    );

    // Order->>Inventory: Reserve Inventory (REST)
    // Order->>Kafka: Publish order.created
    // Payment->>Kafka: Publish payment.success
    // Order->>Kafka: Publish order.confirmed
    // Notification->>Notification: Send Email
    let ends = ["order.confirmed", "notification.sent"];
    let events = shop.events(flow, &ends).await;
    // By orchestration the saga confirms, which the request caused.
    let confirms = (shop.flow == OrderFlow::Choreography).then_some("payment.success");
    assert_eq!(
        told(&events),
        [
            ("inventory.reserved", "inventory-service", None),
            ("order.created", "order-service", None),
            ("payment.success", "payment-service", Some("order.created")),
            ("order.confirmed", "order-service", confirms),
            (
                "notification.send",
                "notification-service",
                Some("order.confirmed")
            ),
            (
                "notification.sent",
                "notification-service",
                Some("notification.send")
            ),
        ]
    );
    let created = &events[1];
    let printed = json!({
        "order_id": order_id,
        "order_number": created["data"]["order_number"],
        "user_id": ann.id,
        "total": 59.98,
        "currency": "USD",
        "items": [{ "product_id": TEA_SET, "quantity": 2, "price": 29.99 }],
        "shipping_address": address(),
    });
    assert_eq!(created["data"], printed, "as the document prints it");
    assert!(events.iter().all(|event| event["correlation_id"] == flow));
    assert!(events.iter().all(|event| event["user_id"] == ann.id));

    // Order->>Order: Update Order Status
    let order = ann.ended(order_id).await;
    assert_eq!(order["status"], "confirmed");
    // Inventory->>Inventory: Finalize Reservation
    eventually(SOON, async || {
        shop.availability(TEA_SET).await == (on_hand - 2, 0, on_hand - 2)
    })
    .await;
    // Payment->>Payment: Process Payment
    let charges = shop.charges(order_id).await;
    assert_eq!(charges.len(), 1);
    assert_eq!(charges[0]["amount"], 5_998);
    let payment = format!("/api/payments/{order_id}");
    let payment = ann.caller.get(&payment).await.expect(200);
    assert_eq!(payment["status"], "succeeded");
    let number = order["order_number"].as_str().unwrap();
    assert_eq!(shop.mails(number).len(), 1);
    // The whole flow, by the order's id and by the request's.
    for name in [order_id, flow] {
        let story = shop.admin.get(&format!("/api/v1/flows/{name}")).await;
        assert_eq!(story.expect(200)["flows"][0]["state"], "succeeded");
    }

    let saga = shop.saga(order_id).await;
    let by_saga = shop.flow == OrderFlow::Orchestration;
    assert_eq!(saga.is_some(), by_saga, "{saga:?}");
    assert!(saga.is_none_or(|saga| saga["state"] == "completed"));

    // The one trace, from the client's request to whoever works last.
    let drawing = trace_of(shop, created).await;
    let ordered = [
        "gateway: POST order-service-routes",
        "gateway: POST order-service",
        "order-service: POST /api/v1/orders",
    ];
    let reserved = [
        "order-service: POST inventory-service",
        "inventory-service: POST /internal/reservations",
        "inventory-service: send inventory.reserved",
    ];
    let to_reservation = way(&drawing, "send inventory.reserved");
    assert_eq!(to_reservation, [&ordered[..], &reserved].concat());
    let confirmed: &[_] = match by_saga {
        false => &[
            "order-service: send order.created",
            "payment-service: handle order.created",
            "payment-service: send payment.success",
            "order-service: handle payment.success",
            "order-service: send order.confirmed",
        ],
        true => &[
            "order-service: saga order confirm",
            "order-service: send order.confirmed",
        ],
    };
    let to_confirmation = [&ordered[..], confirmed].concat();
    let finalised = "inventory-service: handle order.confirmed";
    assert_eq!(
        way(&drawing, finalised),
        [&to_confirmation[..], &[finalised]].concat()
    );
    let mailed = [
        "notification-service: handle order.confirmed",
        "notification-service: send notification.send",
        "notification-service: handle notification.send",
    ];
    assert_eq!(
        way(&drawing, mailed[2]),
        [&to_confirmation[..], &mailed].concat()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn payment_failure_flow() {
    fail(TestStore::start().await).await;
}

pub(crate) async fn fail(shop: TestStore) {
    let flow = "550e8400-e29b-41d4-a716-446655440002";
    let before = shop.availability(TEA_SET).await;
    let ann = shop.user("ann");
    ann.pay_with("tok_declined").await;
    let client = User {
        caller: ann.caller.with("x-correlation-id", flow),
        ..ann.clone()
    };
    let accepted = client.order("k", TEA_SET, 2).await.expect(202);
    let order_id = accepted["order_id"].as_str().unwrap();

    // Payment->>Kafka: Publish payment.failed
    // Order->>Kafka: Publish order.failed
    // Inventory->>Kafka: Publish inventory.released
    let ends = ["inventory.released", "notification.sent"];
    let events = shop.events(flow, &ends).await;
    let of_order = ["inventory", "order", "payment"].map(|name| format!("{name}."));
    let (order_events, mails): (Vec<_>, Vec<_>) = events.iter().cloned().partition(|event| {
        let name = event["type"].as_str().unwrap();
        of_order.iter().any(|prefix| name.starts_with(prefix))
    });
    // The saga takes back what was done before it says that all has failed.
    let by_saga = shop.flow == OrderFlow::Orchestration;
    let ends = match by_saga {
        false => ["order.failed", "inventory.released"],
        true => ["inventory.released", "order.failed"],
    };
    let begins = ["inventory.reserved", "order.created", "payment.failed"];
    assert_eq!(types(&order_events), [&begins[..], &ends].concat());
    assert_eq!(types(&mails), ["notification.send", "notification.sent"]);
    assert_eq!(order_events[2]["data"]["reason"], "card_declined");

    // Order->>Order: Update Status to Failed
    let order = ann.ended(order_id).await;
    assert_eq!(order["status"], "failed");
    assert_eq!(order["reason"], "card_declined");
    // Inventory->>Inventory: Release Reserved Inventory
    assert_eq!(shop.availability(TEA_SET).await, before);
    let charges = shop.charges(order_id).await;
    assert_eq!(charges.len(), 1);
    assert_eq!(charges[0]["status"], "declined");
    let number = order["order_number"].as_str().unwrap();
    let mails = shop.mails(number);
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains("your card was declined"), "{}", mails[0]);
    let story = shop.admin.get(&format!("/api/v1/flows/{order_id}")).await;
    assert_eq!(story.expect(200)["flows"][0]["state"], "failed");

    let saga = shop.saga(order_id).await;
    assert_eq!(saga.is_some(), by_saga, "{saga:?}");
    assert!(saga.is_none_or(|saga| saga["state"] == "compensated"));

    let drawing = trace_of(shop, &order_events[1]).await;
    let ordered = [
        "gateway: POST order-service-routes",
        "gateway: POST order-service",
        "order-service: POST /api/v1/orders",
    ];
    let released: &[_] = match by_saga {
        false => &[
            "order-service: send order.created",
            "payment-service: handle order.created",
            "payment-service: send payment.failed",
            "order-service: handle payment.failed",
            "order-service: send order.failed",
            "inventory-service: handle order.failed",
            "inventory-service: send inventory.released",
        ],
        true => &[
            "order-service: saga order undo reserve",
            "order-service: POST inventory-service",
            "inventory-service: POST /internal/reservations/{order_id}/release",
            "inventory-service: send inventory.released",
        ],
    };
    let to_release = way(&drawing, "send inventory.released");
    assert_eq!(to_release, [&ordered[..], released].concat());
    if by_saga {
        // The last thing that was done is the first to be taken back.
        let void = "payment-service: POST /internal/payments/{order_id}/void";
        let voided = [
            "order-service: saga order undo charge",
            "order-service: POST payment-service",
            void,
        ];
        let to_void = way(&drawing, void);
        assert_eq!(to_void, [&ordered[..], &voided].concat());
        assert!(
            drawing.find(void) < drawing.find("undo reserve"),
            "{drawing}"
        );
    }
}
