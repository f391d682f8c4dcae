//! How orders end.

use serde::{Deserialize, Serialize};
use trunkline::{Cx, Event, Result};

use super::http::Status;
use super::{ORDER, OrderFlow, tables};
use crate::events::{
    OrderConfirmed, OrderFailed, PaymentFailed, PaymentSuccess, ReservationExpired,
};

/// What decides an order's fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It is paid.
    Paid,
    /// It comes to nothing, for this reason.
    Failed(String),
}

/// The signal that tells an order's saga its [`Outcome`].
pub(super) const OUTCOME: &str = "outcome";
/// The reason of an order that was not paid in time.
pub(super) const EXPIRED: &str = "reservation_expired";

/// The order is paid. If it has failed meanwhile, payment-service gives the money back.
pub(super) async fn paid(cx: Cx, event: Event<PaymentSuccess>) -> Result<()> {
    decide(&cx, event.data.order_id, Outcome::Paid).await
}

/// The order can't be paid.
pub(super) async fn not_paid(cx: Cx, event: Event<PaymentFailed>) -> Result<()> {
    let PaymentFailed { order_id, reason } = event.data;
    decide(&cx, order_id, Outcome::Failed(reason)).await
}

/// The order's stock is held no longer.
pub(super) async fn expired(cx: Cx, event: Event<ReservationExpired>) -> Result<()> {
    let order_id = event.data.order_id;
    let reason = EXPIRED.to_owned();
    let mut tx = cx.tx().await?;
    if tables::abandon(tx.conn(), &order_id, cx.env().now()).await? {
        return tx.publish(OrderFailed { order_id, reason }).await;
    }
    drop(tx);
    decide(&cx, order_id, Outcome::Failed(reason)).await
}

/// What is told first decides. Each order goes to its end as it began, whatever new ones do.
async fn decide(cx: &Cx, order_id: String, outcome: Outcome) -> Result<()> {
    let mut tx = cx.tx().await?;
    let flow = tables::flow(tx.conn(), &order_id).await?;
    drop(tx);
    match flow {
        None => Ok(()),
        Some(OrderFlow::Orchestration) => {
            cx.signal_saga((ORDER, &order_id), OUTCOME, &outcome).await
        }
        Some(OrderFlow::Choreography) => match outcome {
            Outcome::Paid => confirm(cx, order_id).await,
            Outcome::Failed(reason) => fail(cx, order_id, &reason).await,
        },
    }
}

/// Confirms an order and says so, once.
pub(super) async fn confirm(cx: &Cx, order_id: String) -> Result<()> {
    let now = cx.env().now();
    let mut tx = cx.tx().await?;
    if tables::end(tx.conn(), &order_id, Status::Confirmed, None, now).await? {
        tx.publish(OrderConfirmed { order_id }).await?;
    }
    Ok(())
}

/// Fails an order and says so, once.
pub(super) async fn fail(cx: &Cx, order_id: String, reason: &str) -> Result<()> {
    let now = cx.env().now();
    let mut tx = cx.tx().await?;
    if tables::end(tx.conn(), &order_id, Status::Failed, Some(reason), now).await? {
        let reason = reason.to_owned();
        tx.publish(OrderFailed { order_id, reason }).await?;
    }
    Ok(())
}
