//! report-service: sales by shop and day, and stock levels.

mod http;
mod tables;

use trunkline::{Cx, Event, Migration, Result, Service};

use crate::events::{OrderCancelled, OrderCreated, StockUpdated};

pub use http::{SalesDay, StockRow};

/// The service's name.
pub const NAME: &str = "report-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_reports",
    sql: include_str!("report/0001_reports.sql"),
}];

/// Events that are counted in one transaction.
const BATCH: usize = 100;

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .get("/api/reports/sales", http::sales)
        .get("/api/reports/stock", http::stock)
        .on_batch(BATCH, order_created)
        .on_batch(BATCH, order_cancelled)
        .on_batch(BATCH, stock_updated)
}

/// An order was placed: it is a sale of the day on which that happened.
async fn order_created(cx: Cx, event: Event<OrderCreated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::count_sale(tx.conn(), &event.data, &tables::day(event.envelope.time)).await
}

/// An order was given back: it is no sale of its day any more. One that came to nothing was none.
async fn order_cancelled(cx: Cx, event: Event<OrderCancelled>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::count_return(tx.conn(), &event.data.order_id).await
}

/// What lies in a shop changed.
async fn stock_updated(cx: Cx, event: Event<StockUpdated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::set_stock(tx.conn(), &event.data, event.envelope.time).await
}
