//! Devices that speak MQTT: mosquitto's own clients, over mosquitto.

use std::process::{Command, Stdio};

use retail_erp::demo;
use serde_json::{Value, json};
use trunkline_testkit::mosquitto::Server;
use trunkline_testkit::{Child, eventually};

use crate::erp::{SOON, TestErp, types};

const WATER: &str = "prod_790";

async fn start(broker: &Server) -> TestErp {
    let config = format!(
        "[service.iot-gateway]\nmqtt = true\n[devices]\nbroker = \"{}\"\noffline_after_ms = 100\n",
        broker.url()
    );
    TestErp::start_with(&config).await
}

fn topic(name: &str) -> String {
    format!("devices/{}/{name}", demo::MACHINE)
}

/// Publishes with QoS 1, and waits for the broker's word.
fn publish(broker: &Server, topic: &str, payload: &str, retain: bool) {
    let mut command = Command::new("mosquitto_pub");
    command.args([
        "-p",
        &broker.port().to_string(),
        "-q",
        "1",
        "-t",
        topic,
        "-m",
        payload,
    ]);
    if retain {
        command.arg("-r");
    }
    assert!(command.status().unwrap().success());
}

/// A device that is connected, and has made its last will.
fn connect(broker: &Server) -> Child {
    let mut command = Command::new("mosquitto_sub");
    command.args([
        "-p",
        &broker.port().to_string(),
        "-i",
        demo::MACHINE,
        "-q",
        "1",
    ]);
    command.args(["-t", &topic("commands")]);
    command.args([
        "--will-topic",
        &topic("presence"),
        "--will-payload",
        "offline",
    ]);
    command.args(["--will-qos", "1", "--will-retain"]);
    command.stdout(Stdio::null());
    let child = Child::spawn(&mut command).unwrap();
    publish(broker, &topic("presence"), "online", true);
    child
}

/// What was told of the machine's status, the oldest first.
async fn told(erp: &TestErp) -> Vec<Value> {
    let page = erp
        .admin
        .get("/api/v1/events?type=DeviceStatusUpdated&limit=100")
        .await
        .expect(200);
    let mut events = page["events"].as_array().unwrap().clone();
    events.sort_by_key(|event| event["time"].as_str().unwrap().to_owned());
    events
}

async fn is(erp: &TestErp, status: &str) {
    let path = format!("/api/shops/{}", demo::VENDING_SHOP);
    eventually(SOON, async || {
        erp.customer().get(&path).await.expect(200)["devices"][0]["status"] == status
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn device_status_flow_over_mqtt() {
    let broker = Server::start();
    let erp = start(&broker).await;

    // Device->>IoTGateway: Device Status (MQTT)
    let machine = connect(&broker);
    is(&erp, "online").await;
    let report = json!({ "status": "online", "stock": [{ "productId": WATER, "quantity": 3 }] });
    publish(&broker, &topic("status"), &report.to_string(), false);
    // InventorySvc->>InventorySvc: Update Stock from Device
    erp.has_stock(demo::VENDING_SHOP, WATER, (3, 0)).await;
    let data = json!({ "stock": [{ "productId": WATER, "quantity": 2 }] });
    let data = json!({ "dataType": "stock_update", "data": data });
    publish(&broker, &topic("data"), &data.to_string(), false);
    erp.has_stock(demo::VENDING_SHOP, WATER, (2, 0)).await;

    // Its plug is pulled: nobody but its last will says so.
    drop(machine);
    is(&erp, "offline").await;
    let gone = format!("{} in {} is offline", demo::MACHINE, demo::VENDING_SHOP);
    eventually(SOON, async || erp.mails(&gone).len() == 1).await;
    eventually(SOON, async || told(&erp).await.len() == 3).await;
    let events = told(&erp).await;
    let statuses: Vec<_> = events
        .iter()
        .map(|event| &event["data"]["status"])
        .collect();
    assert_eq!(statuses, ["online", "online", "offline"]);
    assert_eq!(events[1]["source"], "iot-gateway");
    assert_eq!(events[1]["data"]["stock"], report["stock"]);

    // One flow and one trace, from the report to the stock.
    let flow = events[1]["correlation_id"].as_str().unwrap();
    let flow = erp.events(flow, &["StockUpdated"]).await;
    assert_eq!(types(&flow)[..2], ["DeviceStatusUpdated", "StockUpdated"]);
    let trace = |event: &Value| event["traceparent"].as_str().unwrap()[3..35].to_owned();
    assert!(flow.iter().all(|event| trace(event) == trace(&flow[0])));
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_report_holds_up_nothing() {
    let broker = Server::start();
    let erp = start(&broker).await;
    let _machine = connect(&broker);
    is(&erp, "online").await;
    for payload in [
        "",
        "\u{1}\u{2}",
        "{",
        "[]",
        "{\"status\": \"asleep\"}",
        "{\"status\": 7}",
    ] {
        publish(&broker, &topic("status"), payload, false);
    }
    let many: Vec<_> = (0..101)
        .map(|_| json!({ "productId": "p", "quantity": 1 }))
        .collect();
    let many = json!({ "status": "online", "stock": many }).to_string();
    publish(&broker, &topic("status"), &many, false);
    publish(
        &broker,
        &topic("data"),
        r#"{"dataType": "stock_update", "data": {"stock": 7}}"#,
        false,
    );
    publish(
        &broker,
        "devices/ghost/status",
        r#"{"status": "online"}"#,
        false,
    );
    let report = json!({ "status": "online", "stock": [{ "productId": WATER, "quantity": 1 }] });
    publish(&broker, &topic("status"), &report.to_string(), false);
    erp.has_stock(demo::VENDING_SHOP, WATER, (1, 0)).await;
    let letters = erp.admin.get("/api/v1/dead-letters").await.expect(200);
    assert_eq!(letters["dead_letters"], json!([]));
    erp.stop().await;
}
