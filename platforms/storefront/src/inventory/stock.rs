//! Stock per product and warehouse.

use trunkline::{Conn, Cx, Error, Result, sql};

use super::Config;
use crate::events::{LowStock, ReservationLine, StockChanged};
use crate::{catalogue, limits};

/// The warehouses, nearest first; a product lies in one or in both.
const WAREHOUSES: [&str; 2] = [
    "850e8400-e29b-41d4-a716-446655440000",
    "850e8400-e29b-41d4-a716-446655440001",
];

/// What there is of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) on_hand: u32,
    pub(super) reserved: u32,
}

impl Level {
    pub(super) fn available(self) -> u32 {
        self.on_hand.saturating_sub(self.reserved)
    }
}

/// What one warehouse does for a change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// Hold pieces that are free.
    Hold,
    /// Give held pieces free.
    Free,
    /// Take held pieces away.
    Take,
}

/// A product while its stock changes: locked, its level before known.
#[derive(Debug)]
pub(super) struct Locked {
    product_id: String,
    revision: u64,
    before: Level,
}

impl Locked {
    /// Locks a product until the transaction ends. Lock several in the order of their ids.
    pub(super) async fn lock(conn: &mut Conn, product_id: &str) -> Result<Self> {
        let text = "UPDATE products SET revision = revision + 1 WHERE product_id = $1 \
                    RETURNING revision";
        let revision = sql(text).bind(product_id).first::<(i64,)>(conn).await?;
        let (revision,) = revision.ok_or_else(|| unknown(product_id))?;
        let before = level(conn, product_id)
            .await?
            .ok_or_else(|| unknown(product_id))?;
        let revision = u64::try_from(revision).unwrap_or_default();
        Ok(Self {
            product_id: product_id.to_owned(),
            revision,
            before,
        })
    }

    /// Finds free pieces, in as few warehouses as the nearest allow.
    ///
    /// # Errors
    /// `Conflict` with code `stock_insufficient`.
    pub(super) async fn pick(
        &self,
        conn: &mut Conn,
        quantity: u32,
    ) -> Result<Vec<ReservationLine>> {
        let text = "SELECT warehouse_id, on_hand - reserved FROM stock \
                    WHERE product_id = $1 AND on_hand > reserved ORDER BY warehouse_id";
        let free = sql(text)
            .bind(&self.product_id)
            .all::<(String, i64)>(conn)
            .await?;
        let mut missing = quantity;
        let mut lines = Vec::new();
        for (warehouse_id, free) in free {
            let take = missing.min(u32::try_from(free).unwrap_or_default());
            if take > 0 {
                let product_id = self.product_id.clone();
                lines.push(ReservationLine {
                    product_id,
                    quantity: take,
                    warehouse_id,
                });
                missing -= take;
            }
        }
        if missing > 0 {
            return Err(
                Error::conflict("stock_insufficient", "there are not enough pieces")
                    .with("product_id", &self.product_id)
                    .with("wanted", quantity)
                    .with("available", self.before.available()),
            );
        }
        Ok(lines)
    }

    /// Says what the others must know once the product's lines have changed.
    pub(super) async fn announce(self, cx: &Cx, conn: &mut Conn) -> Result<()> {
        let after = level(conn, &self.product_id)
            .await?
            .map_or(0, Level::available);
        let before = self.before.available();
        let threshold = cx.config::<Config>()?.low_stock;
        if (before > 0) != (after > 0) {
            cx.publish(StockChanged {
                product_id: self.product_id.clone(),
                in_stock: after > 0,
                revision: self.revision,
            })
            .await?;
        }
        if before > threshold && after <= threshold {
            let product_id = self.product_id;
            cx.publish(LowStock {
                product_id,
                available: after,
                threshold,
            })
            .await?;
        }
        Ok(())
    }
}

/// What there is of a product in all warehouses; none of an unknown one.
pub(super) async fn level(conn: &mut Conn, product_id: &str) -> Result<Option<Level>> {
    let text = "SELECT CAST(SUM(on_hand) AS BIGINT), CAST(SUM(reserved) AS BIGINT) FROM stock \
                WHERE product_id = $1 GROUP BY product_id";
    let sums = sql(text).bind(product_id).first::<(i64, i64)>(conn).await?;
    let count = |pieces| u32::try_from(pieces).unwrap_or(u32::MAX);
    Ok(sums.map(|(on_hand, reserved)| Level {
        on_hand: count(on_hand),
        reserved: count(reserved),
    }))
}

/// Changes the stock of one line. The table's own checks refuse what does not add up.
pub(super) async fn apply(conn: &mut Conn, change: Change, line: &ReservationLine) -> Result<()> {
    let text = match change {
        Change::Hold => {
            "UPDATE stock SET reserved = reserved + $1 WHERE product_id = $2 AND warehouse_id = $3"
        }
        Change::Free => {
            "UPDATE stock SET reserved = reserved - $1 WHERE product_id = $2 AND warehouse_id = $3"
        }
        Change::Take => {
            "UPDATE stock SET reserved = reserved - $1, on_hand = on_hand - $1 \
             WHERE product_id = $2 AND warehouse_id = $3"
        }
    };
    let changed = sql(text)
        .bind(line.quantity)
        .bind(&line.product_id)
        .bind(&line.warehouse_id)
        .run(conn)
        .await?;
    if changed == 1 {
        Ok(())
    } else {
        Err(unknown(&line.product_id))
    }
}

/// Takes stock on the first start.
pub(super) async fn load_catalogue(cx: Cx) -> Result<()> {
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    let (known,) = sql("SELECT COUNT(*) FROM products")
        .one::<(i64,)>(conn)
        .await?;
    if known > 0 {
        return Ok(());
    }
    for product in catalogue::products()? {
        sql("INSERT INTO products (product_id, revision) VALUES ($1, 0)")
            .bind(&product.id)
            .run(conn)
            .await?;
        let far = product.stock / 4;
        for (warehouse_id, on_hand) in WAREHOUSES.into_iter().zip([product.stock - far, far]) {
            let text = "INSERT INTO stock (product_id, warehouse_id, on_hand, reserved) \
                        VALUES ($1, $2, $3, 0)";
            sql(text)
                .bind(&product.id)
                .bind(warehouse_id)
                .bind(on_hand)
                .run(conn)
                .await?;
        }
    }
    Ok(())
}

pub(super) fn unknown(product_id: &str) -> Error {
    Error::not_found("product_unknown", "there is no such product")
        .with("product_id", limits::shown(product_id))
}
