//! The card that a customer pays with, and what became of a payment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Error, Json, Path, Result};

use super::sync;
use super::tables::{self, Stored};
use crate::{Money, limits};

/// The card that the customer's next orders are paid with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The provider's token of the card, such as `tok_visa`.
    pub card_token: String,
}

/// What became of a payment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Payment {
    /// Its id.
    pub payment_id: String,
    /// The order that it pays.
    pub order_id: String,
    /// `processing`, `succeeded`, `failed` or `refunded`.
    pub status: String,
    /// How much.
    pub amount: Money,
    /// ISO 4217.
    pub currency: String,
    /// Its number for people, such as `TXN-2024-00001`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    /// Why it failed, in snake case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What an order owes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Due {
    /// Who pays.
    pub user_id: String,
    /// How much.
    pub amount: Money,
    /// ISO 4217.
    pub currency: String,
}

pub(super) async fn card(cx: Cx) -> Result<Json<Card>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    let token = tables::card(reader.conn(), &user).await?;
    Ok(Json(Card {
        card_token: token.unwrap_or_else(|| sync::DEFAULT_CARD.to_owned()),
    }))
}

pub(super) async fn set_card(cx: Cx, Json(card): Json<Card>) -> Result<Json<Card>> {
    let user = cx.user()?;
    let card_token = limits::text("card_token", &card.card_token, 64)?.to_owned();
    let mut tx = cx.tx().await?;
    tables::set_card(tx.conn(), &user, &card_token).await?;
    Ok(Json(Card { card_token }))
}

pub(super) async fn find(cx: Cx, Path(order_id): Path<String>) -> Result<Json<Payment>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    let payment = tables::find(reader.conn(), &order_id).await?;
    let payment = payment
        .filter(|payment| user == payment.user_id)
        .ok_or_else(|| {
            Error::not_found("payment_unknown", "there is no such payment")
                .with("order_id", &order_id)
        })?;
    Ok(Json(shown(payment)))
}

/// Has whatever was or will be charged for an order given back, also where its payment is yet to begin.
pub(super) async fn void(
    cx: Cx,
    Path(order_id): Path<String>,
    Json(due): Json<Due>,
) -> Result<Json<Payment>> {
    let begun = sync::begun(&cx, order_id, due).await?;
    let mut tx = cx.tx().await?;
    let payment = tables::begin(tx.conn(), begun).await?;
    drop(tx);
    sync::take_back(&cx, payment.clone()).await?;
    Ok(Json(shown(payment)))
}

fn shown(payment: Stored) -> Payment {
    Payment {
        payment_id: payment.payment_id,
        order_id: payment.order_id,
        status: payment.status.name().to_owned(),
        amount: payment.amount,
        currency: payment.currency,
        transaction_id: payment.transaction_id,
        reason: payment.reason,
    }
}
