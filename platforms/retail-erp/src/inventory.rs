//! inventory-service: what lies in each shop, and what of it is held for orders.
//!
//! An order's stock is held by a call, before it is paid. It leaves the shop when the order is confirmed, and is free
//! again when it is cancelled. A reservation whose time is up only says so: whether its order is cancelled is
//! order-service's to decide, so that no piece is sold twice.

mod client;
mod http;
mod reservations;
mod rpc;
mod stock;
mod sync;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service, every};

use crate::events::{
    ExpireReservation, InventoryReserved, LowStockAlert, ReservationExpired, StockUpdated,
};
use crate::proto::DESCRIPTORS;
use crate::proto::inventory::inventory_server::InventoryServer;

pub(crate) use client::{level, release, reserve};
pub use http::{Delivery, NewLevel, StockLevel};

/// The service's name.
pub const NAME: &str = "inventory-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_inventory",
    sql: include_str!("inventory/0001_inventory.sql"),
}];

/// How often history that is too old is thrown away.
const SWEEP: Duration = Duration::from_secs(3_600);

/// The `[service.inventory-service]` section.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long stock is held for an order that is not confirmed, in milliseconds.
    pub reservation_ms: u64,
    /// How long the history of the stock is kept, in days.
    pub history_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            reservation_ms: 5 * 60 * 1_000,
            history_days: 90,
        }
    }
}

impl Config {
    fn reservation(&self) -> Duration {
        Duration::from_millis(self.reservation_ms)
    }
}

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .config::<Config>()
        .migrations(MIGRATIONS)
        .publishes::<StockUpdated>()
        .publishes::<InventoryReserved>()
        .publishes::<LowStockAlert>()
        .publishes::<ReservationExpired>()
        .publishes::<ExpireReservation>()
        .on_start(stock::load_demo)
        .job("forget-history", every(SWEEP), stock::forget_history)
        .get("/api/inventory/{shop_id}/{product_id}", http::level)
        .get(
            "/api/inventory/{shop_id}/{product_id}/history",
            http::history,
        )
        .put("/api/inventory/{shop_id}/{product_id}", http::set_level)
        .idempotent_post(
            "/api/inventory/{shop_id}/{product_id}/deliveries",
            http::deliver,
        )
        .grpc(InventoryServer::new(rpc::Rpc), DESCRIPTORS)
        .on(sync::order_created)
        .on(sync::order_confirmed)
        .on(sync::order_cancelled)
        .on(sync::expire)
        .on(sync::device_status_updated)
        .on(sync::device_data_received)
}
