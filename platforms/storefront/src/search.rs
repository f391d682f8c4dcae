//! search-service: finds products by words.
//!
//! The index is built from events, kept in a table and searched in memory.

mod http;
mod index;
mod sync;
mod tables;

use trunkline::{Migration, Service};

pub use http::{Hit, Hits};

use sync::SharedIndex;

/// The service's name.
pub const NAME: &str = "search-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_search",
    sql: include_str!("search/0001_search.sql"),
}];

/// Events that are indexed in one transaction.
const BATCH: usize = 100;

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .state(SharedIndex::default())
        .on_start(sync::load_index)
        .get("/api/search", http::search)
        .on_batch(BATCH, sync::product_created)
        .on_batch(BATCH, sync::product_updated)
        .on_batch(BATCH, sync::stock_changed)
}
