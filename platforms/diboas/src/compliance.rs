//! compliance-service: says which transfers may go.

mod http;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service};

use crate::events::TransactionFlagged;

pub use http::{Screened, Screening, Verdict};

/// The service's name.
pub const NAME: &str = "compliance-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_screenings",
    sql: include_str!("compliance/0001_screenings.sql"),
}];

/// The `[service.compliance-service]` section.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// To whom nothing may go.
    pub blocked: Vec<String>,
    /// How much may go at once, in whole units of the currency.
    pub units_max: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            blocked: vec!["mallory".to_owned()],
            units_max: 10_000,
        }
    }
}

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .config::<Config>()
        .migrations(MIGRATIONS)
        .publishes::<TransactionFlagged>()
        .post("/api/v1/screenings", http::screen)
}
