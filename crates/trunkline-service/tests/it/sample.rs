//! The platform that the tests run: orders take stock, and stock says how that went.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row;
use tempfile::TempDir;
use tokio::sync::Notify;
use trunkline_core::{Env, Error, Event, Result};
use trunkline_saga::Flow;
use trunkline_service::{Accepted, Config, Cx, Platform, Running, Service};
use trunkline_store::{Migration, sql_error};

pub use crate::ask::{Answer, Ask};

/// Long enough for anything that ends by itself.
pub const SOON: Duration = Duration::from_secs(20);

/// An order was placed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "order.placed", version = "1.0", topic = "orders", key = item)]
pub struct OrderPlaced {
    pub order_id: String,
    pub item: String,
    pub quantity: u32,
}

/// Its stock was taken.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "stock.taken", version = "1.0", topic = "stock", key = order_id)]
pub struct StockTaken {
    pub order_id: String,
}

/// A reminder, sent later.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "order.reminded", version = "1.0", topic = "orders", key = order_id)]
pub struct OrderReminded {
    pub order_id: String,
}

/// Nobody declares that it publishes this.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "rogue.event", version = "1.0", topic = "orders", key = name)]
pub struct Rogue {
    pub name: String,
}

const ORDERS: &[Migration] = &[Migration {
    name: "0001_orders",
    sql: "CREATE TABLE orders (order_id TEXT PRIMARY KEY, item TEXT NOT NULL, status TEXT NOT NULL)",
}];

const STOCK: &[Migration] = &[Migration {
    name: "0001_stock",
    sql:
        "CREATE TABLE taken (order_id TEXT PRIMARY KEY, item TEXT NOT NULL, place INTEGER NOT NULL);
          CREATE TABLE tally (order_id TEXT PRIMARY KEY, times BIGINT NOT NULL)",
}];

/// What a test turns to make things go wrong.
#[derive(Debug, Default)]
pub struct Switches {
    /// So many attempts to take stock of `flaky` fail first.
    pub failures: AtomicU32,
    /// While above zero, taking stock of `poison` fails.
    pub poisoned: AtomicU32,
    /// How often stock was tried to be taken.
    pub attempts: AtomicU32,
    /// A handler of `slow` says that it began, and waits to be let go.
    pub began: Notify,
    pub go: Notify,
    /// How often the job ran, and how many of it ran at once at most.
    pub runs: AtomicU32,
    pub at_once: AtomicU32,
    /// The stable ids of the orders that were asked for.
    pub ids: Mutex<Vec<String>>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    pub item: String,
    pub quantity: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    pub order_id: String,
    pub status: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// At most so many.
    limit: Option<u32>,
    /// Only those with this status.
    status: Option<String>,
}

/// Everything fails with this one.
fn poisoned() -> Error {
    Error::invalid("item_poisoned", "this item can't be taken")
}

async fn create(cx: Cx, Json(new): Json<NewOrder>) -> Result<Accepted<Order>> {
    let switches = cx.state::<Arc<Switches>>()?;
    let order_id = cx.stable_id().to_string();
    switches.ids.lock().unwrap().push(order_id.clone());
    if new.item == "slow" {
        switches.began.notify_one();
        switches.go.notified().await;
    }
    if new.item == "broken" && switches.failures.load(Ordering::SeqCst) > 0 {
        switches.failures.fetch_sub(1, Ordering::SeqCst);
        return Err(Error::unavailable(
            "supplier_down",
            "the supplier does not answer",
        ));
    }
    if new.quantity == 0 {
        return Err(Error::invalid(
            "quantity_out_of_range",
            "expected a quantity above 0",
        ));
    }
    let order = Order {
        order_id,
        status: "pending".to_owned(),
    };
    let mut tx = cx.tx().await?;
    sqlx::query("INSERT INTO orders (order_id, item, status) VALUES ($1, $2, 'pending')")
        .bind(order.order_id.as_str())
        .bind(new.item.as_str())
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    let placed = OrderPlaced {
        order_id: order.order_id.clone(),
        item: new.item,
        quantity: new.quantity,
    };
    tx.publish(placed).await?;
    Ok(Accepted::at(
        format!("/api/v1/orders/{}", order.order_id),
        order,
    ))
}

async fn find(cx: Cx, Path(id): Path<String>) -> Result<Json<Order>> {
    let mut reader = cx.read().await?;
    let row = sqlx::query("SELECT status FROM orders WHERE order_id = $1")
        .bind(id.as_str())
        .fetch_optional(reader.conn())
        .await
        .map_err(sql_error)?;
    let row = row.ok_or_else(|| Error::not_found("order_unknown", "there is no such order"))?;
    let status = row.try_get(0).map_err(sql_error)?;
    Ok(Json(Order {
        order_id: id,
        status,
    }))
}

async fn count(cx: Cx, Query(page): Query<Page>) -> Result<Json<u64>> {
    let mut reader = cx.read().await?;
    let status = page.status.as_deref().unwrap_or("%");
    let text = "SELECT COUNT(*) FROM (SELECT 1 FROM orders WHERE status LIKE $1 LIMIT $2) AS some";
    let row = sqlx::query(text)
        .bind(status)
        .bind(i64::from(page.limit.unwrap_or(10_000)))
        .fetch_one(reader.conn())
        .await
        .map_err(sql_error)?;
    Ok(Json(
        row.try_get::<i64, _>(0).map_err(sql_error)?.unsigned_abs(),
    ))
}

async fn left(cx: Cx, Path(item): Path<String>) -> Result<Json<Value>> {
    cx.service("stock")?
        .get(format!("/api/v1/taken/{item}"))
        .send()
        .await
        .map(Json)
}

async fn remind(cx: Cx, Path(id): Path<String>, Json(millis): Json<u64>) -> Result<Json<()>> {
    cx.publish_in(
        Duration::from_millis(millis),
        OrderReminded { order_id: id },
    )
    .await
    .map(Json)
}

async fn panics(_: Cx) -> Result<Json<()>> {
    panic!("the secret of the handler")
}

async fn publishes_undeclared(cx: Cx) -> Result<Json<()>> {
    cx.publish(Rogue {
        name: "x".to_owned(),
    })
    .await
    .map(Json)
}

async fn calls_undeclared(cx: Cx) -> Result<Json<()>> {
    cx.service("billing").map(|_| Json(()))
}

async fn whoami(cx: Cx) -> Result<Json<String>> {
    Ok(Json(cx.user()?.to_string()))
}

async fn audit(cx: Cx) -> Result<Json<&'static str>> {
    cx.require_role("auditor")?;
    Ok(Json("all is well"))
}

/// Asks itself, so that the user and the roles cross a call between services.
async fn audit_elsewhere(cx: Cx) -> Result<Json<Value>> {
    cx.service("orders")?
        .get("/api/v1/audit")
        .send()
        .await
        .map(Json)
}

async fn set_status(cx: &Cx, order_id: &str, status: &str) -> Result<()> {
    let mut tx = cx.tx().await?;
    sqlx::query("UPDATE orders SET status = $1 WHERE order_id = $2")
        .bind(status)
        .bind(order_id)
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(())
}

async fn taken(cx: Cx, event: Event<StockTaken>) -> Result<()> {
    set_status(&cx, &event.data.order_id, "taken").await
}

async fn reminded(cx: Cx, event: Event<OrderReminded>) -> Result<()> {
    set_status(&cx, &event.data.order_id, "reminded").await
}

async fn take(cx: Cx, event: Event<OrderPlaced>) -> Result<()> {
    let switches = cx.state::<Arc<Switches>>()?;
    switches.attempts.fetch_add(1, Ordering::SeqCst);
    let OrderPlaced { order_id, item, .. } = event.data;
    let mut tx = cx.tx().await?;
    sqlx::query(
        "INSERT INTO taken (order_id, item, place) \
         SELECT $1, $2, COUNT(*) FROM taken WHERE item = $2",
    )
    .bind(order_id.as_str())
    .bind(item.as_str())
    .execute(tx.conn())
    .await
    .map_err(sql_error)?;
    // Told and written before it fails: none of it may take effect then.
    tx.publish(StockTaken { order_id }).await?;
    match item.as_str() {
        "poison" if switches.poisoned.load(Ordering::SeqCst) > 0 => Err(poisoned()),
        "flaky" if switches.failures.load(Ordering::SeqCst) > 0 => {
            switches.failures.fetch_sub(1, Ordering::SeqCst);
            Err(Error::unavailable(
                "shelf_blocked",
                "somebody is in the way",
            ))
        }
        "lingering" => {
            switches.began.notify_one();
            switches.go.notified().await;
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn tally(cx: Cx, event: Event<OrderPlaced>) -> Result<()> {
    let mut tx = cx.tx().await?;
    // A second time would be seen.
    let text = "INSERT INTO tally (order_id, times) VALUES ($1, 1) \
                ON CONFLICT (order_id) DO UPDATE SET times = tally.times + 1";
    sqlx::query(text)
        .bind(event.data.order_id.as_str())
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    if event.data.item == "uncountable" {
        Err(poisoned())
    } else {
        Ok(())
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Taken {
    orders: Vec<String>,
    tallied: u64,
}

async fn taken_of(cx: Cx, Path(item): Path<String>) -> Result<Json<Taken>> {
    let mut reader = cx.read().await?;
    let rows = sqlx::query("SELECT order_id FROM taken WHERE item = $1 ORDER BY place")
        .bind(item.as_str())
        .fetch_all(reader.conn())
        .await
        .map_err(sql_error)?;
    let orders = rows
        .iter()
        .map(|row| row.try_get(0).map_err(sql_error))
        .collect::<Result<_>>()?;
    let row = sqlx::query("SELECT CAST(COALESCE(SUM(times), 0) AS BIGINT) FROM tally")
        .fetch_one(reader.conn())
        .await
        .map_err(sql_error)?;
    let tallied = row.try_get::<i64, _>(0).map_err(sql_error)?.unsigned_abs();
    Ok(Json(Taken { orders, tallied }))
}

pub fn orders(switches: &Arc<Switches>) -> Service {
    Service::new("orders")
        .version("1.2.3")
        .migrations(ORDERS)
        .state(switches.clone())
        .calls("stock")
        .publishes::<OrderPlaced>()
        .publishes::<OrderReminded>()
        .idempotent_post("/api/v1/orders", create)
        .get("/api/v1/orders", count)
        .get("/api/v1/orders/{id}", find)
        .idempotent_post("/api/v1/orders/{id}/reminders", remind)
        .get("/api/v1/left/{item}", left)
        .get("/api/v1/me", whoami)
        .get("/api/v1/audit", audit)
        .post("/api/v1/panics", panics)
        .post("/api/v1/publishes-undeclared", publishes_undeclared)
        .post("/api/v1/calls-undeclared", calls_undeclared)
        .on(taken)
        .on(reminded)
}

pub fn stock(switches: &Arc<Switches>) -> Service {
    Service::new("stock")
        .migrations(STOCK)
        .state(switches.clone())
        .calls("orders")
        .publishes::<StockTaken>()
        .get("/api/v1/taken/{item}", taken_of)
        .get("/api/v1/audit", audit_elsewhere)
        .on(take)
        .on_batch(16, tally)
}

pub fn flow() -> Flow {
    Flow::named("order", "order_id")
        .starts_with("order.placed")
        .after("order.placed", Duration::from_secs(60), &["stock.taken"])
        .succeeds_on("stock.taken")
}

pub fn platform(switches: &Arc<Switches>) -> Platform {
    Platform::new("sample")
        .service(orders(switches))
        .service(stock(switches))
        .flow(flow())
}

/// Everything in `folder`, on free ports, with short pauses.
pub fn config(folder: &std::path::Path) -> Config {
    let mut config = Config::default();
    config.data = folder.join("data");
    config.bus = "memory:".to_owned();
    config.gateway.address = ([127, 0, 0, 1], 0).into();
    config.admin.address = ([127, 0, 0, 1], 0).into();
    config.events.retry_initial_ms = 5;
    config.events.retry_max_ms = 20;
    config
}

/// A platform that runs, and how to talk to it.
pub struct Sample {
    pub switches: Arc<Switches>,
    pub running: Running,
    pub folder: TempDir,
}

impl Sample {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// Starts it in a folder that may have seen one before.
    pub async fn start_in(folder: TempDir) -> Self {
        let switches = Arc::new(Switches::default());
        let platform = platform(&switches);
        Self::start_this(platform, switches, folder).await
    }

    pub async fn start_this(platform: Platform, switches: Arc<Switches>, folder: TempDir) -> Self {
        Self::start_with(platform, (switches, folder), |_| {}).await
    }

    /// The same with other settings.
    pub async fn start_with(
        platform: Platform,
        (switches, folder): (Arc<Switches>, TempDir),
        set: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = config(folder.path());
        set(&mut config);
        let running = platform.start(config).await.unwrap();
        let admin = format!("http://{}", running.admin_address());
        running
            .network()
            .remote("admin", &admin, trunkline_call::Responses::Plain)
            .unwrap();
        Self {
            switches,
            running,
            folder,
        }
    }

    pub async fn stop(self) -> TempDir {
        self.running.shutdown().await;
        self.folder
    }

    pub fn ask(&self, service: &'static str) -> Ask {
        Ask::new(self.running.network().clone(), service)
    }

    pub fn orders(&self) -> Ask {
        self.ask("orders")
    }

    pub fn admin(&self) -> Ask {
        self.ask("admin")
    }

    /// Places an order, and gives its id.
    pub async fn place(&self, item: &str) -> String {
        let key = Env::system().id().to_string();
        let body = serde_json::json!({ "item": item, "quantity": 1 });
        let answer = self.orders().key(&key).post("/api/v1/orders", body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.body["order_id"].as_str().unwrap().to_owned()
    }

    /// The orders whose stock of an item was taken, in their order.
    pub async fn taken(&self, item: &str) -> Vec<String> {
        let answer = self
            .ask("stock")
            .get(&format!("/api/v1/taken/{item}"))
            .await;
        let orders = answer.body["orders"].as_array().unwrap().iter();
        orders.map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    pub async fn tallied(&self) -> u64 {
        let answer = self.ask("stock").get("/api/v1/taken/x").await;
        answer.body["tallied"].as_u64().unwrap()
    }

    pub async fn status(&self, order_id: &str) -> String {
        let answer = self
            .orders()
            .get(&format!("/api/v1/orders/{order_id}"))
            .await;
        answer.body["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub async fn letters(&self) -> Vec<Value> {
        let answer = self.admin().get("/api/v1/dead-letters").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["dead_letters"].as_array().unwrap().clone()
    }
}
