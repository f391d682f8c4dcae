//! What is held for orders.

use std::collections::BTreeMap;

use trunkline::{Conn, Cx, Error, Result, Timestamp, sql};

use super::Config;
use super::stock::{Cause, Change, Locked};
use crate::events::{Count, ExpireReservation, InventoryReserved};
use crate::limits;
use crate::proto::inventory::{Line, ReserveStockRequest};

/// How a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Its stock is held.
    Held,
    /// Its time is up; its stock is held until the order's fate is known.
    Expired,
    /// The order was confirmed, and its stock is gone.
    Taken,
    /// The order was cancelled, and its stock is free.
    Released,
    /// The order was given back, and its stock with it.
    Returned,
}

impl Status {
    const ALL: [Self; 5] = [
        Self::Held,
        Self::Expired,
        Self::Taken,
        Self::Released,
        Self::Returned,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Expired => "expired",
            Self::Taken => "taken",
            Self::Released => "released",
            Self::Returned => "returned",
        }
    }
}

/// A reservation as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) order_id: String,
    pub(super) shop_id: String,
    pub(super) status: Status,
    pub(super) expires_at: Timestamp,
    /// In the order of their products.
    pub(super) lines: Vec<Count>,
}

/// Holds stock for an order, all of it or nothing. The same order again is held once.
pub(super) async fn hold(cx: &Cx, wanted: ReserveStockRequest) -> Result<Timestamp> {
    limits::id("orderId", &wanted.order_id)?;
    let lines = merged(&wanted.lines)?;
    let config = cx.config::<Config>()?;
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    match lock(conn, &wanted.order_id).await? {
        Some(there) if matches!(there.status, Status::Held | Status::Taken) => {
            return Ok(there.expires_at);
        }
        Some(_) => {
            let text = "the order is cancelled: nothing is held for it any more";
            return Err(Error::conflict("reservation_released", text));
        }
        None => {}
    }
    let reservation = Stored {
        expires_at: cx.env().after(config.reservation()),
        order_id: wanted.order_id,
        shop_id: wanted.shop_id,
        status: Status::Held,
        lines,
    };
    insert(conn, &reservation).await?;
    let Stored {
        order_id,
        shop_id,
        expires_at,
        lines,
        ..
    } = reservation;
    for Count {
        product_id,
        quantity,
    } in lines
    {
        let stock = Locked::lock(conn, &shop_id, &product_id).await?;
        let mut stock = stock.ok_or_else(|| limits::unknown("stock", &product_id))?;
        if stock.level.available() < quantity {
            let text = "there are not enough pieces";
            return Err(Error::conflict("stock_insufficient", text)
                .with("productId", &product_id)
                .with("wanted", quantity)
                .with("available", stock.level.available()));
        }
        stock.level.reserved += quantity;
        let change = Change {
            cause: Cause::Sold,
            at: cx.now(),
            order_id: Some(&order_id),
        };
        stock.save(cx, conn, change).await?;
        cx.publish(InventoryReserved {
            order_id: order_id.clone(),
            shop_id: shop_id.clone(),
            product_id,
            quantity,
        })
        .await?;
    }
    cx.publish_in(config.reservation(), ExpireReservation { order_id })
        .await?;
    Ok(expires_at)
}

/// Gives free what is held for an order. Nothing will be held for it later either.
pub(super) async fn release(cx: &Cx, order_id: &str) -> Result<()> {
    limits::id("orderId", order_id)?;
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    let Some(reservation) = lock(conn, order_id).await? else {
        let tombstone = Stored {
            order_id: order_id.to_owned(),
            shop_id: String::new(),
            status: Status::Released,
            expires_at: cx.now(),
            lines: Vec::new(),
        };
        return insert(conn, &tombstone).await;
    };
    if matches!(reservation.status, Status::Held | Status::Expired) {
        for Count {
            product_id,
            quantity,
        } in &reservation.lines
        {
            let Some(mut stock) = Locked::lock(conn, &reservation.shop_id, product_id).await?
            else {
                continue;
            };
            stock.level.reserved = stock.level.reserved.saturating_sub(*quantity);
            let change = Change {
                cause: Cause::Returned,
                at: cx.now(),
                order_id: Some(order_id),
            };
            stock.save(cx, conn, change).await?;
        }
        set_status(conn, order_id, Status::Released).await?;
    }
    Ok(())
}

/// The pieces wanted of each product, in the order in which stock is locked.
fn merged(lines: &[Line]) -> Result<Vec<Count>> {
    limits::lines(lines.len())?;
    let mut wanted = BTreeMap::<&str, u32>::new();
    for line in lines {
        limits::quantity(line.quantity)?;
        // A hundred lines of a thousand pieces fit.
        *wanted.entry(&line.product_id).or_default() += line.quantity;
    }
    let counts = wanted.into_iter().map(|(product_id, quantity)| Count {
        product_id: product_id.to_owned(),
        quantity,
    });
    Ok(counts.collect())
}

async fn insert(conn: &mut Conn, reservation: &Stored) -> Result<()> {
    let text = "INSERT INTO reservations (order_id, shop_id, status, expires_at) \
                VALUES ($1, $2, $3, $4)";
    sql(text)
        .bind(&reservation.order_id)
        .bind(&reservation.shop_id)
        .bind(reservation.status.name())
        .bind(reservation.expires_at)
        .run(conn)
        .await?;
    for line in &reservation.lines {
        let text = "INSERT INTO reservation_lines (order_id, product_id, quantity) \
                    VALUES ($1, $2, $3)";
        let line = sql(text)
            .bind(&reservation.order_id)
            .bind(&line.product_id)
            .bind(line.quantity);
        line.run(conn).await?;
    }
    Ok(())
}

/// An order's reservation, locked until the transaction ends.
pub(super) async fn lock(conn: &mut Conn, order_id: &str) -> Result<Option<Stored>> {
    let text = "UPDATE reservations SET status = status WHERE order_id = $1 \
                RETURNING shop_id, status, expires_at";
    let row = sql(text)
        .bind(order_id)
        .first::<(String, String, String)>(conn)
        .await?;
    let Some((shop_id, status, expires_at)) = row else {
        return Ok(None);
    };
    let text = "SELECT product_id, quantity FROM reservation_lines WHERE order_id = $1 \
                ORDER BY product_id";
    let lines = sql(text).bind(order_id).all::<(String, i64)>(conn).await?;
    let lines = lines.into_iter().map(|(product_id, quantity)| Count {
        product_id,
        quantity: u32::try_from(quantity).unwrap_or_default(),
    });
    let status = Status::ALL.into_iter().find(|known| known.name() == status);
    Ok(Some(Stored {
        order_id: order_id.to_owned(),
        shop_id,
        status: status.unwrap_or(Status::Released),
        expires_at: expires_at.parse().unwrap_or(Timestamp::MAX),
        lines: lines.collect(),
    }))
}

pub(super) async fn set_status(conn: &mut Conn, order_id: &str, status: Status) -> Result<()> {
    let text = "UPDATE reservations SET status = $1 WHERE order_id = $2";
    sql(text)
        .bind(status.name())
        .bind(order_id)
        .run(conn)
        .await?;
    Ok(())
}
