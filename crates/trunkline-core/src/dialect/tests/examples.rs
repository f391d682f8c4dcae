//! The examples that the platforms' own documents print.

use super::*;

#[test]
fn tabliums_own_example_is_read_and_written_again() {
    let event = read(Dialect::Tablium, TABLIUM);
    assert_eq!(event.id, "evt-123456");
    assert_eq!(event.event_type, "user.registered");
    assert_eq!(event.version, Version::new(1, 0));
    assert_eq!(event.time.as_millisecond(), 1_679_142_896_789);
    assert_eq!(event.source, "auth-service");
    assert_eq!(event.correlation_id, "corr-123456");
    assert_eq!(event.topic, "order-events");
    // `trace-123456` is no trace of W3C's; it is kept all the same.
    assert_eq!(event.trace, None);
    assert_eq!(compact(&write(Dialect::Tablium, &event)), compact(TABLIUM));
}

#[test]
fn storefronts_own_example_is_read_and_written_again() {
    let event = read(Dialect::Storefront, STOREFRONT);
    assert_eq!(event.id, "550e8400-e29b-41d4-a716-446655440000");
    assert_eq!(
        event.user_id.as_deref(),
        Some("550e8400-e29b-41d4-a716-446655440003")
    );
    let trace = event.trace.unwrap();
    assert_eq!(trace.trace_id, 0x550e_8400_e29b_41d4_a716_4466_5544_0005);
    assert_eq!(trace.span_id, 0xa716_4466_5544_0005);
    let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
    assert_eq!(data["items"][0]["quantity"], 2);
    assert_eq!(
        compact(&write(Dialect::Storefront, &event)),
        compact(STOREFRONT)
    );
}

#[test]
fn retails_own_example_is_read_and_written_again() {
    let event = read(Dialect::Retail, RETAIL);
    assert_eq!(event.time.to_string(), "2009-02-13T23:31:30Z");
    assert_eq!(event.event_type, "OrderCreated");
    assert!(
        event.extensions.is_empty(),
        "nothing is kept besides: {:?}",
        event.extensions
    );
    assert_eq!(compact(&write(Dialect::Retail, &event)), compact(RETAIL));
}

#[test]
fn the_other_events_of_storefront_are_kept() {
    let texts = [
        include_str!("storefront-payment.json"),
        include_str!("storefront-inventory.json"),
    ];
    for (text, event_type) in texts
        .into_iter()
        .zip(["payment.success", "inventory.reserved"])
    {
        let event = read(Dialect::Storefront, text);
        assert_eq!(event.event_type, event_type);
        assert_eq!(event.correlation_id, "550e8400-e29b-41d4-a716-446655440001");
        assert_eq!(compact(&write(Dialect::Storefront, &event)), compact(text));
    }
}

#[test]
fn every_event_of_retail_is_kept() {
    let events = [
        (
            "OrderConfirmed",
            r#"{"orderId":"order_123","status":"confirmed"}"#,
        ),
        (
            "OrderCancelled",
            r#"{"orderId":"order_123","reason":"payment_failed"}"#,
        ),
        (
            "StockUpdated",
            r#"{"shopId":"shop_456","newStock":50,"previousStock":45,"change":5}"#,
        ),
        (
            "InventoryReserved",
            r#"{"orderId":"order_123","productId":"prod_789","quantity":2}"#,
        ),
        (
            "LowStockAlert",
            r#"{"productId":"prod_789","currentStock":5,"minimumStock":10}"#,
        ),
        (
            "PaymentProcessed",
            r#"{"paymentId":"pay_123","amount":100.00,"gateway":"swishpay"}"#,
        ),
        (
            "PaymentFailed",
            r#"{"paymentId":"pay_123","reason":"insufficient_funds"}"#,
        ),
        (
            "RefundProcessed",
            r#"{"refundId":"ref_123","amount":50.00,"status":"success"}"#,
        ),
        (
            "DeviceStatusUpdated",
            r#"{"deviceId":"device_123","lastSeen":1234567890}"#,
        ),
        (
            "DeviceDataReceived",
            r#"{"deviceId":"device_123","dataType":"stock_update","data":{}}"#,
        ),
    ];
    for (event_type, data) in events {
        let text = format!(
            r#"{{"eventId":"evt_9","eventType":"{event_type}","eventVersion":"1.0","source":"s","timestamp":1234567890,"correlationId":"corr_123","data":{data}}}"#
        );
        let event = read(Dialect::Retail, &text);
        assert_eq!(
            (&*event.event_type, &*event.data),
            (event_type, data.as_bytes())
        );
        assert_eq!(write(Dialect::Retail, &event), text);
    }
}

#[test]
fn a_trace_id_with_its_span_is_a_trace() {
    let text = compact(STOREFRONT).replace(
        r#""550e8400-e29b-41d4-a716-446655440005""#,
        r#""4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7""#,
    );
    let event = read(Dialect::Storefront, &text);
    let expected = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(event.trace.unwrap().to_string(), expected);
    assert_eq!(write(Dialect::Storefront, &event), text);
}
