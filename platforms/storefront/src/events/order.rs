//! What happens to an order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::Event;

use crate::Money;

/// An order was accepted and its stock is reserved; it waits for its payment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "order.created", version = "1.0", topic = "order-events", key = order_id)]
pub struct OrderCreated {
    /// The order.
    pub order_id: String,
    /// Its number for people, such as `ORD-2024-00001`.
    pub order_number: String,
    /// Who ordered.
    pub user_id: String,
    /// What it costs.
    pub total: Money,
    /// ISO 4217.
    pub currency: String,
    /// What was ordered.
    pub items: Vec<OrderItem>,
    /// Where it goes; an order without it is picked up at the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<Address>,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OrderItem {
    /// The product.
    pub product_id: String,
    /// How many.
    pub quantity: u32,
    /// The price of one.
    pub price: Money,
}

/// A postal address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Street and number.
    pub address_line1: String,
    /// The rest of the street address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_line2: Option<String>,
    /// City.
    pub city: String,
    /// State or region.
    pub state: String,
    /// Postal code.
    pub postal_code: String,
    /// ISO 3166-1 alpha-2, such as `US`.
    pub country: String,
}

/// An order is paid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "order.confirmed", version = "1.0", topic = "order-events", key = order_id)]
pub struct OrderConfirmed {
    /// The order.
    pub order_id: String,
}

/// An order came to nothing: not paid, or not in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "order.failed", version = "1.0", topic = "order-events", key = order_id)]
pub struct OrderFailed {
    /// The order.
    pub order_id: String,
    /// Why, in snake case, such as `card_declined` or `reservation_expired`.
    pub reason: String,
}
