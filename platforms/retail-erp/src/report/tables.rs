//! Sales and stock levels.

use trunkline::{Conn, Money, Result, Timestamp, sql};

use super::http::{SalesDay, StockRow};
use crate::events::{OrderCreated, StockUpdated};
use crate::limits;

/// The day of a moment, in UTC.
pub(super) fn day(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

pub(super) async fn count_sale(conn: &mut Conn, order: &OrderCreated, day: &str) -> Result<()> {
    let pieces: u64 = order
        .items
        .iter()
        .map(|item| u64::from(item.quantity))
        .sum();
    let text = "INSERT INTO sales (order_id, shop_id, day, pieces, total_minor) \
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    sql(text)
        .bind(&order.order_id)
        .bind(&order.shop_id)
        .bind(day)
        .bind(pieces)
        .bind(order.total_amount)
        .run(conn)
        .await?;
    Ok(())
}

pub(super) async fn count_return(conn: &mut Conn, order_id: &str) -> Result<()> {
    let text = "UPDATE sales SET returned = 1 WHERE order_id = $1";
    sql(text).bind(order_id).run(conn).await?;
    Ok(())
}

/// Events of one product come in their order, so the last one counts.
pub(super) async fn set_stock(conn: &mut Conn, told: &StockUpdated, at: Timestamp) -> Result<()> {
    let text = "INSERT INTO stock (shop_id, product_id, stock, updated_at) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (shop_id, product_id) DO UPDATE SET stock = excluded.stock, \
                updated_at = excluded.updated_at";
    sql(text)
        .bind(&told.shop_id)
        .bind(&told.product_id)
        .bind(told.new_stock)
        .bind(at)
        .run(conn)
        .await?;
    Ok(())
}

/// Sales of a shop, or of all, the newest day first.
pub(super) async fn sales(
    conn: &mut Conn,
    shop_id: &str,
    from: &str,
    to: &str,
) -> Result<Vec<SalesDay>> {
    let text = "SELECT shop_id, day, CAST(SUM(1 - returned) AS BIGINT), \
                CAST(SUM(pieces * (1 - returned)) AS BIGINT), \
                CAST(SUM(total_minor * (1 - returned)) AS BIGINT), \
                CAST(SUM(returned) AS BIGINT) FROM sales \
                WHERE ($1 = '' OR shop_id = $1) AND day >= $2 AND day <= $3 \
                GROUP BY shop_id, day ORDER BY day DESC, shop_id LIMIT $4";
    let rows = sql(text)
        .bind(shop_id)
        .bind(from)
        .bind(to)
        .bind(limits::PAGE_MAX);
    type Row = (String, String, i64, i64, i64, i64);
    let days = rows.all::<Row>(conn).await?.into_iter().map(|row| {
        let (shop_id, day, orders, pieces, total, returned) = row;
        Ok(SalesDay {
            shop_id,
            day,
            orders: count(orders),
            pieces: count(pieces),
            total_amount: Money::from_minor(total)?,
            returned: count(returned),
        })
    });
    days.collect()
}

/// What lies in a shop, or in all.
pub(super) async fn stock(conn: &mut Conn, shop_id: &str) -> Result<Vec<StockRow>> {
    let text = "SELECT shop_id, product_id, stock, updated_at FROM stock \
                WHERE ($1 = '' OR shop_id = $1) ORDER BY shop_id, product_id LIMIT $2";
    let rows = sql(text).bind(shop_id).bind(limits::PAGE_MAX);
    let rows = rows
        .all::<(String, String, i64, String)>(conn)
        .await?
        .into_iter();
    let rows = rows.map(|(shop_id, product_id, stock, updated_at)| StockRow {
        shop_id,
        product_id,
        stock: count(stock),
        updated_at,
    });
    Ok(rows.collect())
}

fn count(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
