//! Strangers at the door of a service, over real connections.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trunkline_core::Env;
use trunkline_security::{Authority, Permissions, ServiceTokens, TokenKeys, TokenKeysPolicy};
use trunkline_testkit::eventually;

use super::shop::{DEVELOPMENT, Shop, load, notes, refusals};
use crate::sample::SOON;

fn all() -> Permissions {
    Permissions::new()
        .allow("orders", "stock")
        .allow("carts", "stock")
}

#[tokio::test]
async fn a_stranger_gets_no_connection_and_is_noted() {
    let shop = Shop::start(DEVELOPMENT).await;
    let theirs = tempfile::tempdir().unwrap();
    let authority = Authority::init(theirs.path(), "shop", Env::system()).unwrap();
    authority
        .issue("orders", &[], Authority::LEAF_LIFETIME)
        .unwrap();
    // It trusts ours, and is vouched for by theirs.
    let ours = std::fs::read_to_string(shop.certs().join("stock/ca.pem")).unwrap();
    let roots = theirs.path().join("orders/ca.pem");
    let both = std::fs::read_to_string(&roots).unwrap() + &ours;
    std::fs::write(&roots, both).unwrap();
    let another_ca = load(theirs.path(), "orders");
    assert_eq!(
        shop.intrude(&another_ca, None).await.1,
        "certificate_refused"
    );

    let short = shop.authority();
    short.issue("carts", &[], Duration::from_secs(2)).unwrap();
    let expiring = shop.certificates("carts");
    eventually(SOON, async || {
        shop.intrude(&expiring, None).await.1 == "certificate_refused"
    })
    .await;

    let data = shop.data();
    let _folder = shop.stop().await;
    let noted = notes(&data, "stock").await;
    let said = |what: &str| {
        noted.iter().any(|record| {
            let entry = &record.entry;
            let reason = entry.reason.as_deref().unwrap_or_default();
            entry.action == "tls.accept" && entry.actor == "unknown" && reason.contains(what)
        })
    };
    assert!(said("UnknownIssuer"), "{noted:#?}");
    assert!(said("xpired"), "{noted:#?}");
    assert!(said("claims_to_be: spiffe://shop/carts"), "{noted:#?}");
}

#[tokio::test]
async fn who_shows_no_certificate_or_speaks_in_the_clear_gets_nothing() {
    let shop = Shop::start(DEVELOPMENT).await;
    let doors = [
        shop.stock.service_address("stock").unwrap(),
        shop.orders.service_address("orders").unwrap(),
        shop.front.service_address("gateway").unwrap(),
    ];
    for path in [
        "/stock/oats",
        "/health",
        "/.well-known/jwks.json",
        "/trunkline/admin/health",
    ] {
        for door in doors {
            let mut plain = TcpStream::connect(door).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            plain.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // It may be reset before all of it was read.
            drop(plain.read_to_end(&mut answer).await);
            let answer = String::from_utf8_lossy(&answer);
            assert!(!answer.contains("HTTP/1"), "{path}: {answer}");
        }
    }
    let bare = shop.issue("carts");
    let network = shop.outside(&bare);
    network.set_tls(trunkline_call::TlsClient::new(move |_, target| {
        let mut config = (*bare.client_config(target, &[])?).clone();
        config.client_auth_cert_resolver = nothing();
        Ok(std::sync::Arc::new(config))
    }));
    let asked = crate::ask::Ask::new(network, "stock");
    let error = asked
        .try_send(http::Method::GET, "/health", Vec::new())
        .await;
    assert_eq!(error.unwrap_err().code(), "certificate_refused");
    let data = shop.data();
    let _folder = shop.stop().await;
    let noted = refusals(&data, "stock").await;
    assert_eq!(
        noted,
        ["unknown tls.accept stock refused certificate_missing"]
    );
}

/// What a client shows that has nothing to show.
fn nothing() -> std::sync::Arc<dyn rustls::client::ResolvesClientCert> {
    #[derive(Debug)]
    struct Nothing;
    impl rustls::client::ResolvesClientCert for Nothing {
        fn resolve(
            &self,
            _: &[&[u8]],
            _: &[rustls::SignatureScheme],
        ) -> Option<std::sync::Arc<rustls::sign::CertifiedKey>> {
            None
        }
        fn has_certs(&self) -> bool {
            false
        }
    }
    std::sync::Arc::new(Nothing)
}

#[tokio::test]
async fn a_token_that_is_not_right_is_refused_whatever_the_certificate() {
    let shop = Shop::start(DEVELOPMENT).await;
    let (orders, carts) = (shop.certificates("orders"), shop.issue("carts"));
    let tokens = shop.tokens("orders", all(), Env::system());
    let good = tokens.token("stock").unwrap();
    assert_eq!(shop.intrude(&orders, Some(&good)).await.0, 200);

    let (past, _) = Env::manual(1);
    let expired = shop.tokens("orders", all(), past).token("stock").unwrap();
    let permissions = Permissions::new().allow("orders", "carts");
    let elsewhere = shop.tokens("orders", permissions, Env::system());
    let elsewhere = elsewhere.token("carts").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let keys = TokenKeys::open(folder.path(), TokenKeysPolicy::default(), Env::system()).unwrap();
    let forged = ServiceTokens::new("orders", "orders", keys.clone(), all());
    let forged = forged.token("stock").unwrap();
    // Who signs for itself speaks for nobody else.
    let for_another = ServiceTokens::new("carts", "orders", keys, all());
    let for_another = for_another.token("stock").unwrap();
    for (certificate, token, code) in [
        (&orders, None, "token_missing"),
        (&orders, Some("x.y.z"), "token_malformed"),
        (&orders, Some(&*expired), "token_expired"),
        (&orders, Some(&*elsewhere), "token_forged"),
        (&orders, Some(&*forged), "token_forged"),
        // Somebody else of the platform caught it and sends it again.
        (&carts, Some(&*good), "certificate_mismatch"),
        (&carts, Some(&*for_another), "token_forged"),
    ] {
        let found = shop.intrude(certificate, token).await;
        assert_eq!(found, (401, code.to_owned()));
    }
    let data = shop.data();
    let _folder = shop.stop().await;
    let noted = refusals(&data, "stock").await;
    let refused = |actor: &str, code: &str| {
        let line = format!("{actor} call stock GET /stock/{{sku}} refused {code}");
        assert!(noted.contains(&line), "{line} is not in {noted:#?}");
    };
    refused("orders", "token_missing");
    refused("orders", "token_expired");
    refused("orders", "token_forged");
    refused("orders", "certificate_mismatch");
    for record in notes(&data, "stock").await {
        let reason = record.entry.reason.unwrap();
        for token in [&*good, &*expired, &*elsewhere, &*forged, &*for_another] {
            let secret = token.rsplit('.').next().unwrap();
            assert!(!reason.contains(secret), "{reason}");
        }
    }
}

#[tokio::test]
async fn who_may_nothing_is_told_what_to_declare() {
    let shop = Shop::start(DEVELOPMENT).await;
    // The console is of the platform, and may look into stock, but not use it.
    let permissions = Permissions::new().allow("console", "stock");
    let folder = shop.folder.path().join("identity/gateway");
    let keys = TokenKeys::open(folder, TokenKeysPolicy::default(), Env::system()).unwrap();
    let tokens = ServiceTokens::new("gateway", "console", keys, permissions);
    let token = tokens.token("stock").unwrap();
    let console = shop.certificates("console");
    let found = shop.intrude(&console, Some(&token)).await;
    assert_eq!(found, (403, "call_not_permitted".to_owned()));
    // What every service tells of itself, each of the platform may ask.
    let open = crate::ask::Ask::new(shop.outside(&console), "stock");
    assert_eq!(open.clone().get("/health").await.status, 200);
    let keys = open.get("/.well-known/jwks.json").await;
    assert_eq!(keys.body["keys"][0]["kty"], json!("OKP"));
    assert_eq!(keys.body["keys"][0].get("d"), None);
    let data = shop.data();
    let _folder = shop.stop().await;
    assert_eq!(
        refusals(&data, "stock").await,
        ["console call stock GET /stock/{sku} refused call_not_permitted"]
    );
}

#[tokio::test]
async fn the_last_known_keys_are_taken_while_their_publisher_is_away() {
    let shop = Shop::start(DEVELOPMENT).await;
    let orders = shop.certificates("orders");
    let tokens = shop.tokens("orders", all(), Env::system());
    let first = tokens.once("stock").unwrap();
    assert_eq!(shop.intrude(&orders, Some(&first)).await.0, 200);
    let second = tokens.once("stock").unwrap();
    let Shop {
        stock,
        orders: away,
        front,
        folder,
    } = shop;
    away.shutdown().await;
    let elsewhere = folder.path().join("elsewhere");
    let shop = Shop {
        stock,
        orders: super::start(&elsewhere, "").await.unwrap(),
        front,
        folder,
    };
    assert_eq!(shop.intrude(&orders, Some(&second)).await.0, 200);
    shop.stop().await;
}
