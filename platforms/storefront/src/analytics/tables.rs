//! Counters and sales.

use trunkline::{Conn, Error, ErrorKind, Result, Timestamp, sql};

use super::http::Seller;
use crate::Money;
use crate::events::{OrderCreated, OrderItem};

/// The day of a moment, in UTC.
pub(super) fn day(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

pub(super) async fn count(conn: &mut Conn, day: &str, name: &str, by: i64) -> Result<()> {
    let text = "INSERT INTO counters (day, name, value) VALUES ($1, $2, $3) \
                ON CONFLICT (day, name) DO UPDATE SET value = counters.value + excluded.value";
    sql(text).bind(day).bind(name).bind(by).run(conn).await?;
    Ok(())
}

/// Every counter of the days from one to another, by day.
pub(super) async fn counters(
    conn: &mut Conn,
    from: &str,
    to: &str,
) -> Result<Vec<(String, String, i64)>> {
    let text = "SELECT day, name, value FROM counters WHERE day >= $1 AND day <= $2 \
                ORDER BY day DESC, name";
    sql(text).bind(from).bind(to).all(conn).await
}

pub(super) async fn keep_order(conn: &mut Conn, order: &OrderCreated) -> Result<()> {
    let items = serde_json::to_string(&order.items)
        .map_err(|error| Error::internal("an order can't be written").with_source(error))?;
    let text = "INSERT INTO pending_orders (order_id, total_minor, items) VALUES ($1, $2, $3)";
    sql(text)
        .bind(&order.order_id)
        .bind(order.total)
        .bind(items)
        .run(conn)
        .await?;
    Ok(())
}

/// What was ordered, which is then forgotten.
pub(super) async fn take_order(
    conn: &mut Conn,
    order_id: &str,
) -> Result<Option<(Money, Vec<OrderItem>)>> {
    let text = "DELETE FROM pending_orders WHERE order_id = $1 RETURNING total_minor, items";
    let row = sql(text)
        .bind(order_id)
        .first::<(i64, String)>(conn)
        .await?;
    let Some((total, items)) = row else {
        return Ok(None);
    };
    let items = serde_json::from_str(&items).map_err(|error| {
        Error::new(
            ErrorKind::Corrupt,
            "order_corrupt",
            "an order can't be read back",
        )
        .with("order_id", order_id)
        .with_source(error)
    })?;
    Ok(Some((Money::from_minor(total)?, items)))
}

pub(super) async fn sell(conn: &mut Conn, day: &str, item: &OrderItem) -> Result<()> {
    let text = "INSERT INTO sales (day, product_id, quantity, revenue_minor) \
                VALUES ($1, $2, $3, $4) ON CONFLICT (day, product_id) DO UPDATE SET \
                quantity = sales.quantity + excluded.quantity, \
                revenue_minor = sales.revenue_minor + excluded.revenue_minor";
    sql(text)
        .bind(day)
        .bind(&item.product_id)
        .bind(item.quantity)
        .bind(item.price.times(item.quantity)?)
        .run(conn)
        .await?;
    Ok(())
}

/// The products that sold best, by pieces.
pub(super) async fn top(conn: &mut Conn, from: &str, to: &str, limit: u32) -> Result<Vec<Seller>> {
    let text = "SELECT product_id, CAST(SUM(quantity) AS BIGINT) AS pieces, \
                CAST(SUM(revenue_minor) AS BIGINT) FROM sales WHERE day >= $1 AND day <= $2 \
                GROUP BY product_id ORDER BY pieces DESC, product_id LIMIT $3";
    let rows = sql(text)
        .bind(from)
        .bind(to)
        .bind(limit)
        .all::<(String, i64, i64)>(conn)
        .await?;
    let sellers = rows.into_iter().map(|(product_id, quantity, revenue)| {
        let quantity = u64::try_from(quantity).unwrap_or_default();
        Ok(Seller {
            product_id,
            quantity,
            revenue: Money::from_minor(revenue)?,
        })
    });
    sellers.collect()
}
