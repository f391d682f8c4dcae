//! Each service in a process of its own, as `retail-erp up --processes` starts them.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hyper::Method;
use retail_erp::{DEVICE, demo};
use serde_json::json;
use tempfile::TempDir;
use trunkline_testkit::http::Caller;
use trunkline_testkit::redis::Server;
use trunkline_testkit::{Child, eventually, free_port};

use crate::erp::{BEANS, new_order, place};
use crate::strangers::Stranger;
use crate::together::refusals;

/// Eleven processes begin, on a machine that does other things too.
const UP: Duration = Duration::from_secs(90);

/// An ERP of eleven processes.
struct Apart {
    erp: Child,
    outside: Caller,
    admin: Caller,
    folder: TempDir,
}

impl Apart {
    /// Starts one on the bus `prefix`, with this in its configuration too.
    async fn start(prefix: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("trunkline.toml");
        let bus = Server::shared().url();
        let bus = format!("bus = \"{bus}?prefix={prefix}.&form=retail\"\n{more}");
        std::fs::write(&config, bus).unwrap();
        let places = [(); 3].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
        let [gateway, admin, sandbox] = &places;
        let log = File::create(folder.path().join("erp.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_retail-erp"));
        command.args(["up", "--processes", "--quiet"]);
        command.args(["--gateway", gateway, "--admin", admin, "--sandbox", sandbox]);
        command.arg("--data").arg(folder.path().join("data"));
        command.arg("--config").arg(&config);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let apart = Self {
            erp: Child::spawn(&mut command).unwrap(),
            outside: Caller::new(format!("http://{gateway}")),
            admin: Caller::new(format!("http://{admin}")),
            folder,
        };
        eventually(UP, async || {
            let health = apart.admin.try_send(Method::GET, "/health", None).await;
            health.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        apart
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("erp.log")).unwrap()
    }

    /// Where a service listens, as its process said.
    fn address(&self, service: &str) -> SocketAddr {
        let log = self.log();
        let up = format!("{service} is up on ");
        let line = log.lines().find_map(|line| line.strip_prefix(&up)).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    }

    fn caller(&self, user: &str, roles: &[&str]) -> Caller {
        let token = retail_erp::token(&self.data(), user, roles, Duration::from_secs(600));
        self.outside.bearing(&token.unwrap())
    }

    async fn level(&self, shop_id: &str, product_id: &str) -> serde_json::Value {
        let path = format!("/api/inventory/{shop_id}/{product_id}");
        let level = self.caller("user_789", &[]).get(&path).await;
        level.expect(200)["stock"].clone()
    }

    /// Orders that are paid, fail and are given back, and a sale of the vending machine.
    async fn orders_and_sells(&self) {
        let customer = self.caller("user_789", &[]);
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
        eventually(UP, async || self.level(demo::SHOP, BEANS).await == 41).await;
        let refund = format!("/orders/{}/refund", paid["orderId"].as_str().unwrap());
        customer
            .with("idempotency-key", "r")
            .post(&refund, json!({}))
            .await
            .expect(200);
        eventually(UP, async || self.level(demo::SHOP, BEANS).await == 45).await;

        let machine = self.caller(demo::MACHINE, &[DEVICE]);
        let status = format!("/api/devices/{}/status", demo::MACHINE);
        let report =
            json!({ "status": "online", "stock": [{ "productId": "prod_456", "quantity": 5 }] });
        machine.post(&status, report).await.expect(204);
        eventually(UP, async || {
            self.level(demo::VENDING_SHOP, "prod_456").await == 5
        })
        .await;
        let sale = json!({ "saleId": "s1", "slot": "A1", "cardToken": "tok_visa" });
        eventually(UP, async || {
            let sold = machine.post("/api/vm/sales", sale.clone()).await;
            sold.status == 200 && sold.json()["status"] == "vending"
        })
        .await;
        eventually(UP, async || {
            self.level(demo::VENDING_SHOP, "prod_456").await == 4
        })
        .await;
    }

    async fn stop(self) -> TempDir {
        self.erp.terminate().unwrap();
        let mut erp = self.erp;
        let ended = tokio::task::spawn_blocking(move || erp.process().wait().unwrap())
            .await
            .unwrap();
        assert!(ended.success(), "the ERP did not end well: {ended}");
        self.folder
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_and_sales_cross_eleven_processes() {
    let apart = Apart::start("retail-apart", "").await;
    apart.orders_and_sells().await;
    apart.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_mtls_on_every_hop_they_cross_too_and_strangers_do_not() {
    let apart = Apart::start("retail-mtls", "[tls]\ndevelopment = true\n").await;
    apart.orders_and_sells().await;

    for service in SERVICES {
        let door = apart.address(service);
        assert!(Stranger::gets_nothing_in_the_clear(door).await, "{service}");
    }
    let (data, payment) = (apart.data(), apart.address("payment-service"));
    let asks = async |stranger: Stranger| stranger.asks("payment-service", payment).await;
    let certs = data.join("certs");
    let order = asks(Stranger::of(&certs, "order-service").signing(&data)).await;
    // Let in, and then asked for whom it comes.
    assert_eq!(order, (401, "user_missing".to_owned()));
    let other_ca = asks(Stranger::of_another_ca(&certs, "order-service").signing(&data)).await;
    assert_eq!(other_ca, (0, "certificate_refused".to_owned()));
    let unsigned = asks(Stranger::of(&certs, "order-service")).await;
    assert_eq!(unsigned, (401, "token_missing".to_owned()));
    let product = asks(Stranger::of(&certs, "product-service").signing(&data)).await;
    assert_eq!(product, (403, "call_not_permitted".to_owned()));

    let log = apart.log();
    let _folder = apart.stop().await;
    let noted = refusals(&data, "payment-service").await;
    let refused = |actor: &str, action: &str, code: &str| {
        noted.iter().any(|entry| {
            let reason = entry.reason.as_deref().unwrap_or_default();
            entry.actor == actor && entry.action == action && reason.starts_with(code)
        })
    };
    assert!(
        refused("unknown", "tls.accept", "certificate_refused"),
        "{noted:#?}"
    );
    assert!(
        refused("order-service", "call", "token_missing"),
        "{noted:#?}"
    );
    assert!(
        refused("product-service", "call", "call_not_permitted"),
        "{noted:#?}"
    );
    let flow = noted.iter().find(|entry| entry.actor == "product-service");
    assert_eq!(flow.unwrap().correlation_id.as_deref(), Some("stranger-1"));
    // JWTs and private keys begin so.
    for secret in ["eyJ0eXAiOiJ0cnVua2", "PRIVATE KEY"] {
        assert!(!log.contains(secret), "{log}");
    }
}

const SERVICES: [&str; 10] = [
    "order-service",
    "inventory-service",
    "payment-service",
    "product-service",
    "campaign-service",
    "shop-service",
    "notification-service",
    "report-service",
    "iot-gateway",
    "vm-service",
];
