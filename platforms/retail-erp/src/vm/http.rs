//! Machines that sell by HTTP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Json, Path, Result};

use super::{sale, tables};
use crate::{device_of, limits};

/// What to sell.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSale {
    /// The machine's own id of the sale; asked again with the same, it is the same sale.
    pub sale_id: String,
    /// From which slot.
    pub slot: String,
    /// The payment gateway's token of the customer's card.
    pub card_token: String,
}

/// A sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sale {
    /// The machine's own id of it.
    pub sale_id: String,
    /// The order that it is.
    pub order_id: String,
    /// How it stands.
    pub status: SaleStatus,
    /// Why it was refused, such as `payment_failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a sale stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaleStatus {
    /// It is paid: the machine is to vend.
    Vending,
    /// The piece fell.
    Vended,
    /// It was not paid: the machine is not to vend.
    Refused,
    /// The piece did not fall, and was paid back.
    Refunded,
}

/// How vending ended.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    /// Whether the piece fell.
    pub vended: bool,
}

pub(super) async fn sell(cx: Cx, Json(new): Json<NewSale>) -> Result<Json<Sale>> {
    sale::sell(&cx, &device_of(&cx)?, new).await.map(Json)
}

pub(super) async fn find(cx: Cx, Path(sale_id): Path<String>) -> Result<Json<Sale>> {
    let mut reader = cx.read().await?;
    let sale = tables::find(reader.conn(), &device_of(&cx)?, &sale_id).await?;
    sale.map(Json)
        .ok_or_else(|| limits::unknown("sale", &sale_id))
}

pub(super) async fn finish(
    cx: Cx,
    Path(sale_id): Path<String>,
    Json(end): Json<Finish>,
) -> Result<Json<Sale>> {
    sale::finish(&cx, &device_of(&cx)?, &sale_id, end.vended)
        .await
        .map(Json)
}
