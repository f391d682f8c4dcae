//! Shops, devices and slots.

use trunkline::{Conn, Cx, Error, Result, sql};

use super::http::{Change, Device, Machine, Shop, Slot};
use crate::events::{DeviceStatus, DeviceStatusUpdated};
use crate::proto::shop::{FindSlotResponse, UpdateDeviceStatusRequest, UpdateDeviceStatusResponse};
use crate::{demo, limits};

/// Changes of a device that are kept.
const HISTORY_MAX: u32 = 100;

pub(super) async fn shops(conn: &mut Conn) -> Result<Vec<Shop>> {
    let text = "SELECT shop_id, name FROM shops ORDER BY name LIMIT $1";
    let rows = sql(text)
        .bind(limits::PAGE_MAX)
        .all::<(String, String)>(conn)
        .await?;
    let shops = rows.into_iter().map(|(shop_id, name)| Shop {
        shop_id,
        name,
        devices: Vec::new(),
        machine: None,
    });
    Ok(shops.collect())
}

/// A shop with its devices and its machine.
pub(super) async fn find(conn: &mut Conn, shop_id: &str) -> Result<Shop> {
    let text = "SELECT name FROM shops WHERE shop_id = $1";
    let row = sql(text).bind(shop_id).first::<(String,)>(conn).await?;
    let (name,) = row.ok_or_else(|| limits::unknown("shop", shop_id))?;
    let text = "SELECT device_id, counts_stock_of, status, last_seen FROM devices \
                WHERE shop_id = $1 ORDER BY device_id LIMIT $2";
    type Row = (String, Option<String>, String, i64);
    let rows = sql(text)
        .bind(shop_id)
        .bind(limits::PAGE_MAX)
        .all::<Row>(conn)
        .await?;
    let mut shop = Shop {
        shop_id: shop_id.to_owned(),
        name,
        devices: Vec::with_capacity(rows.len()),
        machine: None,
    };
    for (device_id, counts_stock_of, status, last_seen) in rows {
        if counts_stock_of.is_some() {
            shop.machine = Some(machine(conn, &device_id).await?);
        }
        let status = named(&status);
        shop.devices.push(Device {
            device_id,
            status,
            last_seen,
        });
    }
    Ok(shop)
}

async fn machine(conn: &mut Conn, machine_id: &str) -> Result<Machine> {
    let text = "SELECT slot, product_id FROM slots WHERE machine_id = $1 ORDER BY slot";
    let rows = sql(text)
        .bind(machine_id)
        .all::<(String, String)>(conn)
        .await?;
    let slots = rows
        .into_iter()
        .map(|(slot, product_id)| Slot { slot, product_id });
    Ok(Machine {
        machine_id: machine_id.to_owned(),
        slots: slots.collect(),
    })
}

fn named(status: &str) -> DeviceStatus {
    match status {
        "online" => DeviceStatus::Online,
        _ => DeviceStatus::Offline,
    }
}

pub(super) async fn save(conn: &mut Conn, shop_id: &str, name: &str) -> Result<()> {
    let text = "INSERT INTO shops (shop_id, name) VALUES ($1, $2) \
                ON CONFLICT (shop_id) DO UPDATE SET name = excluded.name";
    sql(text).bind(shop_id).bind(name).run(conn).await?;
    Ok(())
}

/// Puts a device into a shop.
///
/// # Errors
/// `Conflict` with code `machine_taken` when another machine counts the shop's stock.
pub(super) async fn save_device(
    conn: &mut Conn,
    shop_id: &str,
    device_id: &str,
    counts_stock: bool,
) -> Result<()> {
    let text = "SELECT device_id FROM devices WHERE counts_stock_of = $1 AND device_id <> $2";
    let other = sql(text)
        .bind(shop_id)
        .bind(device_id)
        .first::<(String,)>(conn)
        .await?;
    if let (Some((other,)), true) = (other, counts_stock) {
        let text = "the shop has a vending machine; more machines are more shops";
        return Err(Error::conflict("machine_taken", text).with("machine", other));
    }
    let counts_stock_of = counts_stock.then_some(shop_id);
    let text = "INSERT INTO devices (device_id, shop_id, counts_stock_of, status, last_seen) \
                VALUES ($1, $2, $3, 'offline', 0) ON CONFLICT (device_id) DO UPDATE SET \
                shop_id = excluded.shop_id, counts_stock_of = excluded.counts_stock_of";
    sql(text)
        .bind(device_id)
        .bind(shop_id)
        .bind(counts_stock_of)
        .run(conn)
        .await?;
    Ok(())
}

pub(super) async fn save_slots(conn: &mut Conn, machine_id: &str, slots: &[Slot]) -> Result<()> {
    sql("DELETE FROM slots WHERE machine_id = $1")
        .bind(machine_id)
        .run(conn)
        .await?;
    for Slot { slot, product_id } in slots {
        let text = "INSERT INTO slots (machine_id, slot, product_id) VALUES ($1, $2, $3) \
                    ON CONFLICT (machine_id, slot) DO UPDATE SET product_id = excluded.product_id";
        sql(text)
            .bind(machine_id)
            .bind(slot)
            .bind(product_id)
            .run(conn)
            .await?;
    }
    Ok(())
}

/// Notes how a device is, and says where it stands; an older update changes nothing.
pub(super) async fn set_status(
    conn: &mut Conn,
    update: &UpdateDeviceStatusRequest,
    status: DeviceStatus,
) -> Result<Option<UpdateDeviceStatusResponse>> {
    let text = "UPDATE devices SET status = CASE WHEN last_seen <= $1 THEN $2 ELSE status END, \
                last_seen = CASE WHEN last_seen <= $1 THEN $1 ELSE last_seen END \
                WHERE device_id = $3 RETURNING shop_id, counts_stock_of";
    let row = sql(text)
        .bind(update.last_seen)
        .bind(status.name())
        .bind(&update.device_id)
        .first::<(String, Option<String>)>(conn)
        .await?;
    Ok(
        row.map(|(shop_id, counts_stock_of)| UpdateDeviceStatusResponse {
            shop_id,
            counts_stock: counts_stock_of.is_some(),
        }),
    )
}

/// The shop that a device stands in.
pub(super) async fn shop_of(conn: &mut Conn, device_id: &str) -> Result<Option<String>> {
    let text = "SELECT shop_id FROM devices WHERE device_id = $1";
    let row = sql(text).bind(device_id).first::<(String,)>(conn).await?;
    Ok(row.map(|(shop_id,)| shop_id))
}

pub(super) async fn find_slot(
    conn: &mut Conn,
    machine_id: &str,
    slot: &str,
) -> Result<Option<FindSlotResponse>> {
    let text = "SELECT shop_id, product_id FROM slots \
                JOIN devices ON device_id = machine_id WHERE machine_id = $1 AND slot = $2";
    let row = sql(text)
        .bind(machine_id)
        .bind(slot)
        .first::<(String, String)>(conn)
        .await?;
    Ok(row.map(|(shop_id, product_id)| FindSlotResponse {
        shop_id,
        product_id,
    }))
}

/// Adds to a device's history, if it became something else.
pub(super) async fn note_status(conn: &mut Conn, told: &DeviceStatusUpdated) -> Result<()> {
    let text = "SELECT status FROM device_history WHERE device_id = $1 ORDER BY at DESC LIMIT 1";
    let last = sql(text)
        .bind(&told.device_id)
        .first::<(String,)>(conn)
        .await?;
    if last.is_some_and(|(last,)| last == told.status.name()) {
        return Ok(());
    }
    let text = "INSERT INTO device_history (device_id, at, status) VALUES ($1, $2, $3) \
                ON CONFLICT DO NOTHING";
    sql(text)
        .bind(&told.device_id)
        .bind(told.last_seen)
        .bind(told.status.name())
        .run(conn)
        .await?;
    let text = "DELETE FROM device_history WHERE device_id = $1 AND at < (SELECT at FROM \
                device_history WHERE device_id = $1 ORDER BY at DESC LIMIT 1 OFFSET $2)";
    sql(text)
        .bind(&told.device_id)
        .bind(HISTORY_MAX)
        .run(conn)
        .await?;
    Ok(())
}

/// When a device came and went, the last first.
pub(super) async fn history(conn: &mut Conn, device_id: &str) -> Result<Vec<Change>> {
    let text = "SELECT at, status FROM device_history WHERE device_id = $1 ORDER BY at DESC";
    let rows = sql(text).bind(device_id).all::<(i64, String)>(conn).await?;
    let changes = rows.into_iter().map(|(at, status)| Change {
        at,
        status: named(&status),
    });
    Ok(changes.collect())
}

/// Has two shops on the first start, one of them a vending machine.
pub(super) async fn load_demo(cx: Cx) -> Result<()> {
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    let (known,) = sql("SELECT COUNT(*) FROM shops")
        .one::<(i64,)>(conn)
        .await?;
    if known > 0 {
        return Ok(());
    }
    for demo::Shop { shop_id, name } in demo::SHOPS {
        save(conn, shop_id, name).await?;
    }
    save_device(conn, demo::VENDING_SHOP, demo::MACHINE, true).await?;
    let slots = demo::SLOTS.iter().map(|(slot, product_id)| Slot {
        slot: (*slot).to_owned(),
        product_id: (*product_id).to_owned(),
    });
    save_slots(conn, demo::MACHINE, &slots.collect::<Vec<_>>()).await
}
