//! A shop: orders take from stock, carts do nothing, and a gateway leads to orders and stock.

use std::path::{Path, PathBuf};

use axum::Json;
use axum::extract::Path as Of;
use tempfile::TempDir;
use trunkline_call::{Network, Responses, TlsClient};
use trunkline_core::{Env, Result};
use trunkline_gateway::{Config as GatewayConfig, Route, Service as Led};
use trunkline_security::{
    Authority, Certificates, CertificatesConfig, Permissions, SERVICE_TOKEN, ServiceTokens,
    TokenKeys, TokenKeysPolicy,
};
use trunkline_service::{Config, Cx, Platform, Running, Service};
use trunkline_store::{AuditLog, AuditQuery, AuditRecord, Store};
use trunkline_telemetry::Telemetry;
use trunkline_testkit::free_port;

use crate::ask::Ask;

/// Certificates and tokens; `{folder}` is what the parts share.
pub const DEVELOPMENT: &str = "[tls]\ndevelopment = true\nlook_every_seconds = 1\n\
    folder = \"{folder}/certs/{service}\"\n[identity]\nkeys = \"{folder}/identity/{service}\"\n";
/// Tokens alone.
pub const TOKENS: &str = "[identity]\nkeys = \"{folder}/identity/{service}\"\n";

async fn stock_of(_: Cx, Of(sku): Of<String>) -> Result<Json<String>> {
    Ok(Json(format!("stock of {sku}")))
}

async fn ask(cx: Cx) -> Result<Json<String>> {
    let said = cx.service("stock")?.get("/stock/oats").send().await;
    said.map(Json)
}

async fn overreach(cx: Cx) -> Result<Json<String>> {
    let said = cx.service("stock")?.post("/stock/oats").send().await;
    said.map(Json)
}

async fn steer(cx: Cx) -> Result<Json<serde_json::Value>> {
    let stock = cx.service("stock")?;
    let said = stock.get("/trunkline/admin/api/v1/outbox").send().await;
    said.map(Json)
}

pub fn shop() -> Platform {
    let stock = Service::new("stock")
        .get("/stock/{sku}", stock_of)
        .post("/stock/{sku}", stock_of);
    let orders = Service::new("orders")
        .calls_operation("stock", "GET /stock/{sku}")
        .get("/ask", ask)
        .get("/overreach", overreach)
        .get("/steer", steer);
    Platform::new("shop").service(stock).service(orders)
}

fn gateway() -> GatewayConfig {
    GatewayConfig::default()
        .service(Led::new("stock").route(Route::new("admin", "/trunkline").keep_path()))
        .service(Led::new("orders").route(Route::new("orders", "/").keep_path()))
}

pub fn config(folder: &Path, text: &str) -> Config {
    std::fs::create_dir_all(folder).unwrap();
    let file = folder.join("trunkline.toml");
    std::fs::write(&file, text).unwrap();
    let mut config = Config::load(Some(&file), []).unwrap();
    config.data = folder.join("data");
    config.admin.address = ([127, 0, 0, 1], 0).into();
    config.gateway.address = ([127, 0, 0, 1], 0).into();
    config.bus = "memory:".to_owned();
    config
}

/// The shop as this configuration says.
pub async fn start(folder: &Path, text: &str) -> Result<Running> {
    shop().start(config(folder, text)).await
}

/// The shop in three processes' worth: stock, orders, and the gateway with the console. Each has a data folder of its own.
pub struct Shop {
    pub stock: Running,
    pub orders: Running,
    pub front: Running,
    pub folder: TempDir,
}

impl Shop {
    pub async fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().display().to_string();
        let text = text.replace("{folder}", &shared);
        let ports = ["stock", "orders", "gateway"].map(|name| (name, free_port().unwrap()));
        let part = async |own: &str| {
            let places = ports.map(|(name, port)| match name == own {
                true => format!("[service.{name}]\nlisten = \"127.0.0.1:{port}\"\n"),
                // Without a word of TLS: its own section says it.
                false if name != "gateway" => {
                    format!("[service.{name}]\nurl = \"http://127.0.0.1:{port}\"\n")
                }
                // Each of these processes has a gateway, with the same keys.
                false => "[service.gateway]\nlisten = \"127.0.0.1:0\"\n".to_owned(),
            });
            let config = config(&folder.path().join(own), &(text.clone() + &places.concat()));
            let platform = shop().gateway(gateway(), None);
            platform.start(config).await.unwrap()
        };
        Self {
            stock: part("stock").await,
            orders: part("orders").await,
            front: part("gateway").await,
            folder,
        }
    }

    /// Where stock keeps its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("stock/data")
    }

    pub fn certs(&self) -> PathBuf {
        self.folder.path().join("certs")
    }

    /// Asks a service from within its own process.
    pub fn ask(&self, service: &'static str) -> Ask {
        let running = match service {
            "stock" => &self.stock,
            _ => &self.orders,
        };
        Ask::new(running.network().clone(), service)
    }

    pub async fn stop(self) -> TempDir {
        self.front.shutdown().await;
        self.orders.shutdown().await;
        self.stock.shutdown().await;
        self.folder
    }

    /// The CA of the platform.
    pub fn authority(&self) -> Authority {
        Authority::open(self.certs(), Env::system()).unwrap()
    }

    /// A certificate of this name, made now.
    pub fn issue(&self, name: &str) -> Certificates {
        let authority = self.authority();
        let lifetime = Authority::LEAF_LIFETIME;
        authority.issue(name, &[], lifetime).unwrap();
        self.certificates(name)
    }

    pub fn certificates(&self, name: &str) -> Certificates {
        load(&self.certs(), name)
    }

    /// Tokens of a service, by the keys that it has.
    pub fn tokens(&self, name: &str, permissions: Permissions, env: Env) -> ServiceTokens {
        let folder = self.folder.path().join("identity").join(name);
        let keys = TokenKeys::open(folder, TokenKeysPolicy::default(), env).unwrap();
        ServiceTokens::new(name.to_owned(), name.to_owned(), keys, permissions)
    }

    /// Asks for something of stock as nobody of the platform would, over a connection of its own.
    pub async fn intrude(&self, certificates: &Certificates, token: Option<&str>) -> (u16, String) {
        let mut ask = Ask::new(self.outside(certificates), "stock");
        if let Some(token) = token {
            ask = ask.with(SERVICE_TOKEN, token);
        }
        match ask
            .try_send(http::Method::GET, "/stock/oats", Vec::new())
            .await
        {
            Ok(answer) => (answer.status, answer.code().to_owned()),
            Err(error) => (0, error.code().to_owned()),
        }
    }

    /// A network of somebody with these certificates.
    pub fn outside(&self, certificates: &Certificates) -> Network {
        let env = Env::system();
        let network = Network::new(Telemetry::disabled(env.clone()), env);
        let own = certificates.clone();
        network.set_tls(TlsClient::new(move |_, target| {
            own.client_config(target, &[])
        }));
        let url = format!("https://{}", self.stock.service_address("stock").unwrap());
        network.remote("stock", &url, Responses::Plain).unwrap();
        network
    }
}

pub fn load(folder: &Path, name: &str) -> Certificates {
    load_of(folder, name, "shop")
}

pub fn load_of(folder: &Path, name: &str, domain: &'static str) -> Certificates {
    let config = CertificatesConfig::in_folder(folder.join(name), domain);
    Certificates::load(config, None, Env::system()).unwrap()
}

/// What the audit log of a service that was stopped says; its entries vouch for each other.
pub async fn notes(data: &Path, service: &str) -> Vec<AuditRecord> {
    let url = format!("sqlite:{}", data.join(format!("{service}.db")).display());
    let store = Store::open(&url, service, Env::system()).await.unwrap();
    let log = AuditLog::open(store.clone(), None).await.unwrap();
    assert_eq!(log.verify(None).await.unwrap().broken, None);
    let query = AuditQuery {
        limit: 1_000,
        ..AuditQuery::default()
    };
    let found = log.query(&query).await.unwrap();
    store.close().await;
    found
}

/// The same in one line each: actor, action, object, outcome and the code of the reason.
pub async fn refusals(data: &Path, service: &str) -> Vec<String> {
    let notes = notes(data, service).await;
    let line = |record: &AuditRecord| {
        let entry = &record.entry;
        let reason = entry.reason.as_deref().unwrap_or_default();
        let code = reason.split(':').next().unwrap_or_default();
        let (actor, action, object) = (&entry.actor, &entry.action, &entry.object);
        format!("{actor} {action} {object} {} {code}", entry.outcome.name())
    };
    notes.iter().map(line).collect()
}
