//! Orders and their lines.

use trunkline::{Conn, Error, Result, Timestamp, sql};

use super::OrderFlow;
use super::http::{Order, OrderLine, Status};
use crate::Money;

/// Takes the next number of the year: `ORD-2024-00001`.
pub(super) async fn next_number(conn: &mut Conn, now: Timestamp) -> Result<String> {
    let year = now.to_zoned(jiff::tz::TimeZone::UTC).year();
    let text = "INSERT INTO order_numbers (year, last) VALUES ($1, 1) \
                ON CONFLICT (year) DO UPDATE SET last = order_numbers.last + 1 RETURNING last";
    let (number,) = sql(text).bind(i64::from(year)).one::<(i64,)>(conn).await?;
    Ok(format!("ORD-{year}-{number:05}"))
}

pub(super) async fn insert(
    conn: &mut Conn,
    order: &Order,
    (user_id, flow): (&str, OrderFlow),
) -> Result<()> {
    let address = serde_json::to_string(&order.shipping_address)
        .map_err(|error| Error::internal("an address can't be written").with_source(error))?;
    let text = "INSERT INTO orders (order_id, order_number, user_id, status, total_minor, currency, \
                shipping_address, created_at, updated_at, flow) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)";
    sql(text)
        .bind(&order.order_id)
        .bind(&order.order_number)
        .bind(user_id)
        .bind(order.status.name())
        .bind(order.total)
        .bind(&order.currency)
        .bind(address)
        .bind(order.created_at)
        .bind(flow.name())
        .run(conn)
        .await?;
    for (place, line) in (0_i64..).zip(&order.items) {
        let text = "INSERT INTO order_lines \
                    (order_id, place, product_id, variant_id, name, quantity, price_minor) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7)";
        sql(text)
            .bind(&order.order_id)
            .bind(place)
            .bind(&line.product_id)
            .bind(&line.variant_id)
            .bind(&line.name)
            .bind(line.quantity)
            .bind(line.price)
            .run(conn)
            .await?;
    }
    Ok(())
}

/// Marks an order that never came to be, so that it can't come to be later either. Says whether it
/// was new.
pub(super) async fn abandon(conn: &mut Conn, order_id: &str, now: Timestamp) -> Result<bool> {
    let text = "INSERT INTO orders (order_id, order_number, user_id, status, total_minor, currency, \
                shipping_address, created_at, updated_at) \
                VALUES ($1, '', '', 'abandoned', 0, '', '', $2, $2) ON CONFLICT DO NOTHING";
    let inserted = sql(text).bind(order_id).bind(now).run(conn).await?;
    Ok(inserted == 1)
}

/// How a pending order comes to its end; none if it is not pending.
pub(super) async fn flow(conn: &mut Conn, order_id: &str) -> Result<Option<OrderFlow>> {
    let text = "SELECT flow FROM orders WHERE order_id = $1 AND status = 'pending'";
    let row = sql(text).bind(order_id).first::<(String,)>(conn).await?;
    Ok(row.map(|(name,)| OrderFlow::named(&name)))
}

pub(super) async fn is_confirmed(conn: &mut Conn, order_id: &str) -> Result<bool> {
    let text = "SELECT status FROM orders WHERE order_id = $1";
    let row = sql(text).bind(order_id).first::<(String,)>(conn).await?;
    Ok(row.is_some_and(|(status,)| Status::named(&status) == Status::Confirmed))
}

/// Ends a pending order. Says whether it was pending.
pub(super) async fn end(
    conn: &mut Conn,
    order_id: &str,
    status: Status,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool> {
    let text = "UPDATE orders SET status = $1, reason = $2, updated_at = $3 \
                WHERE order_id = $4 AND status = 'pending'";
    let ended = sql(text)
        .bind(status.name())
        .bind(reason)
        .bind(now)
        .bind(order_id)
        .run(conn)
        .await?;
    Ok(ended == 1)
}

type OrderRow = (
    String,
    String,
    String,
    Option<String>,
    i64,
    String,
    String,
    String,
    String,
);

pub(super) async fn find(conn: &mut Conn, order_id: &str, user_id: &str) -> Result<Order> {
    let text = "SELECT order_id, order_number, status, reason, total_minor, currency, \
                shipping_address, created_at, updated_at FROM orders \
                WHERE order_id = $1 AND user_id = $2";
    let row = sql(text).bind(order_id).bind(user_id);
    let row = row.first::<OrderRow>(conn).await?.ok_or_else(|| {
        Error::not_found("order_unknown", "there is no such order").with("order_id", order_id)
    })?;
    with_lines(conn, row).await
}

/// A user's orders, newest first, before a place.
pub(super) async fn page(
    conn: &mut Conn,
    user_id: &str,
    before: Option<String>,
    limit: u32,
) -> Result<Vec<Order>> {
    let text = "SELECT order_id, order_number, status, reason, total_minor, currency, \
                shipping_address, created_at, updated_at FROM orders \
                WHERE user_id = $1 AND ($2 = '' OR order_id < $2) ORDER BY order_id DESC LIMIT $3";
    let rows = sql(text)
        .bind(user_id)
        .bind(before.unwrap_or_default())
        .bind(limit)
        .all::<OrderRow>(conn)
        .await?;
    let mut orders = Vec::with_capacity(rows.len());
    for row in rows {
        orders.push(with_lines(conn, row).await?);
    }
    Ok(orders)
}

async fn with_lines(conn: &mut Conn, row: OrderRow) -> Result<Order> {
    let (order_id, order_number, status, reason, total, currency, address, created, updated) = row;
    let text = "SELECT product_id, variant_id, name, quantity, price_minor FROM order_lines \
                WHERE order_id = $1 ORDER BY place";
    let rows = sql(text)
        .bind(&order_id)
        .all::<(String, Option<String>, String, i64, i64)>(conn)
        .await?;
    let lines = rows
        .into_iter()
        .map(|(product_id, variant_id, name, quantity, price)| {
            let quantity = u32::try_from(quantity).unwrap_or_default();
            let price = Money::from_minor(price)?;
            Ok(OrderLine {
                product_id,
                variant_id,
                name,
                quantity,
                price,
            })
        });
    Ok(Order {
        items: lines.collect::<Result<_>>()?,
        order_id,
        order_number,
        status: Status::named(&status),
        reason,
        total: Money::from_minor(total)?,
        currency,
        shipping_address: serde_json::from_str(&address).map_err(corrupt)?,
        created_at: created.parse().map_err(corrupt)?,
        updated_at: updated.parse().map_err(corrupt)?,
    })
}

fn corrupt(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let text = "an order can't be read back";
    Error::new(trunkline::ErrorKind::Corrupt, "order_corrupt", text).with_source(error)
}
