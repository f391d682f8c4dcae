//! Reservations and their lines.

use trunkline::{Conn, Result, Timestamp, sql};

use crate::events::ReservationLine;

/// A reservation as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) reservation_id: String,
    pub(super) order_id: String,
    pub(super) status: Status,
    pub(super) expires_at: Timestamp,
    pub(super) lines: Vec<ReservationLine>,
}

/// How a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Its stock is held.
    Held,
    /// Its time is up; its stock is held until the order's fate is known.
    Expired,
    /// Its order was confirmed and the stock is gone.
    Finalised,
    /// Its order failed and the stock is free.
    Released,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Expired => "expired",
            Self::Finalised => "finalised",
            Self::Released => "released",
        }
    }

    /// Whether its stock is still held.
    pub(super) fn holds_stock(self) -> bool {
        matches!(self, Self::Held | Self::Expired)
    }
}

pub(super) async fn insert(conn: &mut Conn, reservation: &Stored) -> Result<()> {
    let text = "INSERT INTO reservations (reservation_id, order_id, status, expires_at) \
                VALUES ($1, $2, $3, $4)";
    sql(text)
        .bind(&reservation.reservation_id)
        .bind(&reservation.order_id)
        .bind(reservation.status.name())
        .bind(reservation.expires_at)
        .run(conn)
        .await?;
    for line in &reservation.lines {
        let text = "INSERT INTO reservation_lines \
                    (reservation_id, product_id, warehouse_id, quantity) VALUES ($1, $2, $3, $4)";
        sql(text)
            .bind(&reservation.reservation_id)
            .bind(&line.product_id)
            .bind(&line.warehouse_id)
            .bind(line.quantity)
            .run(conn)
            .await?;
    }
    Ok(())
}

pub(super) async fn of_order(conn: &mut Conn, order_id: &str) -> Result<Option<Stored>> {
    let text = "SELECT reservation_id, status, expires_at FROM reservations WHERE order_id = $1";
    let row = sql(text)
        .bind(order_id)
        .first::<(String, String, String)>(conn)
        .await?;
    let Some((reservation_id, status, expires_at)) = row else {
        return Ok(None);
    };
    let text = "SELECT product_id, warehouse_id, quantity FROM reservation_lines \
                WHERE reservation_id = $1 ORDER BY product_id, warehouse_id";
    let lines = sql(text)
        .bind(&reservation_id)
        .all::<(String, String, i64)>(conn)
        .await?;
    let lines = lines
        .into_iter()
        .map(|(product_id, warehouse_id, quantity)| {
            let quantity = u32::try_from(quantity).unwrap_or_default();
            ReservationLine {
                product_id,
                quantity,
                warehouse_id,
            }
        });
    let status = match status.as_str() {
        "held" => Status::Held,
        "expired" => Status::Expired,
        "finalised" => Status::Finalised,
        _ => Status::Released,
    };
    Ok(Some(Stored {
        reservation_id,
        order_id: order_id.to_owned(),
        status,
        expires_at: expires_at.parse().unwrap_or(Timestamp::MAX),
        lines: lines.collect(),
    }))
}

/// The same, locked until the transaction ends.
pub(super) async fn lock(conn: &mut Conn, order_id: &str) -> Result<Option<Stored>> {
    let text = "UPDATE reservations SET status = status WHERE order_id = $1";
    sql(text).bind(order_id).run(conn).await?;
    of_order(conn, order_id).await
}

pub(super) async fn set_status(conn: &mut Conn, order_id: &str, status: Status) -> Result<()> {
    sql("UPDATE reservations SET status = $1 WHERE order_id = $2")
        .bind(status.name())
        .bind(order_id)
        .run(conn)
        .await?;
    Ok(())
}
