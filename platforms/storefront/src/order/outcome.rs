//! How orders end.

use trunkline::{Cx, Event, Result};

use super::http::Status;
use super::tables;
use crate::events::{
    OrderConfirmed, OrderFailed, PaymentFailed, PaymentSuccess, ReservationExpired,
};

/// The order is paid. If it has failed meanwhile, payment-service gives the money back.
pub(super) async fn paid(cx: Cx, event: Event<PaymentSuccess>) -> Result<()> {
    let order_id = event.data.order_id;
    let now = cx.env().now();
    let mut tx = cx.tx().await?;
    if tables::end(tx.conn(), &order_id, Status::Confirmed, None, now).await? {
        tx.publish(OrderConfirmed { order_id }).await?;
    }
    Ok(())
}

/// The order can't be paid.
pub(super) async fn not_paid(cx: Cx, event: Event<PaymentFailed>) -> Result<()> {
    fail(&cx, event.data.order_id, &event.data.reason).await
}

/// The order's stock is held no longer.
pub(super) async fn expired(cx: Cx, event: Event<ReservationExpired>) -> Result<()> {
    let order_id = event.data.order_id;
    let reason = "reservation_expired";
    let mut tx = cx.tx().await?;
    if tables::abandon(tx.conn(), &order_id, cx.env().now()).await? {
        tx.publish(OrderFailed {
            order_id,
            reason: reason.to_owned(),
        })
        .await?;
        return Ok(());
    }
    drop(tx);
    fail(&cx, order_id, reason).await
}

async fn fail(cx: &Cx, order_id: String, reason: &str) -> Result<()> {
    let now = cx.env().now();
    let mut tx = cx.tx().await?;
    if tables::end(tx.conn(), &order_id, Status::Failed, Some(reason), now).await? {
        tx.publish(OrderFailed {
            order_id,
            reason: reason.to_owned(),
        })
        .await?;
    }
    Ok(())
}
