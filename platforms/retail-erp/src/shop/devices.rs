//! How devices are, and what lies in machines.

use trunkline::{Cx, Event, Result};

use super::tables;
use crate::events::{DeviceStatus, DeviceStatusUpdated};
use crate::limits;
use crate::proto::shop::{
    FindDeviceRequest, FindDeviceResponse, FindSlotRequest, FindSlotResponse,
    UpdateDeviceStatusRequest, UpdateDeviceStatusResponse,
};

/// Notes how a device is, and says where it stands; what is known already and newer stays.
pub(super) async fn update_status(
    cx: &Cx,
    update: UpdateDeviceStatusRequest,
) -> Result<UpdateDeviceStatusResponse> {
    let status = DeviceStatus::named(&update.status)?;
    let mut tx = cx.tx().await?;
    let placed = tables::set_status(tx.conn(), &update, status).await?;
    placed.ok_or_else(|| limits::unknown("device", &update.device_id))
}

/// Where a device stands.
pub(super) async fn find(cx: &Cx, wanted: FindDeviceRequest) -> Result<FindDeviceResponse> {
    let mut reader = cx.read().await?;
    let shop_id = tables::shop_of(reader.conn(), &wanted.device_id).await?;
    let shop_id = shop_id.ok_or_else(|| limits::unknown("device", &wanted.device_id))?;
    Ok(FindDeviceResponse { shop_id })
}

/// What lies in a slot.
pub(super) async fn find_slot(cx: &Cx, wanted: FindSlotRequest) -> Result<FindSlotResponse> {
    let mut reader = cx.read().await?;
    let found = tables::find_slot(reader.conn(), &wanted.machine_id, &wanted.slot).await?;
    found.ok_or_else(|| limits::unknown("slot", &wanted.slot))
}

/// A device came or went: its history tells so.
pub(super) async fn status_updated(cx: Cx, event: Event<DeviceStatusUpdated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::note_status(tx.conn(), &event.data).await
}
