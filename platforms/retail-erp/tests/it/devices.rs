//! Device status updates.

use retail_erp::{DEVICE, demo};
use serde_json::json;
use trunkline_testkit::eventually;
use trunkline_testkit::trace::way;

use crate::erp::{SOON, TestErp, data, types};

const WATER: &str = "prod_790";

#[tokio::test(flavor = "multi_thread")]
async fn device_status_flow() {
    let erp = TestErp::start().await;
    let flow = "device-status";
    let machine = erp.machine().with("x-correlation-id", flow);
    let path = format!("/api/devices/{}/status", demo::MACHINE);

    // Device->>IoTGateway: Device Status
    let report = json!({
        "status": "online", "stock": [{ "productId": WATER, "quantity": 3 }],
    });
    machine.post(&path, report).await.expect(204);
    // IoTGateway->>ShopSvc: Update Device Status (gRPC)
    let shop = format!("/api/shops/{}", demo::VENDING_SHOP);
    let shop = erp.customer().get(&shop).await.expect(200);
    assert_eq!(shop["devices"][0]["deviceId"], demo::MACHINE);
    assert_eq!(
        shop["devices"][0]["status"], "online",
        "before the device is answered"
    );
    // IoTGateway->>EventBus: Publish DeviceStatusUpdated Event
    // InventorySvc->>InventorySvc: Update Stock from Device
    let events = erp.events(flow, &["LowStockAlert"]).await;
    assert_eq!(
        types(&events),
        ["DeviceStatusUpdated", "StockUpdated", "LowStockAlert"]
    );
    let updated = data(&events, "DeviceStatusUpdated");
    let printed = json!({
        "deviceId": demo::MACHINE, "shopId": demo::VENDING_SHOP, "status": "online",
        "lastSeen": shop["devices"][0]["lastSeen"],
        "stock": [{ "productId": WATER, "quantity": 3 }],
    });
    assert_eq!(updated, &printed);
    assert_eq!(data(&events, "StockUpdated")["change"], -7);
    assert_eq!(erp.stock(demo::VENDING_SHOP, WATER).await, (3, 0));

    // It goes away, and whoever fills the shops hears of it.
    machine
        .post(&path, json!({ "status": "offline" }))
        .await
        .expect(204);
    let gone = format!("{} in {} is offline", demo::MACHINE, demo::VENDING_SHOP);
    eventually(SOON, async || erp.mails(&gone).len() == 1).await;
    let history = format!(
        "/api/shops/{}/devices/{}/history",
        demo::VENDING_SHOP,
        demo::MACHINE
    );
    eventually(SOON, async || {
        let history = erp.staff().get(&history).await.expect(200);
        history[0]["status"] == "offline" || history[1]["status"] == "offline"
    })
    .await;

    let drawing = erp.trace_of(&events[0]).await;
    let way = way(&drawing, "inventory-service: handle DeviceStatusUpdated");
    assert_eq!(
        way[2..],
        [
            "iot-gateway: POST /api/devices/{device_id}/status",
            "iot-gateway: send DeviceStatusUpdated",
            "inventory-service: handle DeviceStatusUpdated",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_tells_what_it_measured() {
    let erp = TestErp::start().await;
    let flow = "device-data";
    let machine = erp.machine().with("x-correlation-id", flow);
    let path = format!("/api/devices/{}/data", demo::MACHINE);
    let counted = json!({ "stock": [{ "productId": WATER, "quantity": 9 }] });
    let report = json!({ "dataType": "stock_update", "data": counted });
    machine.post(&path, report).await.expect(204);
    let events = erp.events(flow, &["StockUpdated"]).await;
    assert_eq!(types(&events), ["DeviceDataReceived", "StockUpdated"]);
    let received = json!({
        "deviceId": demo::MACHINE, "shopId": demo::VENDING_SHOP, "dataType": "stock_update",
        "data": counted,
    });
    assert_eq!(data(&events, "DeviceDataReceived"), &received);

    // What is no count is told too, and changes no stock; what the shop does not have is not added.
    let warm = json!({ "dataType": "temperature", "data": { "celsius": 7.5 } });
    machine.post(&path, warm).await.expect(204);
    let strange = json!({ "stock": [{ "productId": "prod_1", "quantity": 9 }] });
    let strange = json!({ "dataType": "stock_update", "data": strange });
    machine.post(&path, strange).await.expect(204);
    let count = json!({ "stock": [{ "productId": WATER, "quantity": 8 }] });
    let count = json!({ "dataType": "stock_update", "data": count });
    machine.post(&path, count).await.expect(204);
    erp.has_stock(demo::VENDING_SHOP, WATER, (8, 0)).await;
    let nothing = format!("/api/inventory/{}/prod_1", demo::VENDING_SHOP);
    erp.staff()
        .get(&nothing)
        .await
        .refused(404, "stock_unknown");
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_speaks_for_itself_alone() {
    let erp = TestErp::start().await;
    let staff = erp.staff();
    let sensor = format!("/api/shops/{}/devices/sensor_1", demo::VENDING_SHOP);
    staff.put(&sensor, json!({})).await.expect(200);
    let online = json!({ "status": "online" });
    let path = format!("/api/devices/{}/status", demo::MACHINE);
    let sensor = erp.caller("sensor_1", &[DEVICE]);
    sensor
        .post(&path, online.clone())
        .await
        .refused(403, "device_not_itself");
    erp.customer()
        .post(&path, online.clone())
        .await
        .refused(403, "role_missing");
    // Without the role its name alone is no credential.
    erp.caller(demo::MACHINE, &[])
        .post(&path, online.clone())
        .await
        .refused(403, "role_missing");
    // One that stands in the shop may tell how it is, and not what lies there.
    sensor
        .post("/api/devices/sensor_1/status", online.clone())
        .await
        .expect(204);
    let counts = json!({ "status": "online", "stock": [{ "productId": WATER, "quantity": 99 }] });
    sensor
        .post("/api/devices/sensor_1/status", counts)
        .await
        .refused(403, "device_counts_nothing");
    let unknown = erp.caller("ghost", &[DEVICE]);
    unknown
        .post("/api/devices/ghost/status", online)
        .await
        .refused(404, "device_unknown");
    assert_eq!(erp.stock(demo::VENDING_SHOP, WATER).await, (10, 0));
    erp.stop().await;
}
