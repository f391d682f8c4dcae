//! A room whose stock is kept in a table, and a clerk who asks it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use futures::{Stream, StreamExt, stream};
use sqlx::Row;
use tonic::{Request, Response, Status, Streaming};
use trunkline_call::grpc::{error, status};
use trunkline_core::{Error, Result};
use trunkline_service::grpc::answer;
use trunkline_service::{Cx, Platform, Service};
use trunkline_store::{Migration, sql_error};
use trunkline_testproto::stock::stock_client::StockClient;
use trunkline_testproto::stock::stock_server::{Stock, StockServer};
use trunkline_testproto::stock::{DESCRIPTORS, Level, Line, Reserved};

use crate::sample::{OrderPlaced, Rogue};

const TABLES: &[Migration] = &[Migration {
    name: "0001_lines",
    sql: "CREATE TABLE lines (sku TEXT NOT NULL, quantity BIGINT NOT NULL)",
}];

pub(crate) fn line(sku: &str, quantity: i64) -> Line {
    Line {
        sku: sku.to_owned(),
        quantity,
        padding: Vec::new(),
    }
}

pub(crate) fn platform() -> Platform {
    let room = Service::new("room")
        .migrations(TABLES)
        .publishes::<OrderPlaced>()
        .state(AtomicBool::new(false))
        .get("/rows", rows)
        .grpc(StockServer::new(Room), DESCRIPTORS);
    let clerk = Service::new("clerk").calls("room").post("/orders", order);
    Platform::new("goods").service(room).service(clerk)
}

async fn rows(cx: Cx) -> Result<Json<i64>> {
    let mut reader = cx.read().await?;
    let row = sqlx::query("SELECT COUNT(*) FROM lines")
        .fetch_one(reader.conn())
        .await
        .map_err(sql_error)?;
    row.try_get(0).map(Json).map_err(sql_error)
}

async fn order(cx: Cx, Json(sku): Json<String>) -> Result<Json<String>> {
    let mut stock = StockClient::new(cx.service("room")?.grpc());
    let reserved = stock.reserve(line(&sku, 1)).await.map_err(error)?;
    Ok(Json(reserved.into_inner().id))
}

async fn write(cx: &Cx, sku: &str, quantity: i64) -> Result<()> {
    let mut tx = cx.tx().await?;
    sqlx::query("INSERT INTO lines (sku, quantity) VALUES ($1, $2)")
        .bind(sku)
        .bind(quantity)
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(())
}

async fn reserve(cx: Cx, line: Line) -> Result<Reserved> {
    write(&cx, &line.sku, line.quantity).await?;
    let order_id = format!("{}-{}", line.sku, line.quantity);
    cx.publish(OrderPlaced {
        order_id: order_id.clone(),
        item: line.sku.clone(),
        quantity: 1,
    })
    .await?;
    match &*line.sku {
        "closed" => return Err(Error::conflict("shelf_closed", "the shelf is closed")),
        "none" => {
            let text = format!("no shelf has this, said {}", cx.env().id());
            return Err(Error::not_found("shelf_unknown", text));
        }
        "flaky" if !cx.state::<AtomicBool>()?.fetch_xor(true, Ordering::SeqCst) => {
            return Err(Error::unavailable("shelf_stuck", "the shelf is stuck"));
        }
        "rogue" => {
            let name = "x".to_owned();
            cx.publish(Rogue { name }).await?;
        }
        "panics" => panic!("the secret of the shelf"),
        _ => {}
    }
    Ok(Reserved {
        id: order_id,
        seen: HashMap::new(),
    })
}

fn level(sku: &str, quantity: i64) -> Level {
    Level {
        sku: sku.to_owned(),
        quantity,
        padding: Vec::new(),
    }
}

pub(super) struct Room;

type Levels = Pin<Box<dyn Stream<Item = Result<Level, Status>> + Send>>;

#[tonic::async_trait]
impl Stock for Room {
    async fn reserve(&self, request: Request<Line>) -> Result<Response<Reserved>, Status> {
        let mut response = answer(request, reserve).await?;
        let shelf = "7".parse().unwrap();
        response.metadata_mut().insert("x-shelf", shelf);
        Ok(response)
    }

    type WatchStream = Levels;

    async fn watch(&self, request: Request<Line>) -> Result<Response<Levels>, Status> {
        let cx = Cx::of(&request)?;
        let Line { sku, quantity, .. } = request.into_inner();
        let name = sku.clone();
        let levels = stream::iter(1..=quantity).then(move |quantity| {
            let (cx, sku) = (cx.clone(), name.clone());
            async move {
                write(&cx, &sku, quantity).await.map_err(status)?;
                Ok(level(&sku, quantity))
            }
        });
        let levels: Levels = match &*sku {
            "breaks" => Box::pin(levels.chain(stream::once(async {
                let closed = Error::conflict("shelf_closed", "the shelf is closed");
                Err(status(closed))
            }))),
            "pauses" => Box::pin(levels.chain(stream::pending())),
            _ => Box::pin(levels),
        };
        Ok(Response::new(levels))
    }

    async fn receive(&self, request: Request<Streaming<Line>>) -> Result<Response<Level>, Status> {
        let cx = Cx::of(&request)?;
        let mut lines = request.into_inner();
        let mut sum = level("", 0);
        while let Some(line) = lines.message().await? {
            sum = level(&line.sku, sum.quantity + line.quantity);
        }
        write(&cx, &sum.sku, sum.quantity).await.map_err(status)?;
        Ok(Response::new(sum))
    }

    type CountStream = Levels;

    async fn count(&self, request: Request<Streaming<Line>>) -> Result<Response<Levels>, Status> {
        let lines = request.into_inner();
        let levels = lines.map(|line| line.map(|line| level(&line.sku, line.quantity)));
        Ok(Response::new(Box::pin(levels)))
    }

    async fn look(&self, request: Request<Line>) -> Result<Response<Level>, Status> {
        let line = request.into_inner();
        Ok(Response::new(level(&line.sku, line.quantity)))
    }
}
