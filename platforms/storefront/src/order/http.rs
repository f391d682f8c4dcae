//! Looking at orders.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Json, Path, Query, Result, Timestamp};

use super::tables;
use crate::cursor::Cursors;
use crate::events::Address;
use crate::{Money, limits};

/// What to order.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    /// What; the user's cart if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<NewOrderItem>>,
    /// Where to; the user's default address if not given. Who has none picks the order up at the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<Address>,
}

/// One thing to order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrderItem {
    /// The product.
    pub product_id: String,
    /// Its variant, if one was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<String>,
    /// How many.
    #[serde(deserialize_with = "limits::read_quantity")]
    #[schemars(range(min = 1, max = 1_000))]
    pub quantity: u32,
}

/// An order was accepted; what becomes of it is seen at its `Location`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The order.
    pub order_id: String,
    /// `pending`
    pub status: Status,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// Its id.
    pub order_id: String,
    /// Its number for people, such as `ORD-2024-00001`.
    pub order_number: String,
    /// How it stands.
    pub status: Status,
    /// Why it failed, in snake case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it costs.
    pub total: Money,
    /// ISO 4217.
    pub currency: String,
    /// What was ordered.
    pub items: Vec<OrderLine>,
    /// Where it goes; an order without it is picked up at the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<Address>,
    /// When it was accepted.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schemars(with = "String")]
    pub updated_at: Timestamp,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OrderLine {
    /// The product.
    pub product_id: String,
    /// Its variant, if one was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<String>,
    /// What it was called when it was ordered.
    pub name: String,
    /// How many.
    pub quantity: u32,
    /// The price of one when it was ordered.
    pub price: Money,
}

/// How an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for its payment.
    Pending,
    /// It is paid.
    Confirmed,
    /// It came to nothing.
    Failed,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        match name {
            "pending" => Self::Pending,
            "confirmed" => Self::Confirmed,
            _ => Self::Failed,
        }
    }
}

/// Which orders.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Where the list goes on: `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many at most.
    limit: Option<u32>,
}

/// A page of the user's orders, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Orders {
    /// The orders.
    pub items: Vec<Order>,
    /// Where the list goes on; null on the last page.
    pub next_cursor: Option<String>,
}

pub(super) async fn find(cx: Cx, Path(id): Path<String>) -> Result<Json<Order>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    Ok(Json(tables::find(reader.conn(), &id, &user).await?))
}

pub(super) async fn list(cx: Cx, Query(query): Query<ListQuery>) -> Result<Json<Orders>> {
    let user = cx.user()?;
    let limit = limits::page(query.limit)?;
    let cursors = cx.state::<Cursors>()?;
    let list = format!("orders?user={user}");
    let before = query
        .cursor
        .map(|cursor| cursors.read(&list, &cursor))
        .transpose()?;
    let mut reader = cx.read().await?;
    // One more than asked for tells whether there is a next page.
    let mut items = tables::page(reader.conn(), &user, before, limit + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next_cursor = match items.last() {
        Some(last) if more => Some(cursors.write(&list, &last.order_id)?),
        _ => None,
    };
    Ok(Json(Orders { items, next_cursor }))
}
