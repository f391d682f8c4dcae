//! Orders as they are asked for and shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Json, Money, Path, Result, Timestamp};

use super::tables;
use crate::{STAFF, limits};

/// What to order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewOrder {
    /// Where.
    pub shop_id: String,
    /// What.
    pub items: Vec<NewItem>,
    /// The payment gateway's token of the card that pays, such as `tok_visa`.
    pub card_token: String,
}

/// One thing to order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewItem {
    /// The product.
    pub product_id: String,
    /// How many.
    pub quantity: u32,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Its id.
    pub order_id: String,
    /// Where it was placed.
    pub shop_id: String,
    /// Who placed it.
    pub user_id: String,
    /// How it stands.
    pub status: Status,
    /// Why it was cancelled: `payment_failed`, `reservation_expired` or `refunded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was ordered.
    pub items: Vec<OrderLine>,
    /// What it costs.
    pub total_amount: Money,
    /// How it was paid, as soon as payment-service has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// When it was placed.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderLine {
    /// The product.
    pub product_id: String,
    /// What it was called when it was ordered.
    pub name: String,
    /// How many.
    pub quantity: u32,
    /// The price of one when it was ordered, after campaigns.
    pub price: Money,
}

/// How an order was paid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The payment.
    pub payment_id: String,
    /// How much.
    pub amount: Money,
    /// Who charged it.
    pub gateway: String,
}

/// What an order would cost, and whether it could be had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quote {
    /// What it would be.
    pub items: Vec<OrderLine>,
    /// What it would cost.
    pub total_amount: Money,
    /// Whether the shop has it all now.
    pub available: bool,
}

/// How an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is paid, and its stock is the customer's.
    Confirmed,
    /// It came to nothing or was given back, and costs nothing.
    Cancelled,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The user's own orders, newest first.
pub(super) async fn list(cx: Cx) -> Result<Json<Vec<Order>>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    Ok(Json(tables::of_user(reader.conn(), &user).await?))
}

pub(super) async fn find(cx: Cx, Path(order_id): Path<String>) -> Result<Json<Order>> {
    Ok(Json(visible(&cx, &order_id).await?))
}

/// An order that the user may see: their own, or any for the staff.
pub(super) async fn visible(cx: &Cx, order_id: &str) -> Result<Order> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    let order = tables::find(reader.conn(), order_id).await?;
    let order = order.filter(|order| user == order.user_id || cx.require_role(STAFF).is_ok());
    order.ok_or_else(|| limits::unknown("order", order_id))
}
