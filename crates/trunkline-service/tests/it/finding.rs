//! Services that find each other by a registry: a double of Consul's agent, and two platforms.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as Named, State};
use axum::routing::{get, put};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use trunkline_core::Result;
use trunkline_service::{Config, Cx, Platform, Running, Service};
use trunkline_testkit::eventually;
use trunkline_testkit::postgres::Postgres;

use crate::ask::Ask;
use crate::sample::SOON;

type Books = Arc<Mutex<BTreeMap<String, Value>>>;

/// An agent that knows who is registered, and answers at once.
async fn agent() -> (Books, String, JoinSet<()>) {
    async fn register(State(books): State<Books>, Json(service): Json<Value>) {
        let id = service["ID"].as_str().unwrap().to_owned();
        books.lock().insert(id, service);
    }
    async fn deregister(State(books): State<Books>, Named(id): Named<String>) {
        books.lock().remove(&id);
    }
    async fn health(State(books): State<Books>, Named(name): Named<String>) -> Json<Value> {
        let books = books.lock();
        let of_name = books.values().filter(|service| service["Name"] == *name);
        let passing = of_name.filter(|service| service["Sick"] != true);
        let entry = |service: &Value| json!({ "Node": {}, "Service": service, "Checks": [] });
        Json(passing.map(entry).collect())
    }
    async fn check(State(books): State<Books>, Named((word, check)): Named<(String, String)>) {
        let id = check.trim_start_matches("service:");
        if let Some(service) = books.lock().get_mut(id) {
            service["Sick"] = json!(word == "fail");
        }
    }
    let books = Books::default();
    let router = Router::new()
        .route("/v1/agent/service/register", put(register))
        .route("/v1/agent/service/deregister/{id}", put(deregister))
        .route("/v1/agent/check/{word}/{check}", put(check))
        .route("/v1/health/service/{name}", get(health))
        .with_state(books.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("consul://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(axum::serve(listener, router).await) });
    (books, url, tasks)
}

fn config(folder: &Path, text: &str) -> Config {
    let file = folder.join("trunkline.toml");
    std::fs::write(&file, text).unwrap();
    let mut config = Config::load(Some(&file), []).unwrap();
    config.data = folder.join("data");
    config.admin.address = ([127, 0, 0, 1], 0).into();
    config.bus = "memory:".to_owned();
    config
}

async fn say(_: Cx) -> Result<Json<String>> {
    Ok(Json("there".to_owned()))
}

async fn ask(cx: Cx) -> Result<Json<String>> {
    let said = cx.service("stock-service")?.get("/say").send().await;
    said.map(Json)
}

async fn start(folder: &Path, text: &str) -> Result<Running> {
    let stock = Service::new("stock-service").get("/say", say);
    let orders = Service::new("order-service")
        .calls("stock-service")
        .get("/ask", ask);
    let platform = Platform::new("p").service(stock).service(orders);
    platform.start(config(folder, text)).await
}

#[tokio::test]
async fn a_service_is_registered_found_called_and_taken_out() {
    let (books, url, _tasks) = agent().await;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let text = format!(
        "[discovery]\nregister = \"{url}\"\n[service.stock-service]\nlisten = \"127.0.0.1:0\"\n"
    );
    let stock = start(there.path(), &text).await.unwrap();
    let port = stock.service_address("stock-service").unwrap().port();
    let registered = books.lock()[&format!("stock-service-127.0.0.1-{port}")].clone();
    assert_eq!(registered["Port"], port);

    let text = format!("[service.stock-service]\ndiscover = \"{url}/{{service}}\"\n");
    let orders = start(here.path(), &text).await.unwrap();
    let answer = Ask::new(orders.network().clone(), "order-service")
        .get("/ask")
        .await;
    assert_eq!((answer.status, answer.body), (200, json!("there")));

    stock.shutdown().await;
    assert!(books.lock().is_empty());
    let is_troubled = || orders.network().places()[0].trouble.is_some();
    eventually(SOON, async || is_troubled()).await;
    assert_eq!(
        orders.network().places()[0].instances,
        1,
        "the last known, for a while"
    );
    orders.shutdown().await;
}

#[tokio::test]
async fn a_service_whose_store_is_away_gets_no_calls_until_it_is_back() {
    let (books, url, _tasks) = agent().await;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Postgres::start();
    let store = server.url("postgres");
    let text = format!(
        "store = \"{store}&schema={{service}}\"\n[discovery]\nregister = \"{url}\"\n\
         [service.stock-service]\nlisten = \"127.0.0.1:0\"\n"
    );
    let sick = start(there.path(), &text).await.unwrap();
    let text = text.replace(
        &format!("{store}&schema={{service}}"),
        "sqlite:{data}/{service}.db",
    );
    let second = tempfile::tempdir().unwrap();
    let well = start(second.path(), &text).await.unwrap();
    let text = format!("[service.stock-service]\ndiscover = \"{url}/{{service}}\"\n");
    let orders = start(here.path(), &text).await.unwrap();
    let instances = || orders.network().pool("stock-service").unwrap().members();
    let ports = || -> Vec<_> {
        let ports = instances().into_iter();
        ports
            .map(|one| one.authority().port_u16().unwrap())
            .collect()
    };
    eventually(SOON, async || ports().len() == 2).await;

    server.kill();
    let left = well.service_address("stock-service").unwrap().port();
    eventually(SOON, async || ports() == [left]).await;
    let sick_port = sick.service_address("stock-service").unwrap().port();
    let id = format!("stock-service-127.0.0.1-{sick_port}");
    assert_eq!(
        books.lock()[&id]["Sick"],
        true,
        "it is known, and as unwell"
    );
    for _ in 0..20 {
        let ask = Ask::new(orders.network().clone(), "order-service");
        assert_eq!(ask.get("/ask").await.status, 200);
    }

    server.restart();
    eventually(SOON, async || ports().len() == 2).await;
    for running in [orders, sick, well] {
        running.shutdown().await;
    }
    assert!(books.lock().is_empty());
}

#[tokio::test]
async fn mistakes_are_told_before_anything_begins() {
    let folder = tempfile::tempdir().unwrap();
    for (text, said) in [
        (
            "[discovery]\nregister = \"dns://h:1\"\n[service.stock-service]\nlisten = \"127.0.0.1:0\"\n",
            "consul:// or redis://",
        ),
        (
            "[discovery]\nregister = \"consul://h\"\n[service.stock-service]\nlisten = \"0.0.0.0:0\"\n",
            "`host` in [discovery]",
        ),
        (
            "[discovery]\nregister = \"consul://h\"\n[service.stock-service]\nlisten = \"127.0.0.1:0\"\nadvertise = \"here\"\n",
            "service.stock-service",
        ),
        ("[service.stock-service]\ndiscover = \"etcd://h\"\n", "etcd"),
        (
            "[service.stock-service]\ndiscover = \"env:\"\n",
            "STOCK_SERVICE_URL",
        ),
        (
            "[service.stock-service]\nurls = [\"here\"]\n",
            "service.stock-service",
        ),
        ("[service.stock-service]\nurls = []\n", "at least one"),
        (
            "[service.stock-service]\nurl = \"http://h:1\"\nurls = [\"http://h:1\"]\n",
            "url and urls",
        ),
    ] {
        let error = start(folder.path(), text).await.unwrap_err().to_string();
        assert!(error.contains(said), "{text}{error}");
    }
}
