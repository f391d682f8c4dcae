//! What happens to the catalogue.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::Event;

use crate::Money;

/// A product is for sale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "product.created", version = "1.0", topic = "product-events", key = product_id)]
pub struct ProductCreated {
    /// The product.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// Who makes it.
    pub brand: String,
    /// The department it stands in.
    pub category: String,
    /// A sentence about it.
    pub description: String,
    /// The price of one.
    pub price: Money,
    /// ISO 4217.
    pub currency: String,
    /// Whether any piece can be ordered.
    pub in_stock: bool,
}

/// A product's name, price or description changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "product.updated", version = "1.0", topic = "product-events", key = product_id)]
pub struct ProductUpdated {
    /// The product.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// A sentence about it.
    pub description: String,
    /// The price of one.
    pub price: Money,
}
