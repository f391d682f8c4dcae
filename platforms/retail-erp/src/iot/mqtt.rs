//! Devices that report by MQTT. Who a device is comes from the topic, which its broker lets nobody else write.

use trunkline::device::{DeviceTopic, PresenceChanged};
use trunkline::{Cx, Devices, Error, Event, Result, Retry};

use super::report::{self, DataReport, StatusReport};
use super::vending;
use crate::events::DeviceStatus;

/// What devices say, on which topics.
pub(super) fn devices() -> Devices {
    Devices::new()
        .report("devices/{device_id}/status", status)
        .report("devices/{device_id}/data", data)
        .report(
            DeviceTopic::new("devices/{device_id}/purchases").id("/saleId"),
            vending::purchase,
        )
        .report(
            DeviceTopic::new("devices/{device_id}/sales").id("/saleId"),
            vending::sale,
        )
        .commands(
            "devices/{device_id}/commands",
            "devices/{device_id}/replies",
            vending::command_settled,
        )
        .as_users()
        .presence("devices/{device_id}/presence", presence)
}

async fn status(cx: Cx, event: Event<StatusReport>) -> Result<()> {
    let device_id = device_of(&event.envelope)?;
    let done = report::status(&cx, device_id.clone(), event.data).await;
    unless_refused(&device_id, done)
}

async fn data(cx: Cx, event: Event<DataReport>) -> Result<()> {
    let device_id = device_of(&event.envelope)?;
    let done = report::data(&cx, device_id.clone(), event.data).await;
    unless_refused(&device_id, done)
}

/// A device came, or went: by its own word, by its last will, or by its silence.
async fn presence(cx: Cx, change: PresenceChanged) -> Result<()> {
    let status = if change.online {
        DeviceStatus::Online
    } else {
        DeviceStatus::Offline
    };
    let told = StatusReport {
        status,
        stock: Vec::new(),
    };
    let done = report::status(&cx, change.device.clone(), told).await;
    unless_refused(&change.device, done)
}

pub(super) fn device_of(envelope: &trunkline::Envelope) -> Result<String> {
    let key = envelope.key.as_ref().map(ToString::to_string);
    key.ok_or_else(|| Error::internal("expected a report to have its device as its key"))
}

/// What a device must not say is dropped: its next report may be right, and is not to wait behind this one.
fn unless_refused(device_id: &str, done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.retry() == Retry::Permanent => {
            tracing::warn!(device_id, %error, "what a device reported is refused");
            Ok(())
        }
        done => done,
    }
}
