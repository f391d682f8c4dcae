//! Looking at stock, and holding it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Created, Cx, Error, Json, Path, Result, Timestamp};

use super::reservations::{self, Status, Stored};
use super::stock::{self, Change, Locked};
use super::{Config, sync};
use crate::events::{ExpireReservation, InventoryReserved, ReservationLine};
use crate::limits;

/// What there is of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Availability {
    /// The product.
    pub product_id: String,
    /// Pieces in the warehouses.
    pub on_hand: u32,
    /// Pieces of them held for orders.
    pub reserved: u32,
    /// Pieces that can be ordered.
    pub available: u32,
}

/// What to hold for an order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// The order that it is for; an order has one reservation.
    pub order_id: String,
    /// What to hold, all or nothing.
    pub items: Vec<ReserveItem>,
}

/// One product to hold.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveItem {
    /// The product.
    pub product_id: String,
    /// How many.
    pub quantity: u32,
}

/// A reservation of an order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Reservation {
    /// The reservation.
    pub reservation_id: String,
    /// The order that it is for.
    pub order_id: String,
    /// `held`, `expired` (held until the order's fate is known), `finalised` or `released`.
    pub status: String,
    /// What is or was held, and where.
    pub reservations: Vec<ReservationLine>,
    /// When it ends unless the order is confirmed.
    #[schemars(with = "String")]
    pub expires_at: Timestamp,
}

pub(super) async fn availability(
    cx: Cx,
    Path(product_id): Path<String>,
) -> Result<Json<Availability>> {
    let mut reader = cx.read().await?;
    let level = stock::level(reader.conn(), &product_id).await?;
    let level = level.ok_or_else(|| stock::unknown(&product_id))?;
    Ok(Json(Availability {
        product_id,
        on_hand: level.on_hand,
        reserved: level.reserved,
        available: level.available(),
    }))
}

/// Holds stock for an order, all or nothing. A second request for the order finds the first's.
pub(super) async fn reserve(cx: Cx, Json(wanted): Json<Reserve>) -> Result<Created<Reservation>> {
    let items = merged(&wanted.items)?;
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    if let Some(there) = reservations::of_order(conn, &wanted.order_id).await? {
        return match there.status {
            Status::Released => Err(released(&there)),
            _ => Ok(created(there)),
        };
    }
    let config = cx.config::<Config>()?;
    let mut reservation = Stored {
        reservation_id: cx.env().id().to_string(),
        order_id: wanted.order_id,
        status: Status::Held,
        expires_at: cx.env().after(config.reservation()),
        lines: Vec::new(),
    };
    let mut locked = Vec::new();
    for (product_id, quantity) in items {
        let product = Locked::lock(conn, &product_id).await?;
        let lines = product.pick(conn, quantity).await?;
        for line in &lines {
            stock::apply(conn, Change::Hold, line).await?;
        }
        reservation.lines.extend(lines);
        locked.push(product);
    }
    reservations::insert(conn, &reservation).await?;
    for product in locked {
        product.announce(&cx, conn).await?;
    }
    announce(&cx, &reservation, &config).await?;
    Ok(created(reservation))
}

async fn announce(cx: &Cx, reservation: &Stored, config: &Config) -> Result<()> {
    cx.publish(InventoryReserved {
        reservation_id: reservation.reservation_id.clone(),
        order_id: reservation.order_id.clone(),
        reservations: reservation.lines.clone(),
        expires_at: reservation.expires_at,
    })
    .await?;
    let expire = ExpireReservation {
        reservation_id: reservation.reservation_id.clone(),
        order_id: reservation.order_id.clone(),
    };
    cx.publish_in(config.reservation(), expire).await
}

/// The pieces wanted of each product, in the order of their ids: the order in which they are locked.
fn merged(items: &[ReserveItem]) -> Result<BTreeMap<String, u32>> {
    limits::lines(items.len())?;
    let mut wanted = BTreeMap::<String, u32>::new();
    for item in items {
        limits::quantity(item.quantity)?;
        let sum = wanted.entry(item.product_id.clone()).or_default();
        *sum = sum.checked_add(item.quantity).ok_or_else(|| {
            Error::invalid(
                "quantity_out_of_range",
                "the quantities are too large together",
            )
        })?;
    }
    Ok(wanted)
}

/// Gives the stock of an order free, once. What has left the warehouse stays gone.
pub(super) async fn release(cx: Cx, Path(order_id): Path<String>) -> Result<Json<Reservation>> {
    let reservation = sync::free(&cx, &order_id).await?;
    Ok(Json(shown(reservation)))
}

fn released(reservation: &Stored) -> Error {
    let text = "the stock of this order was given free again";
    Error::conflict("reservation_released", text).with("order_id", &reservation.order_id)
}

fn created(reservation: Stored) -> Created<Reservation> {
    let location = format!("/internal/reservations/{}", reservation.order_id);
    Created::at(location, shown(reservation))
}

fn shown(reservation: Stored) -> Reservation {
    Reservation {
        reservation_id: reservation.reservation_id,
        order_id: reservation.order_id,
        status: reservation.status.name().to_owned(),
        reservations: reservation.lines,
        expires_at: reservation.expires_at,
    }
}
