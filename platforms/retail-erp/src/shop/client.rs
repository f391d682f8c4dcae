//! How others ask shop-service.

use trunkline::{Cx, Result, grpc};

use super::NAME;
use crate::proto::shop::shop_client::ShopClient;
use crate::proto::shop::{
    FindDeviceRequest, FindSlotRequest, FindSlotResponse, UpdateDeviceStatusRequest,
    UpdateDeviceStatusResponse,
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

/// Finds the shop that a device stands in.
///
/// # Errors
/// `NotFound` with code `device_unknown`.
pub(crate) async fn find_device(cx: &Cx, device_id: &str) -> Result<String> {
    let mut shop = ShopClient::new(cx.service(NAME)?.grpc());
    let device_id = device_id.to_owned();
    let found = shop.find_device(FindDeviceRequest { device_id }).await;
    Ok(found.map_err(grpc::error)?.into_inner().shop_id)
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
