//! campaign-service: what things cost while a campaign runs.

mod http;
mod tables;

use trunkline::{Migration, Service};

use crate::product;

pub(crate) use http::prices;
pub use http::{Campaign, NewCampaign, Prices};

/// The service's name.
pub const NAME: &str = "campaign-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_campaigns",
    sql: include_str!("campaign/0001_campaigns.sql"),
}];

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .calls(product::NAME)
        .get("/api/campaigns", http::list)
        .put("/api/campaigns/{id}", http::save)
        .delete("/api/campaigns/{id}", http::end)
        .post("/internal/prices", http::price)
}
