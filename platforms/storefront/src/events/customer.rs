//! What customers do, and what they are told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::Event;

/// Somebody opened an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "user.registered", version = "1.0", topic = "user-events", key = user_id)]
pub struct UserRegistered {
    /// The user.
    pub user_id: String,
    /// The name to log in with.
    pub username: String,
    /// Where mail goes.
    pub email: String,
}

/// A user's profile changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "user.updated", version = "1.0", topic = "user-events", key = user_id)]
pub struct UserUpdated {
    /// The user.
    pub user_id: String,
    /// The name to address the user by.
    pub full_name: String,
    /// Where mail goes.
    pub email: String,
}

/// Something was put into a cart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "cart.item_added", version = "1.0", topic = "cart-events", key = cart_id)]
#[event(priority = low)]
pub struct CartItemAdded {
    /// The cart.
    pub cart_id: String,
    /// The product.
    pub product_id: String,
    /// How many were added.
    pub quantity: u32,
}

/// A mail was handed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "notification.sent",
    version = "1.0",
    topic = "notification-events",
    key = subject_id,
    priority = low
)]
pub struct NotificationSent {
    /// What it is about: an order or a user.
    pub subject_id: String,
    /// Which mail it is, such as `order_confirmed`.
    pub template: String,
    /// Its `Message-ID`.
    pub message_id: String,
}

/// Send a mail, to whoever it is about, at the address that is known when it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "notification.send",
    version = "1.0",
    topic = "notification-commands",
    key = event_id,
    kind = command
)]
pub struct SendNotification {
    /// The event that it tells of.
    pub event_id: String,
    /// What it is about: an order or a user.
    pub subject_id: String,
    /// Which mail it is, such as `order_confirmed`.
    pub template: String,
    /// Why, in snake case, where the mail tells of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Counts from 1.
    pub attempt: u32,
}
