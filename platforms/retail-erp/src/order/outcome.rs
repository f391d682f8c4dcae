//! What becomes of orders.

use trunkline::{Cx, Error, Event, Json, Money, Path, Result};

use super::http::{Order, Status, visible};
use super::tables;
use crate::events::{OrderCancelled, PaymentProcessed, RefundProcessed, ReservationExpired};
use crate::payment;

const REFUNDED: &str = "refunded";

/// Gives a confirmed order back: its money now, its stock by the event.
pub(super) async fn refund(cx: Cx, Path(order_id): Path<String>) -> Result<Json<Order>> {
    let mut order = visible(&cx, &order_id).await?;
    match (order.status, order.reason.as_deref()) {
        (Status::Confirmed, _) => {}
        (Status::Cancelled, Some(REFUNDED)) => return Ok(Json(order)),
        (Status::Cancelled, _) => {
            let text = "the order was cancelled before, and nothing was paid for it";
            return Err(Error::conflict("order_not_confirmed", text));
        }
    }
    payment::refund(&cx, &order_id).await?;
    cancel(&cx, order_id).await?;
    order.status = Status::Cancelled;
    order.reason = Some(REFUNDED.to_owned());
    Ok(Json(order))
}

/// A payment was made: the order has its receipt.
pub(super) async fn payment_processed(cx: Cx, event: Event<PaymentProcessed>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::note_receipt(tx.conn(), &event.data).await
}

/// A payment was given back: so is its order, also when the request for that died.
pub(super) async fn refund_processed(cx: Cx, event: Event<RefundProcessed>) -> Result<()> {
    let order_id = {
        let mut tx = cx.tx().await?;
        tables::paid_by(tx.conn(), &event.data.payment_id).await?
    };
    match order_id {
        Some(order_id) => cancel(&cx, order_id).await,
        None => Ok(()),
    }
}

async fn cancel(cx: &Cx, order_id: String) -> Result<()> {
    let mut tx = cx.tx().await?;
    if tables::cancel(tx.conn(), &order_id, REFUNDED).await? {
        let reason = REFUNDED.to_owned();
        tx.publish(OrderCancelled { order_id, reason }).await?;
    }
    Ok(())
}

/// Nobody placed in time the order that stock is held for: it can't be placed any more.
pub(super) async fn reservation_expired(cx: Cx, event: Event<ReservationExpired>) -> Result<()> {
    let ReservationExpired { order_id, shop_id } = event.data;
    let reason = "reservation_expired".to_owned();
    let never = Order {
        order_id,
        shop_id,
        user_id: event.envelope.user_id.map(String::from).unwrap_or_default(),
        status: Status::Cancelled,
        reason: Some(reason.clone()),
        items: Vec::new(),
        total_amount: Money::ZERO,
        receipt: None,
        created_at: cx.now(),
    };
    let mut tx = cx.tx().await?;
    if tables::insert(tx.conn(), &never, None).await? {
        let order_id = never.order_id;
        tx.publish(OrderCancelled { order_id, reason }).await?;
    }
    Ok(())
}
