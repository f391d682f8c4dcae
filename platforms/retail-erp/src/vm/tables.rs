//! Machines, and their sales.

use trunkline::{Conn, Result, sql};

use super::http::{Sale, SaleStatus};
use crate::events::{DeviceStatus, DeviceStatusUpdated};
use crate::limits;

impl SaleStatus {
    /// As it stands on the wire and in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vending => "vending",
            Self::Vended => "vended",
            Self::Refused => "refused",
            Self::Refunded => "refunded",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        match name {
            "vending" => Self::Vending,
            "vended" => Self::Vended,
            "refused" => Self::Refused,
            _ => Self::Refunded,
        }
    }
}

pub(super) async fn save_machine(conn: &mut Conn, told: &DeviceStatusUpdated) -> Result<()> {
    let text = "INSERT INTO machines (machine_id, status) VALUES ($1, $2) \
                ON CONFLICT (machine_id) DO UPDATE SET status = excluded.status";
    sql(text)
        .bind(&told.device_id)
        .bind(told.status.name())
        .run(conn)
        .await?;
    Ok(())
}

/// How a machine is, if it ever said so.
pub(super) async fn status(conn: &mut Conn, machine_id: &str) -> Result<Option<DeviceStatus>> {
    let text = "SELECT status FROM machines WHERE machine_id = $1";
    let row = sql(text).bind(machine_id).first::<(String,)>(conn).await?;
    Ok(row.map(|(status,)| match status.as_str() {
        "online" => DeviceStatus::Online,
        _ => DeviceStatus::Offline,
    }))
}

/// Expects a machine to vend an order.
pub(super) async fn expect(conn: &mut Conn, machine_id: &str, order_id: &str) -> Result<()> {
    let text = "INSERT INTO sales (order_id, machine_id, status) VALUES ($1, $2, 'vending') \
                ON CONFLICT DO NOTHING";
    sql(text).bind(order_id).bind(machine_id).run(conn).await?;
    Ok(())
}

/// Notes a sale, and gives it as it stands: its order may be known, and even be settled.
pub(super) async fn save(conn: &mut Conn, machine_id: &str, sale: &Sale) -> Result<Sale> {
    let text = "INSERT INTO sales (order_id, machine_id, sale_id, status, reason) \
                VALUES ($1, $2, $3, $4, $5) \
                ON CONFLICT (order_id) DO UPDATE SET sale_id = excluded.sale_id";
    sql(text)
        .bind(&sale.order_id)
        .bind(machine_id)
        .bind(&sale.sale_id)
        .bind(sale.status.name())
        .bind(&sale.reason)
        .run(conn)
        .await?;
    let found = find(conn, machine_id, &sale.sale_id).await?;
    found.ok_or_else(|| limits::unknown("sale", &sale.sale_id))
}

pub(super) async fn find(conn: &mut Conn, machine_id: &str, sale_id: &str) -> Result<Option<Sale>> {
    let text = "SELECT order_id, status, reason FROM sales WHERE machine_id = $1 AND sale_id = $2";
    let row = sql(text).bind(machine_id).bind(sale_id);
    let row = row.first::<(String, String, Option<String>)>(conn).await?;
    Ok(row.map(|(order_id, status, reason)| Sale {
        sale_id: sale_id.to_owned(),
        order_id,
        status: SaleStatus::named(&status),
        reason,
    }))
}

pub(super) async fn status_of(conn: &mut Conn, order_id: &str) -> Result<Option<SaleStatus>> {
    let text = "SELECT status FROM sales WHERE order_id = $1";
    let row = sql(text).bind(order_id).first::<(String,)>(conn).await?;
    Ok(row.map(|(status,)| SaleStatus::named(&status)))
}

/// Says whether the machine is to be told to vend an order now: it is paid, and the machine was not told yet.
pub(super) async fn command(conn: &mut Conn, order_id: &str) -> Result<bool> {
    let text = "UPDATE sales SET commanded = 1 \
                WHERE order_id = $1 AND commanded = 0 AND status = 'vending'";
    Ok(sql(text).bind(order_id).run(conn).await? == 1)
}

/// The piece fell. A sale that was paid back stays so, and gives `true`.
pub(super) async fn set_vended(conn: &mut Conn, order_id: &str) -> Result<bool> {
    let text = "UPDATE sales SET fell_late = CASE status WHEN 'refunded' THEN 1 ELSE fell_late END, \
                status = CASE status WHEN 'vending' THEN 'vended' ELSE status END \
                WHERE order_id = $1 RETURNING fell_late";
    let row = sql(text).bind(order_id).first::<(i64,)>(conn).await?;
    Ok(row.is_some_and(|(late,)| late != 0))
}

/// The piece is paid back. If the machine has told meanwhile that it fell, gives `true`.
pub(super) async fn set_refunded(conn: &mut Conn, order_id: &str) -> Result<bool> {
    let text = "UPDATE sales SET fell_late = CASE status WHEN 'vended' THEN 1 ELSE fell_late END, \
                status = 'refunded' WHERE order_id = $1 RETURNING fell_late";
    let row = sql(text).bind(order_id).first::<(i64,)>(conn).await?;
    Ok(row.is_some_and(|(late,)| late != 0))
}
