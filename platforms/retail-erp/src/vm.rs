//! vm-service: sells from vending machines.
//!
//! A sale is an order with payment, which the machine places for whoever stands before it. The machine vends when the
//! order is confirmed, and tells how that ended; what it does not tell in time was not vended, and is paid back.
//!
//! A machine that asks by HTTP or gRPC is answered. One that asks by MQTT gets a command to vend, by iot-gateway, which
//! expires after half of the time that it has; its answer, its report of the sale, or its silence ends the sale. A piece
//! that fell all the same is noted when the machine tells of it.

mod client;
mod http;
mod rpc;
mod sale;
mod tables;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service};

use crate::events::{SettleSale, VendRequested};
use crate::proto::DESCRIPTORS;
use crate::proto::vm::vending_machine_server::VendingMachineServer;
use crate::{order, shop};

pub(crate) use client::purchase;
pub use http::{Finish, NewSale, Sale, SaleStatus};

/// The service's name.
pub const NAME: &str = "vm-service";

const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_sales",
        sql: include_str!("vm/0001_sales.sql"),
    },
    Migration {
        name: "0002_commands",
        sql: include_str!("vm/0002_commands.sql"),
    },
];

/// The `[service.vm-service]` section.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a machine has to tell that it vended, in milliseconds.
    pub vend_within_ms: u64,
    /// How long after a command to vend has expired its answer is waited for, in milliseconds: what was begun in time ends.
    pub vend_grace_ms: u64,
    /// How long to wait before a refund that failed is tried again, in milliseconds.
    pub ask_again_ms: u64,
    /// How often a refund is tried before it becomes a dead letter.
    pub attempts_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vend_within_ms: 60_000,
            vend_grace_ms: 5_000,
            ask_again_ms: 30_000,
            attempts_max: 1_000,
        }
    }
}

impl Config {
    fn vend_within(&self) -> Duration {
        Duration::from_millis(self.vend_within_ms)
    }

    /// How long a command to vend is worth something: it is over before the machine's time is.
    fn vend_begins_within(&self) -> Duration {
        self.vend_within() / 2
    }

    fn vend_grace(&self) -> Duration {
        Duration::from_millis(self.vend_grace_ms)
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
        .publishes::<VendRequested>()
        .post("/api/vm/sales", http::sell)
        .get("/api/vm/sales/{sale_id}", http::find)
        .post("/api/vm/sales/{sale_id}/finish", http::finish)
        .grpc(VendingMachineServer::new(rpc::Rpc), DESCRIPTORS)
        .on(sale::device_status_updated)
        .on(sale::order_created)
        .on(sale::settle)
        .on(sale::vend_ended)
}
