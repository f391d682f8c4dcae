//! What happens to the stock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Event, Timestamp};

/// Stock is held for an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "inventory.reserved", version = "1.0", topic = "inventory-events", key = order_id)]
pub struct InventoryReserved {
    /// The reservation.
    pub reservation_id: String,
    /// The order that it is for.
    pub order_id: String,
    /// What is held, and where.
    pub reservations: Vec<ReservationLine>,
    /// When it ends unless the order is confirmed.
    #[schemars(with = "String")]
    pub expires_at: Timestamp,
}

/// Pieces of one product in one warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReservationLine {
    /// The product.
    pub product_id: String,
    /// How many.
    pub quantity: u32,
    /// Where they lie.
    pub warehouse_id: String,
}

/// A reservation came to its end before its order did. The stock stays held until the order, whose
/// service decides, has failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "inventory.reservation.expired",
    version = "1.0",
    topic = "inventory-events",
    key = order_id
)]
pub struct ReservationExpired {
    /// The reservation.
    pub reservation_id: String,
    /// The order that it was for.
    pub order_id: String,
}

/// Stock that was held for an order is free again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "inventory.released", version = "1.0", topic = "inventory-events", key = order_id)]
pub struct InventoryReleased {
    /// The reservation.
    pub reservation_id: String,
    /// The order that it was for.
    pub order_id: String,
    /// What is free again, and where.
    pub reservations: Vec<ReservationLine>,
}

/// A product came to be in stock, or to be out of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "inventory.stock_changed",
    version = "1.0",
    topic = "inventory-events",
    key = product_id
)]
pub struct StockChanged {
    /// The product.
    pub product_id: String,
    /// Whether any piece can be ordered.
    pub in_stock: bool,
    /// Counts the product's changes, so that a reader can tell an older one.
    pub revision: u64,
}

/// Few pieces of a product are left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "inventory.low_stock", version = "1.0", topic = "inventory-events", key = product_id)]
pub struct LowStock {
    /// The product.
    pub product_id: String,
    /// How many can still be ordered.
    pub available: u32,
    /// At how many or fewer this is said.
    pub threshold: u32,
}

/// End a reservation whose time is up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "inventory.reservation.expire",
    version = "1.0",
    topic = "inventory-commands",
    key = order_id,
    kind = command
)]
pub struct ExpireReservation {
    /// The reservation.
    pub reservation_id: String,
    /// The order that it is for.
    pub order_id: String,
}
