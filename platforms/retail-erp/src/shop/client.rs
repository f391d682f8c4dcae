//! How others ask shop-service.

use trunkline::{Cx, Result, grpc};

use super::NAME;
use crate::proto::shop::shop_client::ShopClient;
use crate::proto::shop::{
    FindSlotRequest, FindSlotResponse, UpdateDeviceStatusRequest, UpdateDeviceStatusResponse,
};

/// Notes how a device is, and learns where it stands.
///
/// # Errors
/// `NotFound` with code `device_unknown`.
pub(crate) async fn update_device_status(
    cx: &Cx,
    update: UpdateDeviceStatusRequest,
) -> Result<UpdateDeviceStatusResponse> {
    let mut shop = ShopClient::new(cx.service(NAME)?.grpc());
    let placed = shop
        .update_device_status(update)
        .await
        .map_err(grpc::error)?;
    Ok(placed.into_inner())
}

/// Finds what lies in a slot of a vending machine.
///
/// # Errors
/// `NotFound` with code `slot_unknown`.
pub(crate) async fn find_slot(cx: &Cx, machine_id: &str, slot: &str) -> Result<FindSlotResponse> {
    let mut shop = ShopClient::new(cx.service(NAME)?.grpc());
    let wanted = FindSlotRequest {
        machine_id: machine_id.to_owned(),
        slot: slot.to_owned(),
    };
    Ok(shop
        .find_slot(wanted)
        .await
        .map_err(grpc::error)?
        .into_inner())
}
