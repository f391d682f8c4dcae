//! vm-service: sells from vending machines.
//!
//! A sale is an order with payment, which the machine places for whoever stands before it. The machine vends when the
//! order is confirmed, and tells how that ended; what it does not tell in time was not vended, and is paid back.

mod http;
mod rpc;
mod sale;
mod tables;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service};

use crate::events::SettleSale;
use crate::proto::DESCRIPTORS;
use crate::proto::vm::vending_machine_server::VendingMachineServer;
use crate::{order, shop};

pub use http::{Finish, NewSale, Sale, SaleStatus};

/// The service's name.
pub const NAME: &str = "vm-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_sales",
    sql: include_str!("vm/0001_sales.sql"),
}];

/// The `[service.vm-service]` section.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a machine has to tell that it vended, in milliseconds.
    pub vend_within_ms: u64,
    /// How long to wait before a refund that failed is tried again, in milliseconds.
    pub ask_again_ms: u64,
    /// How often a refund is tried before it becomes a dead letter.
    pub attempts_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vend_within_ms: 60_000,
            ask_again_ms: 30_000,
            attempts_max: 1_000,
        }
    }
}

impl Config {
    fn vend_within(&self) -> Duration {
        Duration::from_millis(self.vend_within_ms)
    }

    fn ask_again(&self) -> Duration {
        Duration::from_millis(self.ask_again_ms)
    }
}

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .config::<Config>()
        .migrations(MIGRATIONS)
        .calls(shop::NAME)
        .calls(order::NAME)
        .publishes::<SettleSale>()
        .post("/api/vm/sales", http::sell)
        .get("/api/vm/sales/{sale_id}", http::find)
        .post("/api/vm/sales/{sale_id}/finish", http::finish)
        .grpc(VendingMachineServer::new(rpc::Rpc), DESCRIPTORS)
        .on(sale::device_status_updated)
        .on(sale::order_created)
        .on(sale::settle)
}
