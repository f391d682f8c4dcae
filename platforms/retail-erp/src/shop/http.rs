//! Shops, machines and devices, as the staff keeps them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Json, Path, Result};

use super::tables;
use crate::events::DeviceStatus;
use crate::{STAFF, limits};

/// A shop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shop {
    /// Its id.
    pub shop_id: String,
    /// Its name.
    pub name: String,
    /// The devices that stand in it, the vending machine included; empty in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Its vending machine, if it has one; none in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id.
    pub device_id: String,
    /// How it is.
    pub status: DeviceStatus,
    /// When it was heard of last, in Unix seconds; 0 is never.
    pub last_seen: i64,
}

/// A vending machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Its id, as a device too.
    pub machine_id: String,
    /// What lies in it.
    pub slots: Vec<Slot>,
}

/// A slot of a vending machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slot {
    /// Its name, such as `A1`.
    pub slot: String,
    /// The product that lies in it.
    pub product_id: String,
}

/// A shop as it is to be.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewShop {
    /// Its name.
    pub name: String,
}

/// A device as it is to be.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDevice {}

/// A vending machine as it is to be.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMachine {
    /// What lies in it.
    pub slots: Vec<Slot>,
}

/// When a device came or went.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    /// In Unix seconds.
    pub(super) at: i64,
    /// What it became.
    pub(super) status: DeviceStatus,
}

pub(super) async fn list(cx: Cx) -> Result<Json<Vec<Shop>>> {
    let mut reader = cx.read().await?;
    Ok(Json(tables::shops(reader.conn()).await?))
}

pub(super) async fn find(cx: Cx, Path(shop_id): Path<String>) -> Result<Json<Shop>> {
    let mut reader = cx.read().await?;
    Ok(Json(tables::find(reader.conn(), &shop_id).await?))
}

pub(super) async fn save(
    cx: Cx,
    Path(shop_id): Path<String>,
    Json(new): Json<NewShop>,
) -> Result<Json<Shop>> {
    cx.require_role(STAFF)?;
    limits::id("shopId", &shop_id)?;
    limits::name(&new.name)?;
    let mut tx = cx.tx().await?;
    tables::save(tx.conn(), &shop_id, &new.name).await?;
    Ok(Json(tables::find(tx.conn(), &shop_id).await?))
}

pub(super) async fn save_device(
    cx: Cx,
    Path((shop_id, device_id)): Path<(String, String)>,
    Json(NewDevice {}): Json<NewDevice>,
) -> Result<Json<Shop>> {
    cx.require_role(STAFF)?;
    limits::id("deviceId", &device_id)?;
    let mut tx = cx.tx().await?;
    tables::find(tx.conn(), &shop_id).await?;
    tables::save_device(tx.conn(), &shop_id, &device_id, false).await?;
    Ok(Json(tables::find(tx.conn(), &shop_id).await?))
}

pub(super) async fn save_machine(
    cx: Cx,
    Path((shop_id, machine_id)): Path<(String, String)>,
    Json(new): Json<NewMachine>,
) -> Result<Json<Shop>> {
    cx.require_role(STAFF)?;
    limits::id("machineId", &machine_id)?;
    limits::lines(new.slots.len())?;
    for Slot { slot, product_id } in &new.slots {
        limits::id("slot", slot)?;
        limits::id("productId", product_id)?;
    }
    let mut tx = cx.tx().await?;
    tables::find(tx.conn(), &shop_id).await?;
    tables::save_device(tx.conn(), &shop_id, &machine_id, true).await?;
    tables::save_slots(tx.conn(), &machine_id, &new.slots).await?;
    Ok(Json(tables::find(tx.conn(), &shop_id).await?))
}

pub(super) async fn history(
    cx: Cx,
    Path((shop_id, device_id)): Path<(String, String)>,
) -> Result<Json<Vec<Change>>> {
    cx.require_role(STAFF)?;
    let mut reader = cx.read().await?;
    let shop = tables::find(reader.conn(), &shop_id).await?;
    if !shop
        .devices
        .iter()
        .any(|device| device.device_id == device_id)
    {
        return Err(limits::unknown("device", &device_id));
    }
    Ok(Json(tables::history(reader.conn(), &device_id).await?))
}
