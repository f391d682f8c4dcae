//! The saga of a service in a platform: each step writes a row, the last publishes an event that another service handles.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;
use trunkline_call::Client;
use trunkline_core::{Context, Env, Error, Event, Result};
use trunkline_service::{Config, Cx, Platform, Running, Saga, SagaDefinition, Service};
use trunkline_store::{Migration, sql};

use crate::load::Way;

/// An order has come to its end.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "order.ended", version = "1.0", topic = "orders", key = order)]
struct OrderEnded {
    order: String,
    confirmed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct NewOrder {
    order: String,
    fails: bool,
}

const TABLES: &[Migration] = &[Migration {
    name: "0001_orders",
    sql: "CREATE TABLE done (id TEXT PRIMARY KEY, order_id TEXT NOT NULL, step TEXT NOT NULL)",
}];

/// Who waits for the end of which order.
type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<bool>>>>;

/// A platform of two services: the one whose saga it is, and one that hears of its end.
pub(crate) struct OfPlatform {
    running: Mutex<Option<Running>>,
    client: Client,
    waiting: Waiting,
}

impl OfPlatform {
    pub(crate) async fn start(folder: &Path) -> Self {
        let waiting = Waiting::default();
        let mut config = Config::default();
        config.data = folder.to_owned();
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        config.admin.address = any;
        config.gateway.address = any;
        let orders = Service::new("orders")
            .migrations(TABLES)
            .publishes::<OrderEnded>()
            .saga(
                SagaDefinition::named("order")
                    .version(1, order)
                    .failed(failed),
            )
            .post("/orders", place);
        let listener = Service::new("listener").state(waiting.clone()).on(hears);
        let platform = Platform::new("bench").service(orders).service(listener);
        let running = platform.start(config).await.expect("a platform");
        let channel = running.network().channel("bench", "orders");
        let client = Client::new(channel, Context::root(&Env::system()));
        Self {
            running: Mutex::new(Some(running)),
            client,
            waiting,
        }
    }
}

impl Way for OfPlatform {
    fn order(&self, n: u64, fails: bool) -> BoxFuture<'_, bool> {
        let order = format!("ord-{n:010}");
        let (sender, ended) = oneshot::channel();
        self.waiting.lock().insert(order.clone(), sender);
        async move {
            let place = NewOrder { order, fails };
            let placed = self.client.post("/orders").json(&place);
            placed.send::<serde_json::Value>().await.expect("an order");
            ended.await.expect("an end")
        }
        .boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        let running = self.running.lock().take();
        async move {
            if let Some(running) = running {
                running.shutdown().await;
            }
        }
        .boxed()
    }
}

async fn place(cx: Cx, Json(new): Json<NewOrder>) -> Result<Json<serde_json::Value>> {
    let instance = cx.start_saga("order", &new.order, &new).await?;
    Ok(Json(json!({ "saga": instance.id })))
}

async fn hears(cx: Cx, event: Event<OrderEnded>) -> Result<()> {
    let waiting = cx.state::<Waiting>()?;
    let sender = waiting.lock().remove(&event.data.order);
    if let Some(sender) = sender {
        sender.send(event.data.confirmed).ok();
    }
    Ok(())
}

async fn order(saga: Saga, new: NewOrder) -> Result<()> {
    let order = Arc::new(new.order);
    let back = order.clone();
    let reserved = order.clone();
    saga.step::<()>("reserve")
        .undo(move |cx, _| takes_back(cx, back.clone()))
        .run(move |cx| writes(cx, reserved.clone(), "reserve"))
        .await?;
    let (charged, fails) = (order.clone(), new.fails);
    saga.step::<()>("charge")
        .run(move |cx| {
            let order = charged.clone();
            async move {
                writes(cx, order, "charge").await?;
                match fails {
                    true => Err(Error::conflict("card_declined", "the card was declined")),
                    false => Ok(()),
                }
            }
        })
        .await?;
    let confirmed = order.clone();
    saga.step::<()>("confirm")
        .run(move |cx| writes(cx, confirmed.clone(), "confirm"))
        .await?;
    saga.step::<()>("notify")
        .run(move |cx| {
            let order = order.clone();
            async move {
                writes(cx.clone(), order.clone(), "notify").await?;
                ends(&cx, order.to_string(), true).await
            }
        })
        .await
}

async fn failed(cx: Cx, new: NewOrder, _: Error) -> Result<()> {
    ends(&cx, new.order, false).await
}

async fn writes(cx: Cx, order: Arc<String>, step: &'static str) -> Result<()> {
    let mut tx = cx.tx().await?;
    sql("INSERT INTO done (id, order_id, step) VALUES ($1, $2, $3)")
        .bind(cx.stable_id().to_string())
        .bind(order.as_str())
        .bind(step)
        .run(tx.conn())
        .await?;
    Ok(())
}

async fn takes_back(cx: Cx, order: Arc<String>) -> Result<()> {
    let mut tx = cx.tx().await?;
    sql("INSERT INTO done (id, order_id, step) VALUES ($1, $2, 'release')")
        .bind(cx.stable_id().to_string())
        .bind(order.as_str())
        .run(tx.conn())
        .await?;
    Ok(())
}

async fn ends(cx: &Cx, order: String, confirmed: bool) -> Result<()> {
    cx.publish(OrderEnded { order, confirmed }).await
}
