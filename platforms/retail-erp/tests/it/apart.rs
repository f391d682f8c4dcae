//! Each service in a process of its own, as `retail-erp up --processes` starts them.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use hyper::Method;
use retail_erp::{DEVICE, demo};
use serde_json::json;
use trunkline_testkit::http::Caller;
use trunkline_testkit::redis::Server;
use trunkline_testkit::{Child, eventually, free_port};

use crate::erp::{BEANS, new_order, place};

/// Eleven processes begin, on a machine that does other things too.
const UP: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn orders_and_sales_cross_eleven_processes() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("trunkline.toml");
    let bus = format!(
        "bus = \"{}?prefix=retail-apart.&form=retail\"\n",
        Server::shared().url()
    );
    std::fs::write(&config, bus).unwrap();
    let places = [(); 3].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
    let [gateway, admin, sandbox] = &places;
    let data = folder.path().join("data");
    let log = File::create(folder.path().join("erp.log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_retail-erp"));
    command.args([
        "up",
        "--processes",
        "--quiet",
        "--gateway",
        gateway,
        "--admin",
        admin,
    ]);
    command
        .args(["--sandbox", sandbox])
        .arg("--data")
        .arg(&data)
        .arg("--config")
        .arg(&config);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let mut erp = Child::spawn(&mut command).unwrap();
    let admin = Caller::new(format!("http://{admin}"));
    eventually(UP, async || {
        let health = admin.try_send(Method::GET, "/health", None).await;
        health.is_ok_and(|answer| answer.status == 200)
    })
    .await;

    let outside = Caller::new(format!("http://{gateway}"));
    let caller = |user: &str, roles: &[&str]| {
        let token = retail_erp::token(&data, user, roles, Duration::from_secs(600));
        outside.bearing(&token.unwrap())
    };
    let customer = caller("user_789", &[]);
    let level = async |shop_id: &str, product_id: &str| {
        let level = customer
            .get(&format!("/api/inventory/{shop_id}/{product_id}"))
            .await;
        level.expect(200)["stock"].clone()
    };
    let paid = place(&customer, "k", new_order(BEANS, 4, "tok_visa"))
        .await
        .expect(201);
    assert_eq!(paid["status"], "confirmed");
    let failed = place(&customer, "f", new_order(BEANS, 4, "tok_insufficient"))
        .await
        .expect(201);
    assert_eq!(
        (&failed["status"], &failed["reason"]),
        (&json!("cancelled"), &json!("payment_failed"))
    );
    eventually(UP, async || level(demo::SHOP, BEANS).await == 41).await;
    let refund = format!("/orders/{}/refund", paid["orderId"].as_str().unwrap());
    customer
        .with("idempotency-key", "r")
        .post(&refund, json!({}))
        .await
        .expect(200);
    eventually(UP, async || level(demo::SHOP, BEANS).await == 45).await;

    let machine = caller(demo::MACHINE, &[DEVICE]);
    let status = format!("/api/devices/{}/status", demo::MACHINE);
    let report =
        json!({ "status": "online", "stock": [{ "productId": "prod_456", "quantity": 5 }] });
    machine.post(&status, report).await.expect(204);
    eventually(UP, async || {
        level(demo::VENDING_SHOP, "prod_456").await == 5
    })
    .await;
    let sale = json!({ "saleId": "s1", "slot": "A1", "cardToken": "tok_visa" });
    eventually(UP, async || {
        let sold = machine.post("/api/vm/sales", sale.clone()).await;
        sold.status == 200 && sold.json()["status"] == "vending"
    })
    .await;
    eventually(UP, async || {
        level(demo::VENDING_SHOP, "prod_456").await == 4
    })
    .await;

    erp.terminate().unwrap();
    let ended = tokio::task::spawn_blocking(move || erp.process().wait().unwrap())
        .await
        .unwrap();
    assert!(ended.success(), "the ERP did not end well: {ended}");
}
