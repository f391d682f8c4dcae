//! The events as others read them: the document's own envelope, on a broker.

/// Every event of the document on Redis, read by `redis-cli`, which knows nothing of us.
#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn the_documents_own_envelope_is_on_the_wire() {
    use retail_erp::demo;
    use serde_json::json;
    use trunkline_testkit::redis::Server;

    use crate::erp::{TestErp, UMBRELLA, new_order, place};

    let server = Server::shared();
    let prefix = "retail-wire.";
    let bus = format!("bus = \"{}?prefix={prefix}&form=retail\"\n", server.url());
    let erp = TestErp::start_with(&bus).await;
    let flow = "corr_123";
    let customer = erp.customer().with("x-correlation-id", flow);
    let order = place(&customer, "k", new_order(UMBRELLA, 10, "tok_visa"))
        .await
        .expect(201);
    let failing = place(&customer, "f", new_order(UMBRELLA, 1, "tok_insufficient")).await;
    failing.expect(201);
    erp.events(flow, &["LowStockAlert"]).await;
    let order_id = order["orderId"].as_str().unwrap();
    let refunding = customer.with("idempotency-key", "r");
    refunding
        .post(&format!("/orders/{order_id}/refund"), json!({}))
        .await
        .expect(200);
    let machine = erp.machine().with("x-correlation-id", flow);
    let device = format!("/api/devices/{}", demo::MACHINE);
    let online = json!({ "status": "online" });
    machine
        .post(&format!("{device}/status"), online)
        .await
        .expect(204);
    let count = json!({ "stock": [{ "productId": "prod_790", "quantity": 5 }] });
    let count = json!({ "dataType": "stock_update", "data": count });
    machine
        .post(&format!("{device}/data"), count)
        .await
        .expect(204);
    let events = erp
        .events(flow, &["RefundProcessed", "DeviceDataReceived"])
        .await;

    let written = raw::events(server, prefix);
    for name in raw::DOCUMENT {
        let (event, source, fields) = name;
        let of_flow = |written: &&raw::Written| {
            written.json["eventType"] == *event && written.json["correlationId"] == flow
        };
        let found = written
            .iter()
            .find(of_flow)
            .unwrap_or_else(|| panic!("no {event}"));
        found.is_an_event_of_the_document(source, fields);
        // It is the very event that the ERP's own trail has.
        let known = events
            .iter()
            .find(|known| known["id"] == found.json["eventId"]);
        assert_eq!(known.unwrap()["data"], found.json["data"]);
    }
    let created = written.iter().find(|written| {
        written.json["data"]["orderId"] == order_id && written.json["eventType"] == "OrderCreated"
    });
    assert!(
        created.unwrap().text.contains("\"totalAmount\":100.00"),
        "as it is printed"
    );
    erp.stop().await;
}

#[cfg(feature = "redis")]
mod raw {
    use serde_json::Value;
    use trunkline_testkit::redis::Server;

    /// An event as it stands on the broker.
    pub(super) struct Written {
        pub(super) text: String,
        pub(super) json: Value,
    }

    /// The events of the document, who publishes each, and the fields of its data.
    pub(super) const DOCUMENT: &[(&str, &str, &[&str])] = &[
        (
            "OrderCreated",
            "order-service",
            &["orderId", "shopId", "userId", "items", "totalAmount"],
        ),
        ("OrderConfirmed", "order-service", &["orderId", "status"]),
        ("OrderCancelled", "order-service", &["orderId", "reason"]),
        (
            "StockUpdated",
            "inventory-service",
            &["shopId", "productId", "newStock", "previousStock", "change"],
        ),
        (
            "InventoryReserved",
            "inventory-service",
            &["orderId", "shopId", "productId", "quantity"],
        ),
        (
            "LowStockAlert",
            "inventory-service",
            &["shopId", "productId", "currentStock", "minimumStock"],
        ),
        (
            "PaymentProcessed",
            "payment-service",
            &["paymentId", "orderId", "amount", "status", "gateway"],
        ),
        (
            "PaymentFailed",
            "payment-service",
            &["paymentId", "orderId", "reason"],
        ),
        (
            "RefundProcessed",
            "payment-service",
            &["refundId", "paymentId", "amount", "status"],
        ),
        (
            "DeviceStatusUpdated",
            "iot-gateway",
            &["deviceId", "shopId", "status", "lastSeen"],
        ),
        (
            "DeviceDataReceived",
            "iot-gateway",
            &["deviceId", "shopId", "dataType", "data"],
        ),
    ];

    impl Written {
        /// Checks it field by field against the document's envelope.
        pub(super) fn is_an_event_of_the_document(&self, source: &str, fields: &[&str]) {
            let Self { text, json } = self;
            for field in ["eventId", "eventType", "source", "correlationId"] {
                assert!(json[field].is_string(), "{field} of {text}");
            }
            assert_eq!(json["eventVersion"], "1.0", "{text}");
            assert_eq!(json["source"], source, "{text}");
            // Unix seconds, of these years.
            let seconds = json["timestamp"]
                .as_f64()
                .unwrap_or_else(|| panic!("{text}"));
            assert!((1.7e9..1e10).contains(&seconds), "{text}");
            let mut found: Vec<_> = json["data"].as_object().unwrap().keys().collect();
            let mut expected: Vec<_> = fields.iter().copied().map(String::from).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{text}");
        }
    }

    /// Everything that was published.
    pub(super) fn events(server: &Server, prefix: &str) -> Vec<Written> {
        let topics = [
            "order-events",
            "inventory-events",
            "payment-events",
            "device-events",
        ];
        let streams = topics.map(|topic| {
            let stream = format!("{prefix}{{{topic}}}:0");
            let output = server
                .cli()
                .args(["--raw", "XRANGE", &stream, "-", "+"])
                .output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        });
        let lines = streams.iter().flat_map(|stream| stream.lines());
        let events = lines
            .filter(|line| line.starts_with('{'))
            .map(|line| Written {
                text: line.to_owned(),
                json: serde_json::from_str(line).unwrap(),
            });
        events.collect()
    }
}
