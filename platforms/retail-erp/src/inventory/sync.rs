//! What orders and devices do to the stock.

use trunkline::{Cx, Event, Result};

use super::reservations::{self, Status};
use super::stock::{self, Cause, Change, Locked};
use crate::events::{
    Count, DeviceDataReceived, DeviceStatusUpdated, ExpireReservation, OrderCancelled,
    OrderConfirmed, OrderCreated, ReservationExpired,
};
use crate::iot;

/// An order was placed: the stock's history tells so.
pub(super) async fn order_created(cx: Cx, event: Event<OrderCreated>) -> Result<()> {
    let order = event.data;
    let mut tx = cx.tx().await?;
    let change = Change {
        cause: Cause::Sold,
        at: event.envelope.time,
        order_id: Some(&order.order_id),
    };
    for item in order.items {
        let line = Count {
            product_id: item.product_id,
            quantity: item.quantity,
        };
        stock::note_ordered(tx.conn(), &order.shop_id, &line, change).await?;
    }
    Ok(())
}

/// The order is good: its stock leaves the shop.
pub(super) async fn order_confirmed(cx: Cx, event: Event<OrderConfirmed>) -> Result<()> {
    let order_id = &event.data.order_id;
    let change = Change {
        cause: Cause::Sold,
        at: event.envelope.time,
        order_id: Some(order_id),
    };
    move_pieces(&cx, order_id, change).await
}

/// The order came to nothing or was given back: so is its stock.
pub(super) async fn order_cancelled(cx: Cx, event: Event<OrderCancelled>) -> Result<()> {
    let order_id = &event.data.order_id;
    reservations::release(&cx, order_id).await?;
    let change = Change {
        cause: Cause::Returned,
        at: event.envelope.time,
        order_id: Some(order_id),
    };
    move_pieces(&cx, order_id, change).await
}

/// Moves the pieces of a reservation out of the shop, or back into it; once.
async fn move_pieces(cx: &Cx, order_id: &str, change: Change<'_>) -> Result<()> {
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    let Some(reservation) = reservations::lock(conn, order_id).await? else {
        return Ok(());
    };
    let becomes = match (reservation.status, change.cause) {
        (Status::Held | Status::Expired, Cause::Sold) => Status::Taken,
        (Status::Taken, Cause::Returned) => Status::Returned,
        _ => return Ok(()),
    };
    for Count {
        product_id,
        quantity,
    } in &reservation.lines
    {
        let Some(mut stock) = Locked::lock(conn, &reservation.shop_id, product_id).await? else {
            continue;
        };
        if becomes == Status::Taken {
            stock.take(*quantity, change.at);
        } else {
            stock.put_back(conn, *quantity, change.order_id).await?;
        }
        stock.save(cx, conn, change).await?;
    }
    reservations::set_status(conn, order_id, becomes).await
}

/// A reservation's time is up.
pub(super) async fn expire(cx: Cx, event: Event<ExpireReservation>) -> Result<()> {
    let order_id = event.data.order_id;
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    let reservation = reservations::lock(conn, &order_id).await?;
    let Some(held) = reservation.filter(|found| found.status == Status::Held) else {
        return Ok(());
    };
    reservations::set_status(conn, &order_id, Status::Expired).await?;
    let shop_id = held.shop_id;
    tx.publish(ReservationExpired { order_id, shop_id }).await
}

/// A device told how it is, and what lies in it.
pub(super) async fn device_status_updated(cx: Cx, event: Event<DeviceStatusUpdated>) -> Result<()> {
    let told = event.data;
    stock::count(&cx, &told.shop_id, &told.stock, event.envelope.time).await
}

/// A device measured something; what lies in it concerns us.
pub(super) async fn device_data_received(cx: Cx, event: Event<DeviceDataReceived>) -> Result<()> {
    let told = event.data;
    if told.data_type != iot::STOCK_UPDATE {
        return Ok(());
    }
    match serde_json::from_value::<iot::StockData>(told.data) {
        Ok(data) => stock::count(&cx, &told.shop_id, &data.stock, event.envelope.time).await,
        Err(error) => {
            // Its next count may be right: it is not to wait behind this one.
            tracing::warn!(device_id = told.device_id, %error, "a device's count can't be read");
            Ok(())
        }
    }
}
