//! product-service: the catalogue, and where each product is to be had.

mod http;
mod tables;

use trunkline::{Cx, Event, Migration, Result, Service};

use crate::events::StockUpdated;

pub(crate) use http::find_all;
pub use http::{NewProduct, Place, Product};

/// The service's name.
pub const NAME: &str = "product-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_products",
    sql: include_str!("product/0001_products.sql"),
}];

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .on_start(tables::load_demo)
        .get("/api/products", http::list)
        .get("/api/products/{id}", http::find)
        .put("/api/products/{id}", http::save)
        .on(stock_updated)
}

/// The stock of a shop changed: so may whether a product is to be had there.
async fn stock_updated(cx: Cx, event: Event<StockUpdated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::set_stock(tx.conn(), &event.data).await
}
