//! Services that prove to each other who they are: two processes' worth of a platform, and strangers.

mod doors;
#[cfg(feature = "grpc")]
mod grpc;
mod rotation;
mod shop;

use serde_json::json;
use trunkline_service::Config;
use trunkline_testkit::http::Caller;

use crate::ask::Ask;
use shop::{DEVELOPMENT, Shop, TOKENS, notes, refusals, shop, start};

/// What a caller gets, and what the audit log of the called service says of it.
const DENIED: &str = "orders call stock POST /stock/{sku} refused call_not_permitted";

#[tokio::test]
async fn what_was_not_declared_is_refused_in_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), "").await.unwrap();
    let orders = || Ask::new(running.network().clone(), "orders").with("x-correlation-id", "f-1");
    assert_eq!(orders().get("/ask").await.body, json!("stock of oats"));
    let answer = orders().get("/overreach").await;
    assert_eq!((answer.status, answer.code()), (403, "call_not_permitted"));
    assert!(answer.detail().contains(".calls_operation("), "{answer:?}");
    running.shutdown().await;
    assert_eq!(
        refusals(&folder.path().join("data"), "stock").await,
        [DENIED]
    );
    let flows = notes(&folder.path().join("data"), "stock").await;
    assert_eq!(flows[0].entry.correlation_id.as_deref(), Some("f-1"));
    assert!(
        !folder.path().join("data/identity").exists(),
        "nothing is signed"
    );
}

/// In several processes: without proofs, with tokens alone, and with certificates.
#[tokio::test]
async fn what_was_not_declared_is_refused_across_processes() {
    for text in ["", TOKENS, DEVELOPMENT] {
        let shop = Shop::start(text).await;
        let orders = || shop.ask("orders").with("x-correlation-id", "f-1");
        assert_eq!(orders().get("/ask").await.body, json!("stock of oats"));
        let answer = orders().get("/overreach").await;
        assert_eq!((answer.status, answer.code()), (403, "call_not_permitted"));
        let data = shop.data();
        let _folder = shop.stop().await;
        assert_eq!(refusals(&data, "stock").await, [DENIED], "{text}");
        let flows = notes(&data, "stock").await;
        assert_eq!(flows[0].entry.correlation_id.as_deref(), Some("f-1"));
    }
}

#[tokio::test]
async fn the_gateway_and_the_console_prove_who_they_are_too() {
    let shop = Shop::start(DEVELOPMENT).await;
    let outside = Caller::new(format!("http://{}", shop.front.gateway_address().unwrap()));
    let asked = outside.get("/ask").await;
    assert_eq!(asked.expect(200), json!("stock of oats"));
    let admin = Caller::new(format!("http://{}", shop.front.admin_address()));
    let health = admin.get("/health").await.expect(200);
    let services = health["services"].as_array().unwrap();
    assert_eq!(services.len(), 2, "{health:#}");
    let checks = health.to_string();
    assert!(checks.contains("certificate"), "{health:#}");
    let outboxes = admin.get("/api/v1/outbox").await.expect(200);
    assert_eq!(outboxes.get("unreachable"), None, "{outboxes:#}");
    // What the console may, no service may, whatever it calls there.
    let answer = shop.ask("orders").get("/steer").await;
    assert_eq!((answer.status, answer.code()), (403, "call_not_permitted"));
    // The gateway leads to all of a service's own, and not to that either.
    let steered = outside.get("/trunkline/admin/api/v1/outbox").await;
    assert_eq!(steered.status, 403);
    let data = shop.data();
    let _folder = shop.stop().await;
    let noted = refusals(&data, "stock").await;
    assert_eq!(
        noted,
        [
            "orders call stock trunkline/admin refused call_not_permitted",
            "gateway call stock trunkline/admin refused call_not_permitted",
        ]
    );
}

#[tokio::test]
async fn mistakes_are_told_before_anything_begins() {
    for (text, said) in [
        ("[tls]\nfolder = 7\n", "line 2"),
        ("[tls]\ncertificate = \"x\"\n", "expected one of"),
        ("[identity]\nkey = \"x\"\n", "expected `keys`"),
        ("[service.gateway]\nlimit = 3\n", "service.gateway"),
        (
            "[tls]\nfolder = \"/nowhere/{service}\"\n",
            "trunkline certs issue",
        ),
        (
            "[tls]\ndevelopment = true\nfolder = \"/nowhere\"\n",
            "/{service}",
        ),
        (
            "[tls]\n[service.stock]\nurl = \"http://h:1\"\n",
            "`listen` in [service.orders]",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trunkline.toml");
        std::fs::write(&file, text).unwrap();
        let started = async {
            let mut config = Config::load(Some(&file), [])?;
            config.data = folder.path().join("data");
            config.bus = "memory:".to_owned();
            config.admin.address = ([127, 0, 0, 1], 0).into();
            shop().start(config).await
        };
        let error = started.await.unwrap_err().to_string();
        assert!(error.contains(said), "{text}{error}");
    }
}
