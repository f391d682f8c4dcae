//! Stock per shop and product, and its history.

use trunkline::{Conn, Cx, Result, Timestamp, sql};

use super::Config;
use crate::events::{Count, LowStockAlert, StockUpdated};
use crate::{demo, limits};

const DAY_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// Why stock changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Sold,
    Returned,
    Delivered,
    Set,
    Counted,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Sold => "sold",
            Self::Returned => "returned",
            Self::Delivered => "delivered",
            Self::Set => "set",
            Self::Counted => "counted",
        }
    }
}

/// What there is of a product in a shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) on_hand: u32,
    pub(super) reserved: u32,
    pub(super) minimum: u32,
    counted_at: i64,
}

impl Level {
    pub(super) fn available(self) -> u32 {
        self.on_hand.saturating_sub(self.reserved)
    }
}

/// The stock of a product in a shop while it changes.
#[derive(Debug)]
pub(super) struct Locked {
    shop_id: String,
    product_id: String,
    before: u32,
    pub(super) level: Level,
}

/// What a change is part of, for the history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) cause: Cause,
    pub(super) at: Timestamp,
    pub(super) order_id: Option<&'a str>,
}

type Row = (i64, i64, i64, i64);

fn level((on_hand, reserved, minimum, counted_at): Row) -> Level {
    let count = |pieces| u32::try_from(pieces).unwrap_or(u32::MAX);
    Level {
        on_hand: count(on_hand),
        reserved: count(reserved),
        minimum: count(minimum),
        counted_at,
    }
}

impl Locked {
    /// Locks the stock of a product until the transaction ends. Lock several in the order of their ids.
    pub(super) async fn lock(
        conn: &mut Conn,
        shop_id: &str,
        product_id: &str,
    ) -> Result<Option<Self>> {
        let text = "UPDATE stock SET reserved = reserved WHERE shop_id = $1 AND product_id = $2 \
                    RETURNING on_hand, reserved, minimum, counted_at";
        let row = sql(text)
            .bind(shop_id)
            .bind(product_id)
            .first::<Row>(conn)
            .await?;
        Ok(row.map(|row| {
            let level = level(row);
            Self {
                shop_id: shop_id.to_owned(),
                product_id: product_id.to_owned(),
                before: level.on_hand,
                level,
            }
        }))
    }

    /// Takes held pieces out of the shop; a device that counted after the sale has not counted them.
    pub(super) fn take(&mut self, quantity: u32, sold_at: Timestamp) {
        self.level.reserved = self.level.reserved.saturating_sub(quantity);
        if self.level.counted_at < sold_at.as_microsecond() {
            self.level.on_hand = self.level.on_hand.saturating_sub(quantity);
        }
    }

    /// Takes back what an order took. Where a device has counted since the order was confirmed, its count says what lies
    /// there, whether the piece ever left or not.
    pub(super) async fn put_back(
        &mut self,
        conn: &mut Conn,
        quantity: u32,
        order_id: Option<&str>,
    ) -> Result<()> {
        let is_counted = self.level.counted_at > 0;
        if is_counted && !self.was_sold_since_count(conn, order_id).await? {
            return Ok(());
        }
        self.level.on_hand = self.level.on_hand.saturating_add(quantity);
        Ok(())
    }

    async fn was_sold_since_count(&self, conn: &mut Conn, order_id: Option<&str>) -> Result<bool> {
        let text = "SELECT COUNT(*) FROM stock_history WHERE shop_id = $1 AND product_id = $2 \
                    AND at > $3 AND cause = 'sold' AND order_id = $4";
        let sold = sql(text).bind(&self.shop_id).bind(&self.product_id);
        let sold = sold.bind(self.level.counted_at).bind(order_id);
        Ok(sold.one::<(i64,)>(conn).await?.0 > 0)
    }

    /// Writes the level, and tells what the others must know of it.
    pub(super) async fn save(self, cx: &Cx, conn: &mut Conn, change: Change<'_>) -> Result<()> {
        let Self {
            shop_id,
            product_id,
            before,
            level,
        } = self;
        let text = "UPDATE stock SET on_hand = $1, reserved = $2, minimum = $3, counted_at = $4 \
                    WHERE shop_id = $5 AND product_id = $6";
        sql(text)
            .bind(level.on_hand)
            .bind(level.reserved)
            .bind(level.minimum)
            .bind(level.counted_at)
            .bind(&shop_id)
            .bind(&product_id)
            .run(conn)
            .await?;
        if before == level.on_hand {
            return Ok(());
        }
        let difference = i64::from(level.on_hand) - i64::from(before);
        note(
            conn,
            &shop_id,
            &product_id,
            change.cause.name(),
            (difference, change),
        )
        .await?;
        cx.publish(StockUpdated {
            shop_id: shop_id.clone(),
            product_id: product_id.clone(),
            new_stock: level.on_hand,
            previous_stock: before,
            change: difference,
        })
        .await?;
        if before >= level.minimum && level.on_hand < level.minimum {
            cx.publish(LowStockAlert {
                shop_id,
                product_id,
                current_stock: level.on_hand,
                minimum_stock: level.minimum,
            })
            .await?;
        }
        Ok(())
    }
}

async fn note(
    conn: &mut Conn,
    shop_id: &str,
    product_id: &str,
    cause: &str,
    (difference, change): (i64, Change<'_>),
) -> Result<()> {
    let text = "INSERT INTO stock_history (shop_id, product_id, at, cause, change, order_id) \
                VALUES ($1, $2, $3, $4, $5, $6)";
    sql(text)
        .bind(shop_id)
        .bind(product_id)
        .bind(change.at.as_microsecond())
        .bind(cause)
        .bind(difference)
        .bind(change.order_id)
        .run(conn)
        .await?;
    Ok(())
}

/// Notes in the history that pieces were ordered; they leave with the confirmation.
pub(super) async fn note_ordered(
    conn: &mut Conn,
    shop_id: &str,
    line: &Count,
    change: Change<'_>,
) -> Result<()> {
    let ordered = -i64::from(line.quantity);
    note(
        conn,
        shop_id,
        &line.product_id,
        "ordered",
        (ordered, change),
    )
    .await
}

pub(super) async fn find(conn: &mut Conn, shop_id: &str, product_id: &str) -> Result<Level> {
    let text = "SELECT on_hand, reserved, minimum, counted_at FROM stock \
                WHERE shop_id = $1 AND product_id = $2";
    let row = sql(text)
        .bind(shop_id)
        .bind(product_id)
        .first::<Row>(conn)
        .await?;
    row.map(level)
        .ok_or_else(|| limits::unknown("stock", product_id))
}

/// Makes room for a product in a shop, if there is none.
pub(super) async fn make_room(conn: &mut Conn, shop_id: &str, product_id: &str) -> Result<()> {
    let text = "INSERT INTO stock (shop_id, product_id, on_hand, reserved, minimum) \
                VALUES ($1, $2, 0, 0, 0) ON CONFLICT DO NOTHING";
    sql(text).bind(shop_id).bind(product_id).run(conn).await?;
    Ok(())
}

/// Takes over what a device counted: pieces that lay there at that time. What changed since is kept, an older count
/// than the last is nothing new, and a product that the shop does not have is nobody's to add by a device.
pub(super) async fn count(cx: &Cx, shop_id: &str, counts: &[Count], at: Timestamp) -> Result<()> {
    let mut counts: Vec<&Count> = counts.iter().take(limits::LINES_MAX).collect();
    counts.sort_by(|a, b| a.product_id.cmp(&b.product_id));
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    for Count {
        product_id,
        quantity,
    } in counts
    {
        let Some(mut stock) = Locked::lock(conn, shop_id, product_id).await? else {
            tracing::warn!(
                shop_id,
                product_id,
                "a device counts what the shop does not have"
            );
            continue;
        };
        if stock.level.counted_at >= at.as_microsecond() {
            continue;
        }
        // A piece that came back before it was sold for good is in the count: it never left.
        let text = "SELECT CAST(COALESCE(SUM(change), 0) AS BIGINT) FROM stock_history AS h \
                    WHERE shop_id = $1 AND product_id = $2 AND at > $3 \
                    AND cause NOT IN ('ordered', 'counted') AND (cause <> 'returned' \
                      OR EXISTS (SELECT 1 FROM stock_history AS s WHERE s.shop_id = $1 \
                        AND s.product_id = $2 AND s.at > $3 AND s.cause = 'sold' \
                        AND s.order_id = h.order_id))";
        let since = sql(text)
            .bind(shop_id)
            .bind(product_id)
            .bind(at.as_microsecond());
        let (since,) = since.one::<(i64,)>(conn).await?;
        let now = i64::from(*quantity).saturating_add(since).max(0);
        stock.level.on_hand = u32::try_from(now).unwrap_or(u32::MAX);
        stock.level.counted_at = at.as_microsecond();
        let change = Change {
            cause: Cause::Counted,
            at,
            order_id: None,
        };
        stock.save(cx, conn, change).await?;
    }
    Ok(())
}

/// A change as it was noted: when, why, by how many pieces, and for which order.
pub(super) type Noted = (i64, String, i64, Option<String>);

/// The last changes, newest first.
pub(super) async fn history(
    conn: &mut Conn,
    shop_id: &str,
    product_id: &str,
) -> Result<Vec<Noted>> {
    let text = "SELECT at, cause, change, order_id FROM stock_history \
                WHERE shop_id = $1 AND product_id = $2 ORDER BY at DESC LIMIT $3";
    sql(text)
        .bind(shop_id)
        .bind(product_id)
        .bind(limits::PAGE_MAX)
        .all(conn)
        .await
}

/// Throws away history that is too old.
pub(super) async fn forget_history(cx: Cx) -> Result<()> {
    let days = i64::from(cx.config::<Config>()?.history_days);
    let until = cx
        .now()
        .as_microsecond()
        .saturating_sub(days.saturating_mul(DAY_MICROS));
    let mut tx = cx.tx().await?;
    sql("DELETE FROM stock_history WHERE at < $1")
        .bind(until)
        .run(tx.conn())
        .await?;
    Ok(())
}

/// Takes stock on the first start, and tells of it.
pub(super) async fn load_demo(cx: Cx) -> Result<()> {
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    let (known,) = sql("SELECT COUNT(*) FROM stock")
        .one::<(i64,)>(conn)
        .await?;
    if known > 0 {
        return Ok(());
    }
    for demo::Stock {
        shop_id,
        product_id,
        stock,
        minimum,
    } in demo::STOCK
    {
        make_room(conn, shop_id, product_id).await?;
        let Some(mut locked) = Locked::lock(conn, shop_id, product_id).await? else {
            continue;
        };
        locked.level.on_hand = *stock;
        locked.level.minimum = *minimum;
        let change = Change {
            cause: Cause::Delivered,
            at: cx.now(),
            order_id: None,
        };
        locked.save(&cx, conn, change).await?;
    }
    Ok(())
}
