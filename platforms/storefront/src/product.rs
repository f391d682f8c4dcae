//! product-service: the catalogue.

mod http;
mod sync;
mod tables;

use trunkline::{Migration, Service};

use crate::cursor::Cursors;
use crate::events::{ProductCreated, ProductUpdated};

pub(crate) use http::quotes;
pub use http::{Page, Product, Quote, QuoteItem, QuoteRequest, Variant};

/// The service's name.
pub const NAME: &str = "product-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_products",
    sql: include_str!("product/0001_products.sql"),
}];

/// The service.
pub fn service(cursors: Cursors) -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .state(cursors)
        .publishes::<ProductCreated>()
        .publishes::<ProductUpdated>()
        .on_start(sync::load_catalogue)
        .get("/api/products", http::list)
        .get("/api/products/{id}", http::find)
        .post("/internal/quotes", http::quote)
        .patch("/internal/products/{id}", http::update)
        .on(sync::stock_changed)
}
