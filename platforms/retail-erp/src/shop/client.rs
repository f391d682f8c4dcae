//! How others ask shop-service.

use trunkline::{Cx, Result};

use super::{NAME, Placed, SlotContent, StatusUpdate};

/// Notes how a device is, and learns where it stands.
///
/// # Errors
/// `NotFound` with code `device_unknown`.
pub(crate) async fn update_device_status(cx: &Cx, update: &StatusUpdate) -> Result<Placed> {
    cx.service(NAME)?
        .post("/internal/device-status")
        .json(update)
        .send()
        .await
}

/// Finds what lies in a slot of a vending machine.
///
/// # Errors
/// `NotFound` with code `slot_unknown`.
pub(crate) async fn find_slot(cx: &Cx, machine_id: &str, slot: &str) -> Result<SlotContent> {
    let path = format!("/internal/machines/{machine_id}/slots/{slot}");
    cx.service(NAME)?.get(path).send().await
}
