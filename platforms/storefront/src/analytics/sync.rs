//! Counting. A day is the day on which an event happened, not the one on which it was counted.

use trunkline::{Cx, Event, Result};

use super::http::counter;
use super::tables;
use crate::events::{CartItemAdded, OrderConfirmed, OrderCreated, OrderFailed, PaymentSuccess};

pub(super) async fn cart_item_added(cx: Cx, event: Event<CartItemAdded>) -> Result<()> {
    let mut tx = cx.tx().await?;
    let day = tables::day(event.envelope.time);
    let pieces = i64::from(event.data.quantity);
    tables::count(tx.conn(), &day, counter::CART_PIECES, pieces).await
}

pub(super) async fn order_created(cx: Cx, event: Event<OrderCreated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    let day = tables::day(event.envelope.time);
    tables::keep_order(tx.conn(), &event.data).await?;
    tables::count(tx.conn(), &day, counter::CREATED, 1).await
}

pub(super) async fn payment_success(cx: Cx, event: Event<PaymentSuccess>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::count(
        tx.conn(),
        &tables::day(event.envelope.time),
        counter::PAID,
        1,
    )
    .await
}

pub(super) async fn order_confirmed(cx: Cx, event: Event<OrderConfirmed>) -> Result<()> {
    let mut tx = cx.tx().await?;
    let day = tables::day(event.envelope.time);
    let order = tables::take_order(tx.conn(), &event.data.order_id).await?;
    let Some((total, items)) = order else {
        return Ok(());
    };
    for item in &items {
        tables::sell(tx.conn(), &day, item).await?;
    }
    tables::count(tx.conn(), &day, counter::REVENUE_MINOR, total.minor()).await?;
    tables::count(tx.conn(), &day, counter::CONFIRMED, 1).await
}

/// An order that was given up before it existed was not counted before and is not counted now.
pub(super) async fn order_failed(cx: Cx, event: Event<OrderFailed>) -> Result<()> {
    let mut tx = cx.tx().await?;
    let day = tables::day(event.envelope.time);
    if tables::take_order(tx.conn(), &event.data.order_id)
        .await?
        .is_some()
    {
        tables::count(tx.conn(), &day, counter::FAILED, 1).await?;
    }
    Ok(())
}
