//! inventory-service: what lies in the warehouses, and what of it is held for orders.
//!
//! An order's stock is held by a call, before the order exists. It is taken for good when the order is
//! confirmed and free again when it has failed, or when the order's saga has it released. A reservation whose time is up only says so: whether
//! its order has failed is order-service's to decide, so that no stock is sold twice.

mod http;
mod reservations;
mod stock;
mod sync;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service};

use crate::events::{
    ExpireReservation, InventoryReleased, InventoryReserved, LowStock, ReservationExpired,
    StockChanged,
};

pub use http::{Availability, Reservation, Reserve, ReserveItem};

/// The service's name.
pub const NAME: &str = "inventory-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_inventory",
    sql: include_str!("inventory/0001_inventory.sql"),
}];

/// The `[service.inventory-service]` section.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long stock is held for an order that is not confirmed, in milliseconds.
    pub reservation_ms: u64,
    /// At how many pieces or fewer a product is low.
    pub low_stock: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            reservation_ms: 15 * 60 * 1_000,
            low_stock: 5,
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
        .publishes::<InventoryReserved>()
        .publishes::<InventoryReleased>()
        .publishes::<ReservationExpired>()
        .publishes::<ExpireReservation>()
        .publishes::<StockChanged>()
        .publishes::<LowStock>()
        .on_start(stock::load_catalogue)
        .get("/api/inventory/{product_id}", http::availability)
        .post("/internal/reservations", http::reserve)
        .post("/internal/reservations/{order_id}/release", http::release)
        .on(sync::finalise)
        .on(sync::release)
        .on(sync::expire)
}
