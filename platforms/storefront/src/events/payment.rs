//! What happens to a payment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::Event;

use crate::Money;

/// An order was paid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "payment.success", version = "1.0", topic = "payment-events", key = order_id)]
pub struct PaymentSuccess {
    /// The payment.
    pub payment_id: String,
    /// The order that it pays.
    pub order_id: String,
    /// Its number for people, such as `TXN-2024-00001`.
    pub transaction_id: String,
    /// How much was charged.
    pub amount: Money,
    /// ISO 4217.
    pub currency: String,
    /// Such as `credit_card`.
    pub payment_method: String,
    /// Who charged it.
    pub provider: String,
    /// The provider's own id of the charge.
    pub provider_transaction_id: String,
}

/// An order could not be paid; nothing was charged, and nothing will be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "payment.failed", version = "1.0", topic = "payment-events", key = order_id)]
pub struct PaymentFailed {
    /// The order.
    pub order_id: String,
    /// Why, in snake case, such as `card_declined`.
    pub reason: String,
}

/// A charge was given back, because its order had failed by the time it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "payment.refunded", version = "1.0", topic = "payment-events", key = order_id)]
pub struct PaymentRefunded {
    /// The payment.
    pub payment_id: String,
    /// The order.
    pub order_id: String,
    /// How much was given back.
    pub amount: Money,
    /// ISO 4217.
    pub currency: String,
}

/// Ask the provider again what became of a charge that it has not answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "payment.reconcile",
    version = "1.0",
    topic = "payment-commands",
    key = order_id,
    kind = command
)]
pub struct ReconcilePayment {
    /// The order that the charge pays.
    pub order_id: String,
    /// Counts from 1.
    pub attempt: u32,
}
