//! Orders, and the receipts of their payments.

use trunkline::{Conn, Error, ErrorKind, Money, Result, sql};

use super::http::{Order, Receipt, Status};
use crate::events::PaymentProcessed;
use crate::limits;

/// Writes a new order. Says whether it is new: not yet placed, and not cancelled before it was.
pub(super) async fn insert(
    conn: &mut Conn,
    order: &Order,
    payment_id: Option<&str>,
) -> Result<bool> {
    let items = serde_json::to_string(&order.items)
        .map_err(|error| Error::internal("an order can't be written").with_source(error))?;
    let text = "INSERT INTO orders (order_id, user_id, shop_id, status, reason, items, \
                total_minor, payment_id, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                ON CONFLICT DO NOTHING";
    let inserted = sql(text)
        .bind(&order.order_id)
        .bind(&order.user_id)
        .bind(&order.shop_id)
        .bind(order.status.name())
        .bind(&order.reason)
        .bind(items)
        .bind(order.total_amount)
        .bind(payment_id)
        .bind(order.created_at)
        .run(conn)
        .await?;
    Ok(inserted == 1)
}

/// Cancels a confirmed order. Says whether it was confirmed.
pub(super) async fn cancel(conn: &mut Conn, order_id: &str, reason: &str) -> Result<bool> {
    let text = "UPDATE orders SET status = 'cancelled', reason = $1 \
                WHERE order_id = $2 AND status = 'confirmed'";
    Ok(sql(text).bind(reason).bind(order_id).run(conn).await? == 1)
}

/// The order that a payment pays.
pub(super) async fn paid_by(conn: &mut Conn, payment_id: &str) -> Result<Option<String>> {
    let text = "SELECT order_id FROM orders WHERE payment_id = $1";
    let row = sql(text).bind(payment_id).first::<(String,)>(conn).await?;
    Ok(row.map(|(order_id,)| order_id))
}

pub(super) async fn note_receipt(conn: &mut Conn, paid: &PaymentProcessed) -> Result<()> {
    let text = "INSERT INTO receipts (order_id, payment_id, amount_minor, gateway) \
                VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    sql(text)
        .bind(&paid.order_id)
        .bind(&paid.payment_id)
        .bind(paid.amount)
        .bind(&paid.gateway)
        .run(conn)
        .await?;
    Ok(())
}

type Row = (
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    i64,
    String,
);

pub(super) async fn find(conn: &mut Conn, order_id: &str) -> Result<Option<Order>> {
    let text = "SELECT order_id, user_id, shop_id, status, reason, items, total_minor, created_at \
                FROM orders WHERE order_id = $1";
    let Some(row) = sql(text).bind(order_id).first::<Row>(conn).await? else {
        return Ok(None);
    };
    let mut order = read(row)?;
    order.receipt = receipt(conn, order_id).await?;
    Ok(Some(order))
}

/// A user's orders, newest first, without their receipts.
pub(super) async fn of_user(conn: &mut Conn, user_id: &str) -> Result<Vec<Order>> {
    let text = "SELECT order_id, user_id, shop_id, status, reason, items, total_minor, created_at \
                FROM orders WHERE user_id = $1 ORDER BY created_at DESC LIMIT $2";
    let rows = sql(text)
        .bind(user_id)
        .bind(limits::PAGE_MAX)
        .all::<Row>(conn)
        .await?;
    rows.into_iter().map(read).collect()
}

async fn receipt(conn: &mut Conn, order_id: &str) -> Result<Option<Receipt>> {
    let text = "SELECT payment_id, amount_minor, gateway FROM receipts WHERE order_id = $1";
    let row = sql(text)
        .bind(order_id)
        .first::<(String, i64, String)>(conn)
        .await?;
    let receipt = row.map(|(payment_id, amount, gateway)| {
        let amount = Money::from_minor(amount)?;
        Ok(Receipt {
            payment_id,
            amount,
            gateway,
        })
    });
    receipt.transpose()
}

fn read(row: Row) -> Result<Order> {
    let (order_id, user_id, shop_id, status, reason, items, total, created_at) = row;
    Ok(Order {
        order_id,
        shop_id,
        user_id,
        status: match status.as_str() {
            "confirmed" => Status::Confirmed,
            _ => Status::Cancelled,
        },
        reason,
        items: serde_json::from_str(&items).map_err(corrupt)?,
        total_amount: Money::from_minor(total)?,
        receipt: None,
        created_at: created_at.parse().map_err(corrupt)?,
    })
}

fn corrupt(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let text = "an order can't be read back";
    Error::new(ErrorKind::Corrupt, "order_corrupt", text).with_source(error)
}
