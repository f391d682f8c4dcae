//! What happens to an order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Event, Money};

/// An order was placed: its stock is reserved and its payment made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "OrderCreated", version = "1.0", topic = "order-events", key = order_id)]
#[serde(rename_all = "camelCase")]
pub struct OrderCreated {
    /// The order.
    pub order_id: String,
    /// Where it was placed, and whose stock it takes.
    pub shop_id: String,
    /// Who placed it: a customer, or a vending machine.
    pub user_id: String,
    /// What was ordered.
    pub items: Vec<OrderItem>,
    /// What it costs.
    pub total_amount: Money,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderItem {
    /// The product.
    pub product_id: String,
    /// How many.
    pub quantity: u32,
    /// The price of one, after campaigns.
    pub price: Money,
}

/// An order is good: what is reserved for it is the customer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "OrderConfirmed", version = "1.0", topic = "order-events", key = order_id)]
#[serde(rename_all = "camelCase")]
pub struct OrderConfirmed {
    /// The order.
    pub order_id: String,
    /// `confirmed`
    pub status: String,
}

/// An order came to nothing, or was given back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "OrderCancelled", version = "1.0", topic = "order-events", key = order_id)]
#[serde(rename_all = "camelCase")]
pub struct OrderCancelled {
    /// The order.
    pub order_id: String,
    /// `payment_failed`, `reservation_expired` or `refunded`.
    pub reason: String,
}

/// Pay a sale back whose vending machine has not told how it ended. Ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "SettleSale",
    version = "1.0",
    topic = "vm-commands",
    key = order_id,
    kind = command
)]
#[serde(rename_all = "camelCase")]
pub struct SettleSale {
    /// The order that the machine placed.
    pub order_id: String,
    /// Counts from 1.
    pub attempt: u32,
}
