//! What became of a payment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Json, Money, Path, Result};

use super::tables;
use crate::limits;

/// What became of a payment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    /// Its id.
    pub payment_id: String,
    /// The order that it pays.
    pub order_id: String,
    /// How much.
    pub amount: Money,
    /// `succeeded`, `failed`, `refunded` or `voided`.
    pub status: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The refund, if it was given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_id: Option<String>,
}

pub(super) async fn find(cx: Cx, Path(order_id): Path<String>) -> Result<Json<Payment>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    let payment = tables::find(reader.conn(), &order_id).await?;
    let payment = payment.filter(|payment| user == payment.user_id);
    let payment = payment.ok_or_else(|| limits::unknown("payment", &order_id))?;
    Ok(Json(Payment {
        payment_id: payment.payment_id,
        order_id,
        amount: payment.amount,
        status: payment.status.name().to_owned(),
        reason: payment.reason,
        refund_id: payment.refund_id,
    }))
}
