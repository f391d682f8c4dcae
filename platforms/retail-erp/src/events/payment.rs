//! What happens to a payment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Event, Money};

/// An order was paid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "PaymentProcessed", version = "1.0", topic = "payment-events", key = order_id)]
#[serde(rename_all = "camelCase")]
pub struct PaymentProcessed {
    /// The payment.
    pub payment_id: String,
    /// The order that it pays.
    pub order_id: String,
    /// How much.
    pub amount: Money,
    /// `success`
    pub status: String,
    /// Who charged it, such as `swishpay`.
    pub gateway: String,
}

/// An order could not be paid; nothing was charged, and nothing will be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "PaymentFailed", version = "1.0", topic = "payment-events", key = order_id)]
#[serde(rename_all = "camelCase")]
pub struct PaymentFailed {
    /// The payment.
    pub payment_id: String,
    /// The order.
    pub order_id: String,
    /// Why, such as `insufficient_funds`.
    pub reason: String,
}

/// A payment was given back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "RefundProcessed", version = "1.0", topic = "payment-events", key = payment_id)]
#[serde(rename_all = "camelCase")]
pub struct RefundProcessed {
    /// The refund.
    pub refund_id: String,
    /// The payment.
    pub payment_id: String,
    /// How much.
    pub amount: Money,
    /// `success`
    pub status: String,
}

/// Give back whatever was or will be paid for an order that is cancelled. Ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "RefundPayment",
    version = "1.0",
    topic = "payment-commands",
    key = order_id,
    kind = command
)]
#[serde(rename_all = "camelCase")]
pub struct RefundPayment {
    /// The order.
    pub order_id: String,
    /// Counts from 1.
    pub attempt: u32,
}
