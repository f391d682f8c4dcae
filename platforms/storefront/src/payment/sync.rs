//! Paying for orders.
//!
//! The provider is asked before the transaction begins: a store is never held open while somebody
//! outside takes their time.

use trunkline::{Cx, Event, Result};

use super::http::Due;
use super::settle::{settle, unanswered};
use super::tables::{self, Status, Stored};
use super::{Config, provider};
use crate::events::{OrderCreated, OrderFailed, ReconcilePayment};

/// The card of those who have named none.
pub(super) const DEFAULT_CARD: &str = "tok_visa";

/// An order waits for its payment.
pub(super) async fn order_created(cx: Cx, event: Event<OrderCreated>) -> Result<()> {
    let order = event.data;
    let known = {
        let mut reader = cx.read().await?;
        tables::find(reader.conn(), &order.order_id).await?
    };
    if known.is_some_and(|payment| payment.order_failed) {
        return Ok(());
    }
    let due = Due {
        user_id: order.user_id,
        amount: order.total,
        currency: order.currency,
    };
    let payment = begun(&cx, order.order_id, due).await?;
    match provider::charge(&cx, &payment).await {
        Ok(charge) => settle(&cx, payment, charge, 1).await,
        Err(error) => unanswered(&cx, payment, &error, 1).await,
    }
}

/// An order has failed: whatever was or will be charged for it must not stay so.
pub(super) async fn order_failed(cx: Cx, event: Event<OrderFailed>) -> Result<()> {
    let mut tx = cx.tx().await?;
    let payment = tables::lock(tx.conn(), &event.data.order_id).await?;
    drop(tx);
    match payment {
        Some(payment) => take_back(&cx, payment).await,
        None => Ok(()),
    }
}

/// A payment that begins, with the card that the user pays with.
pub(super) async fn begun(cx: &Cx, order_id: String, due: Due) -> Result<Stored> {
    let card = {
        let mut reader = cx.read().await?;
        tables::card(reader.conn(), &due.user_id).await?
    };
    Ok(Stored {
        order_id,
        payment_id: cx.env().id().to_string(),
        user_id: due.user_id,
        amount: due.amount,
        currency: due.currency,
        card_token: card.unwrap_or_else(|| DEFAULT_CARD.to_owned()),
        status: Status::Processing,
        reason: None,
        order_failed: false,
        transaction_id: None,
        provider_transaction_id: None,
    })
}

/// Has the provider asked, until it has answered, to give back what it charged and to charge nothing more.
pub(super) async fn take_back(cx: &Cx, mut payment: Stored) -> Result<()> {
    let is_open = matches!(payment.status, Status::Processing | Status::Succeeded);
    if payment.order_failed || !is_open {
        return Ok(());
    }
    payment.order_failed = true;
    let mut tx = cx.tx().await?;
    tables::save(tx.conn(), &payment).await?;
    tx.publish(ReconcilePayment {
        order_id: payment.order_id,
        attempt: 1,
    })
    .await
}

/// Asks again what became of a charge.
pub(super) async fn reconcile(cx: Cx, event: Event<ReconcilePayment>) -> Result<()> {
    let ReconcilePayment { order_id, attempt } = event.data;
    let payment = {
        let mut reader = cx.read().await?;
        tables::find(reader.conn(), &order_id).await?
    };
    let Some(payment) = payment else {
        return Ok(());
    };
    let give_up = payment.order_failed || attempt > cx.config::<Config>()?.attempts_max;
    let answer = match payment.status {
        Status::Failed | Status::Refunded => return Ok(()),
        Status::Succeeded if !payment.order_failed => return Ok(()),
        _ if give_up => provider::void(&cx, &order_id).await,
        _ => match provider::find(&cx, &order_id).await {
            Ok(None) => provider::charge(&cx, &payment).await,
            Ok(Some(charge)) => Ok(charge),
            Err(error) => Err(error),
        },
    };
    match answer {
        Ok(charge) => settle(&cx, payment, charge, attempt).await,
        Err(error) => unanswered(&cx, payment, &error, attempt).await,
    }
}
