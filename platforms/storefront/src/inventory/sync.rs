//! What the fate of an order does to its stock.

use trunkline::{Cx, Event, Result};

use super::reservations::{self, Status, Stored};
use super::stock::{self, Change, Locked};
use crate::events::{
    ExpireReservation, InventoryReleased, OrderConfirmed, OrderFailed, ReservationExpired,
};

/// The order is confirmed: its stock leaves the warehouse.
pub(super) async fn finalise(cx: Cx, event: Event<OrderConfirmed>) -> Result<()> {
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    let reservation = reservations::lock(conn, &event.data.order_id).await?;
    let Some(reservation) = reservation.filter(|found| found.status.holds_stock()) else {
        tracing::error!(
            order_id = event.data.order_id,
            "a confirmed order has no stock held"
        );
        return Ok(());
    };
    for line in &reservation.lines {
        stock::apply(conn, Change::Take, line).await?;
    }
    reservations::set_status(conn, &event.data.order_id, Status::Finalised).await
}

/// The order failed: its stock is free again.
pub(super) async fn release(cx: Cx, event: Event<OrderFailed>) -> Result<()> {
    free(&cx, &event.data.order_id).await.map(drop)
}

/// Gives an order's stock free, if it is still held, and says so; the order's reservation. Where there is none yet it
/// leaves one that is released: who reserves after that comes too late.
pub(super) async fn free(cx: &Cx, order_id: &str) -> Result<Stored> {
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    let Some(mut reservation) = reservations::lock(conn, order_id).await? else {
        let never = Stored {
            reservation_id: cx.env().id().to_string(),
            order_id: order_id.to_owned(),
            status: Status::Released,
            expires_at: cx.env().now(),
            lines: Vec::new(),
        };
        reservations::insert(conn, &never).await?;
        return Ok(never);
    };
    if !reservation.status.holds_stock() {
        return Ok(reservation);
    }
    // Lines come in the order of product ids, as every change locks them.
    for lines in reservation
        .lines
        .chunk_by(|a, b| a.product_id == b.product_id)
    {
        let Some(first) = lines.first() else { continue };
        let product = Locked::lock(conn, &first.product_id).await?;
        for line in lines {
            stock::apply(conn, Change::Free, line).await?;
        }
        product.announce(cx, conn).await?;
    }
    reservations::set_status(conn, order_id, Status::Released).await?;
    reservation.status = Status::Released;
    tx.publish(InventoryReleased {
        reservation_id: reservation.reservation_id.clone(),
        order_id: reservation.order_id.clone(),
        reservations: reservation.lines.clone(),
    })
    .await?;
    Ok(reservation)
}

/// A reservation's time is up.
pub(super) async fn expire(cx: Cx, event: Event<ExpireReservation>) -> Result<()> {
    let ExpireReservation {
        reservation_id,
        order_id,
    } = event.data;
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    let reservation = reservations::lock(conn, &order_id).await?;
    if reservation.is_none_or(|found| found.status != Status::Held) {
        return Ok(());
    }
    reservations::set_status(conn, &order_id, Status::Expired).await?;
    tx.publish(ReservationExpired {
        reservation_id,
        order_id,
    })
    .await
}
