//! What happens to the stock of the shops.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::Event;

/// What lies in a shop changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "StockUpdated", version = "1.0", topic = "inventory-events", key = product_id)]
#[serde(rename_all = "camelCase")]
pub struct StockUpdated {
    /// The shop.
    pub shop_id: String,
    /// The product.
    pub product_id: String,
    /// Pieces there now, those that are held for orders included.
    pub new_stock: u32,
    /// Pieces there before.
    pub previous_stock: u32,
    /// The difference.
    pub change: i64,
}

/// Pieces of a product are held for an order; one for each product of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "InventoryReserved", version = "1.0", topic = "inventory-events", key = order_id)]
#[serde(rename_all = "camelCase")]
pub struct InventoryReserved {
    /// The order.
    pub order_id: String,
    /// The shop.
    pub shop_id: String,
    /// The product.
    pub product_id: String,
    /// How many.
    pub quantity: u32,
}

/// A product came to be low in a shop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "LowStockAlert", version = "1.0", topic = "inventory-events", key = product_id)]
#[serde(rename_all = "camelCase")]
pub struct LowStockAlert {
    /// The shop.
    pub shop_id: String,
    /// The product.
    pub product_id: String,
    /// Pieces there now.
    pub current_stock: u32,
    /// As many as there should be.
    pub minimum_stock: u32,
}

/// A reservation's time is up before its order was confirmed. The stock stays held until order-service, which
/// decides, has cancelled the order. Ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "ReservationExpired", version = "1.0", topic = "inventory-events", key = order_id)]
#[serde(rename_all = "camelCase")]
pub struct ReservationExpired {
    /// The order.
    pub order_id: String,
    /// The shop.
    pub shop_id: String,
}

/// See whether a reservation's time is up. Ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "ExpireReservation",
    version = "1.0",
    topic = "inventory-commands",
    key = order_id,
    kind = command
)]
#[serde(rename_all = "camelCase")]
pub struct ExpireReservation {
    /// The order that stock is held for.
    pub order_id: String,
}
