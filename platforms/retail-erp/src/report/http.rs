//! What was counted, for the staff.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Json, Money, Query, Result};

use super::tables;
use crate::{STAFF, limits};

/// Which shop, and which days.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Which {
    /// The shop; every shop if not given.
    pub(super) shop_id: Option<String>,
    /// The first day, such as `2024-01-15`; the beginning if not given.
    pub(super) from: Option<String>,
    /// The last day; today if not given.
    pub(super) to: Option<String>,
}

/// What a shop sold on one day, in UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SalesDay {
    /// The shop.
    pub shop_id: String,
    /// Such as `2024-01-15`.
    pub day: String,
    /// Orders that were not given back.
    pub orders: u32,
    /// Pieces of them.
    pub pieces: u32,
    /// What they cost together.
    pub total_amount: Money,
    /// Orders that were given back.
    pub returned: u32,
}

/// What lies in a shop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StockRow {
    /// The shop.
    pub shop_id: String,
    /// The product.
    pub product_id: String,
    /// Pieces that lie there.
    pub stock: u32,
    /// When it changed last.
    pub updated_at: String,
}

pub(super) async fn sales(cx: Cx, Query(which): Query<Which>) -> Result<Json<Vec<SalesDay>>> {
    cx.require_role(STAFF)?;
    let from = limits::day(which.from.as_deref(), "0001-01-01")?;
    let to = limits::day(which.to.as_deref(), "9999-12-31")?;
    let mut reader = cx.read().await?;
    let shop_id = which.shop_id.unwrap_or_default();
    Ok(Json(
        tables::sales(reader.conn(), &shop_id, &from, &to).await?,
    ))
}

pub(super) async fn stock(cx: Cx, Query(which): Query<Which>) -> Result<Json<Vec<StockRow>>> {
    cx.require_role(STAFF)?;
    let mut reader = cx.read().await?;
    let shop_id = which.shop_id.unwrap_or_default();
    Ok(Json(tables::stock(reader.conn(), &shop_id).await?))
}
