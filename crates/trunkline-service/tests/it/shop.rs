//! The platform under test: orders, and stock that follows them.

use std::net::SocketAddr;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunkline_core::{Error, Event, EventData, Result};
use trunkline_saga::Flow;
use trunkline_service::{Accepted, Config, Cx, NoContent, Platform, Running, Service, every};
use trunkline_store::Migration;
use trunkline_telemetry::Ring;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "order.created", version = "1.0", topic = "orders", key = order_id)]
pub struct OrderCreated {
    pub order_id: String,
    pub quantity: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "stock.taken", version = "1.0", topic = "stock", key = order_id)]
pub struct StockTaken {
    pub order_id: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "stock.reminder", version = "1.0", topic = "stock", key = order_id, kind = command)]
pub struct Remind {
    pub order_id: String,
}

/// What the tests turn on and off.
#[derive(Debug)]
pub struct Switches {
    /// The stock handler fails, for good.
    pub broken: AtomicBool,
    /// How often the stock handler ran.
    pub handled: AtomicU32,
    /// How often the order handler ran.
    pub ordered: AtomicU32,
    /// How often the job ran.
    pub ticks: AtomicU32,
    /// How often the reminder came.
    pub reminded: AtomicU32,
    /// The order handler waits for this before it goes on.
    pub gate: tokio::sync::Semaphore,
    pub gated: AtomicBool,
}

fn switches() -> Switches {
    Switches {
        broken: AtomicBool::new(false),
        handled: AtomicU32::new(0),
        ordered: AtomicU32::new(0),
        ticks: AtomicU32::new(0),
        reminded: AtomicU32::new(0),
        gate: tokio::sync::Semaphore::new(0),
        gated: AtomicBool::new(false),
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    order_id: String,
    quantity: u32,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct Order {
    order_id: String,
    status: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct Page {
    #[serde(default)]
    limit: Option<u32>,
}

const ORDERS: &[Migration] = &[Migration {
    name: "0001_orders",
    sql: "CREATE TABLE orders (order_id TEXT PRIMARY KEY, status TEXT NOT NULL)",
}];

const STOCK: &[Migration] = &[Migration {
    name: "0001_taken",
    sql: "CREATE TABLE taken (order_id TEXT PRIMARY KEY, quantity BIGINT NOT NULL)",
}];

async fn create(cx: Cx, Json(new): Json<NewOrder>) -> Result<Accepted<Order>> {
    let switches = cx.state::<Arc<Switches>>()?;
    switches.ordered.fetch_add(1, Ordering::SeqCst);
    if switches.gated.load(Ordering::SeqCst) {
        switches.gate.acquire().await.expect("never closed").forget();
    }
    if new.quantity == 0 {
        return Err(Error::invalid("quantity_invalid", "expected a quantity of at least 1"));
    }
    let mut tx = cx.tx().await?;
    sqlx::query("INSERT INTO orders (order_id, status) VALUES ($1, 'pending')")
        .bind(&new.order_id)
        .execute(tx.conn())
        .await
        .map_err(trunkline_store::sql_error)?;
    tx.publish(OrderCreated { order_id: new.order_id.clone(), quantity: new.quantity }).await?;
    let location = format!("/api/v1/orders/{}", new.order_id);
    Ok(Accepted::at(location, Order { order_id: new.order_id, status: "pending".into() }))
}

async fn find(cx: Cx, Path(order_id): Path<String>) -> Result<Json<Order>> {
    let mut reader = cx.read().await?;
    let row: Option<(String,)> = sqlx::query_as("SELECT status FROM orders WHERE order_id = $1")
        .bind(&order_id)
        .fetch_optional(reader.conn())
        .await
        .map_err(trunkline_store::sql_error)?;
    let (status,) = row.ok_or_else(|| Error::not_found("order_unknown", "no such order"))?;
    Ok(Json(Order { order_id, status }))
}

async fn list(cx: Cx, Query(page): Query<Page>) -> Result<Json<Vec<String>>> {
    let mut reader = cx.read().await?;
    let rows: Vec<(String,)> =
        sqlx::query_as("SELECT order_id FROM orders ORDER BY order_id LIMIT $1")
            .bind(i64::from(page.limit.unwrap_or(10)))
            .fetch_all(reader.conn())
            .await
            .map_err(trunkline_store::sql_error)?;
    Ok(Json(rows.into_iter().map(|row| row.0).collect()))
}

async fn taken(cx: Cx, event: Event<StockTaken>) -> Result<()> {
    let mut tx = cx.tx().await?;
    sqlx::query("UPDATE orders SET status = 'confirmed' WHERE order_id = $1")
        .bind(&event.data.order_id)
        .execute(tx.conn())
        .await
        .map_err(trunkline_store::sql_error)?;
    Ok(())
}

async fn forbidden_call(cx: Cx) -> Result<NoContent> {
    cx.service("stock-service")?;
    Ok(NoContent)
}

async fn forbidden_publish(cx: Cx) -> Result<NoContent> {
    cx.publish(StockTaken { order_id: "1".into() }).await?;
    Ok(NoContent)
}

async fn take(cx: Cx, event: Event<OrderCreated>) -> Result<()> {
    let switches = cx.state::<Arc<Switches>>()?;
    switches.handled.fetch_add(1, Ordering::SeqCst);
    if switches.broken.load(Ordering::SeqCst) && event.data.quantity > 100 {
        return Err(Error::invalid("too_many", "nobody has so many"));
    }
    let mut tx = cx.tx().await?;
    // No ON CONFLICT: a second effect of one event would fail loudly.
    sqlx::query("INSERT INTO taken (order_id, quantity) VALUES ($1, $2)")
        .bind(&event.data.order_id)
        .bind(i64::from(event.data.quantity))
        .execute(tx.conn())
        .await
        .map_err(trunkline_store::sql_error)?;
    tx.publish(StockTaken { order_id: event.data.order_id.clone() }).await?;
    tx.publish_in(Duration::from_millis(20), Remind { order_id: event.data.order_id }).await
}

async fn remind(cx: Cx, _: Event<Remind>) -> Result<()> {
    cx.state::<Arc<Switches>>()?.reminded.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

async fn tick(cx: Cx) -> Result<()> {
    cx.state::<Arc<Switches>>()?.ticks.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

async fn count(cx: Cx) -> Result<Json<i64>> {
    let mut reader = cx.read().await?;
    let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM taken")
        .fetch_one(reader.conn())
        .await
        .map_err(trunkline_store::sql_error)?;
    Ok(Json(count))
}

async fn panics(_: Cx) -> Result<NoContent> {
    panic!("as asked")
}

pub fn orders(switches: &Arc<Switches>) -> Service {
    Service::new("order-service")
        .version("1.0.0")
        .migrations(ORDERS)
        .state(switches.clone())
        .publishes::<OrderCreated>()
        .idempotent_post("/api/v1/orders", create)
        .get("/api/v1/orders", list)
        .get("/api/v1/orders/{id}", find)
        .get("/forbidden/call", forbidden_call)
        .get("/forbidden/publish", forbidden_publish)
        .get("/panics", panics)
        .on(taken)
}

pub fn stock(switches: &Arc<Switches>, batch: bool) -> Service {
    let service = Service::new("stock-service")
        .version("1.0.0")
        .migrations(STOCK)
        .state(switches.clone())
        .publishes::<StockTaken>()
        .publishes::<Remind>()
        .get("/count", count)
        .on(remind)
        .job("tick", every(Duration::from_millis(20)), tick);
    if batch { service.on_batch(16, take) } else { service.on(take) }
}

pub fn flow() -> Flow {
    Flow::named("order", "order_id")
        .starts_with(OrderCreated::TYPE)
        .after(OrderCreated::TYPE, Duration::from_secs(30), &[StockTaken::TYPE])
        .succeeds_on(StockTaken::TYPE)
}

pub struct Started {
    pub running: Running,
    pub switches: Arc<Switches>,
    pub ring: Arc<Ring>,
    http: Client<HttpConnector, Full<bytes::Bytes>>,
}

pub async fn start(data: &FilePath, batch: bool) -> Started {
    start_on(data, batch, "log:{data}/bus").await
}

pub async fn start_on(data: &FilePath, batch: bool, bus: &str) -> Started {
    let switches = Arc::new(switches());
    let ring = Arc::new(Ring::new(4096));
    let platform = Platform::new("shop")
        .service(orders(&switches))
        .service(stock(&switches, batch))
        .flow(flow())
        .span_sink(ring.clone());
    let running = platform.start(configuration(data, bus)).await.expect("the platform starts");
    let http = Client::builder(TokioExecutor::new()).build_http();
    Started { running, switches, ring, http }
}

pub fn configuration(data: &FilePath, bus: &str) -> Config {
    let mut config = Config::default();
    config.data = data.to_owned();
    config.bus = bus.to_owned();
    config.gateway.address = SocketAddr::from(([127, 0, 0, 1], 0));
    config.admin.address = SocketAddr::from(([127, 0, 0, 1], 0));
    config
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Started {
    /// A request to a service, over its own router.
    pub async fn ask(&self, service: &str, request: Request<axum::body::Body>) -> Reply {
        use tower::ServiceExt;
        let channel = self.running.network().channel("tests", service.to_owned());
        let response = channel.oneshot(request).await.expect("the service answers");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        reply(parts.status, parts.headers, &body)
    }

    pub async fn get(&self, service: &str, path: &str) -> Reply {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        self.ask(service, request).await
    }

    pub async fn order(&self, key: &str, body: &str) -> Reply {
        let request = Request::post("/api/v1/orders")
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(body.to_owned().into())
            .unwrap();
        self.ask("order-service", request).await
    }

    /// A request to the admin API over TCP.
    pub async fn admin(&self, method: Method, path: &str, body: &str) -> Reply {
        let url = format!("http://{}{path}", self.running.admin_address());
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", "application/json")
            .body(Full::from(body.to_owned()))
            .unwrap();
        let response = self.http.request(request).await.expect("the admin API answers");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        reply(parts.status, parts.headers, &body)
    }

    pub async fn confirmed(&self, order_id: &str) {
        let path = format!("/api/v1/orders/{order_id}");
        until(|| async {
            self.get("order-service", &path).await.body["status"] == "confirmed"
        })
        .await;
    }
}

fn reply(status: StatusCode, headers: HeaderMap, body: &[u8]) -> Reply {
    let body = serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()));
    Reply { status, headers, body }
}

/// Waits until something is so; a bound of 20 s ends a wait that would not.
pub async fn until<F, W>(condition: F)
where
    F: Fn() -> W,
    W: Future<Output = bool>,
{
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes true in time");
}
