//! How devices are, and what lies in machines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Event, Result};

use super::tables;
use crate::events::{DeviceStatus, DeviceStatusUpdated};
use crate::limits;

/// How a device is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusUpdate {
    /// The device.
    pub device_id: String,
    /// How it is.
    pub status: DeviceStatus,
    /// When it was heard of last, in Unix seconds.
    pub last_seen: i64,
}

/// Where a device stands.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placed {
    /// The shop.
    pub shop_id: String,
    /// Whether it counts the shop's stock.
    pub counts_stock: bool,
}

/// What lies in a slot of a vending machine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotContent {
    /// The shop that the machine is.
    pub shop_id: String,
    /// The product.
    pub product_id: String,
}

/// Notes how a device is; what is known already and newer stays.
pub(super) async fn update_status(cx: &Cx, update: &StatusUpdate) -> Result<Placed> {
    let mut tx = cx.tx().await?;
    let placed = tables::set_status(tx.conn(), update).await?;
    placed.ok_or_else(|| limits::unknown("device", &update.device_id))
}

/// What lies in a slot.
pub(super) async fn find_slot(cx: &Cx, machine_id: &str, slot: &str) -> Result<SlotContent> {
    let mut reader = cx.read().await?;
    let found = tables::find_slot(reader.conn(), machine_id, slot).await?;
    found.ok_or_else(|| limits::unknown("slot", slot))
}

/// A device came or went: its history tells so.
pub(super) async fn status_updated(cx: Cx, event: Event<DeviceStatusUpdated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::note_status(tx.conn(), &event.data).await
}
