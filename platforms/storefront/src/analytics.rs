//! analytics-service: what happened, counted by day.

mod http;
mod sync;
mod tables;

use trunkline::{Migration, Service};

pub use http::{Day, Days, Funnel, Seller, Sellers};

/// The service's name.
pub const NAME: &str = "analytics-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_analytics",
    sql: include_str!("analytics/0001_analytics.sql"),
}];

/// Events that are counted in one transaction.
const BATCH: usize = 100;

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .get("/api/analytics/daily", http::daily)
        .get("/api/analytics/funnel", http::funnel)
        .get("/api/analytics/top-products", http::top_products)
        .on_batch(BATCH, sync::cart_item_added)
        .on_batch(BATCH, sync::order_created)
        .on_batch(BATCH, sync::order_confirmed)
        .on_batch(BATCH, sync::order_failed)
        .on_batch(BATCH, sync::payment_success)
}
