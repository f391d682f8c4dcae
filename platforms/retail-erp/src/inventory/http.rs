//! Looking at stock, and setting it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Error, Json, Path, Result, Timestamp};

use super::stock::{self, Cause, Change, Level, Locked};
use crate::{STAFF, limits};

/// What there is of a product in a shop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StockLevel {
    /// The shop.
    pub shop_id: String,
    /// The product.
    pub product_id: String,
    /// Pieces that lie there.
    pub stock: u32,
    /// Pieces of them held for orders.
    pub reserved: u32,
    /// Pieces that can be ordered.
    pub available: u32,
    /// As many as there should be.
    pub minimum_stock: u32,
}

/// What there is to be of a product in a shop.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewLevel {
    /// Pieces that lie there.
    pub stock: u32,
    /// As many as there should be; as before if not given.
    #[serde(default)]
    pub minimum_stock: Option<u32>,
}

/// Pieces that came to a shop.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delivery {
    /// How many.
    pub quantity: u32,
}

/// A change of a shop's stock.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// When.
    #[schemars(with = "String")]
    at: Timestamp,
    /// `ordered`, `sold`, `returned`, `delivered`, `set` or `counted`.
    cause: String,
    /// By how many pieces.
    change: i64,
    /// The order, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
}

type Place = Path<(String, String)>;

pub(super) async fn level(cx: Cx, Path((shop_id, product_id)): Place) -> Result<Json<StockLevel>> {
    let mut reader = cx.read().await?;
    let level = stock::find(reader.conn(), &shop_id, &product_id).await?;
    Ok(Json(shown(shop_id, product_id, level)))
}

pub(super) async fn history(
    cx: Cx,
    Path((shop_id, product_id)): Place,
) -> Result<Json<Vec<Entry>>> {
    cx.require_role(STAFF)?;
    let mut reader = cx.read().await?;
    let noted = stock::history(reader.conn(), &shop_id, &product_id).await?;
    let entries = noted
        .into_iter()
        .map(|(at, cause, change, order_id)| Entry {
            at: Timestamp::from_microsecond(at).unwrap_or_default(),
            cause,
            change,
            order_id,
        });
    Ok(Json(entries.collect()))
}

pub(super) async fn set_level(
    cx: Cx,
    Path((shop_id, product_id)): Place,
    Json(new): Json<NewLevel>,
) -> Result<Json<StockLevel>> {
    change(&cx, (shop_id, product_id), Cause::Set, |level| {
        level.on_hand = new.stock;
        level.minimum = new.minimum_stock.unwrap_or(level.minimum);
        Ok(())
    })
    .await
}

pub(super) async fn deliver(
    cx: Cx,
    Path((shop_id, product_id)): Place,
    Json(delivery): Json<Delivery>,
) -> Result<Json<StockLevel>> {
    limits::quantity(delivery.quantity)?;
    change(&cx, (shop_id, product_id), Cause::Delivered, |level| {
        let sum = level.on_hand.checked_add(delivery.quantity);
        level.on_hand = sum
            .ok_or_else(|| Error::invalid("stock_out_of_range", "no shop holds so many pieces"))?;
        Ok(())
    })
    .await
}

async fn change(
    cx: &Cx,
    (shop_id, product_id): (String, String),
    cause: Cause,
    change: impl FnOnce(&mut Level) -> Result<()>,
) -> Result<Json<StockLevel>> {
    cx.require_role(STAFF)?;
    limits::id("shopId", &shop_id)?;
    limits::id("productId", &product_id)?;
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    stock::make_room(conn, &shop_id, &product_id).await?;
    let stock = Locked::lock(conn, &shop_id, &product_id).await?;
    let mut stock = stock.ok_or_else(|| limits::unknown("stock", &product_id))?;
    change(&mut stock.level)?;
    let level = stock.level;
    stock
        .save(
            cx,
            conn,
            Change {
                cause,
                at: cx.now(),
                order_id: None,
            },
        )
        .await?;
    Ok(Json(shown(shop_id, product_id, level)))
}

fn shown(shop_id: String, product_id: String, level: Level) -> StockLevel {
    StockLevel {
        shop_id,
        product_id,
        stock: level.on_hand,
        reserved: level.reserved,
        available: level.available(),
        minimum_stock: level.minimum,
    }
}
