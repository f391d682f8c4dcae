//! Giving money back.

use trunkline::{Cx, Event, Result, Retry};

use super::Config;
use super::tables::{self, Status, Stored};
use crate::events::{OrderCancelled, RefundPayment, RefundProcessed};
use crate::swishpay::{self, Charge, ChargeStatus};

/// Gives an order's money back, or sees to it that none is ever taken. Once: the same order again gets the same answer,
/// which is none if nothing had been charged.
///
/// # Errors
/// `Unavailable` when the gateway does not answer: ask again.
pub(super) async fn refund(cx: &Cx, order_id: &str) -> Result<Option<String>> {
    let there = {
        let mut reader = cx.read().await?;
        tables::find(reader.conn(), order_id).await?
    };
    if let Some(there) = there.filter(|there| there.status != Status::Succeeded) {
        return Ok(there.refund_id);
    }
    let charge = void(cx, order_id).await?;
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    let never = Stored {
        order_id: order_id.to_owned(),
        payment_id: cx.env().id().to_string(),
        user_id: cx.user().map(String::from).unwrap_or_default(),
        amount: charge.amount,
        status: Status::Voided,
        reason: None,
        refund_id: None,
    };
    tables::insert(conn, &never).await?;
    let mut payment = tables::lock(conn, order_id).await?.unwrap_or(never);
    if payment.status != Status::Refunded && charge.status == ChargeStatus::Refunded {
        payment.refund_id = Some(cx.env().id().to_string());
        payment.amount = charge.amount;
        tables::set_refunded(conn, &payment).await?;
        cx.publish(RefundProcessed {
            refund_id: payment.refund_id.clone().unwrap_or_default(),
            payment_id: payment.payment_id,
            amount: payment.amount,
            status: "success".to_owned(),
        })
        .await?;
    }
    Ok(payment.refund_id)
}

async fn void(cx: &Cx, order_id: &str) -> Result<Charge> {
    cx.service(swishpay::NAME)?
        .post(format!("/v1/charges/{order_id}/void"))
        .timeout(cx.config::<Config>()?.timeout())
        .send()
        .await
}

/// An order was cancelled: whatever was or will be charged for it must not stay so.
pub(super) async fn order_cancelled(cx: Cx, event: Event<OrderCancelled>) -> Result<()> {
    let order_id = event.data.order_id;
    let mut tx = cx.tx().await?;
    match tables::lock(tx.conn(), &order_id).await? {
        Some(payment) if payment.status != Status::Succeeded => Ok(()),
        _ => {
            tx.publish(RefundPayment {
                order_id,
                attempt: 1,
            })
            .await
        }
    }
}

/// Gives back, and asks again later if the gateway is away.
pub(super) async fn again(cx: Cx, event: Event<RefundPayment>) -> Result<()> {
    let RefundPayment { order_id, attempt } = event.data;
    let config = cx.config::<Config>()?;
    match refund(&cx, &order_id).await {
        Ok(_) => Ok(()),
        Err(error) if error.retry() == Retry::Permanent || attempt >= config.attempts_max => {
            Err(error)
        }
        Err(error) => {
            tracing::warn!(order_id, attempt, %error, "a refund failed; it is tried again");
            let attempt = attempt.saturating_add(1);
            cx.publish_in(config.pause(attempt), RefundPayment { order_id, attempt })
                .await
        }
    }
}
