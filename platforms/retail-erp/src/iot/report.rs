//! Reports of devices, whatever they came by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunkline::{Cx, Error, ErrorKind, Event, Result};

use super::{STOCK_UPDATE, StockData};
use crate::events::{Count, DeviceDataReceived, DeviceStatus, DeviceStatusUpdated};
use crate::limits;
use crate::proto::shop::{UpdateDeviceStatusRequest, UpdateDeviceStatusResponse};
use crate::shop;

/// How a device is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "DeviceStatusReport", version = "1.0", topic = "device-reports", kind = system)]
#[serde(deny_unknown_fields)]
pub struct StatusReport {
    /// How it is.
    pub status: DeviceStatus,
    /// What lies in it, if it counts stock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stock: Vec<Count>,
}

/// What a device measured.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "DeviceDataReport", version = "1.0", topic = "device-reports", kind = system)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataReport {
    /// What it is, such as `stock_update`.
    pub data_type: String,
    /// What it measured: an object.
    pub data: Value,
}

/// A device told how it is. shop-service confirms it, then everybody hears of it.
pub(super) async fn status(cx: &Cx, device_id: String, report: StatusReport) -> Result<()> {
    let (placed, last_seen) = seen(cx, &device_id, report.status).await?;
    check_counts(&placed, &report.stock)?;
    cx.publish(DeviceStatusUpdated {
        device_id,
        shop_id: placed.shop_id,
        status: report.status,
        last_seen,
        stock: report.stock,
    })
    .await
}

/// A device measured something, so it is online.
pub(super) async fn data(cx: &Cx, device_id: String, report: DataReport) -> Result<()> {
    limits::id("dataType", &report.data_type)?;
    if !report.data.is_object() {
        return Err(Error::invalid(
            "data_invalid",
            "expected data to be an object",
        ));
    }
    let (placed, _) = seen(cx, &device_id, DeviceStatus::Online).await?;
    if report.data_type == STOCK_UPDATE {
        let data: StockData = serde_json::from_value(report.data.clone()).map_err(|error| {
            let text = "expected the data of a stock_update to be like \
                        {\"stock\": [{\"productId\": \"prod_789\", \"quantity\": 5}]}";
            Error::invalid("data_invalid", text).with_source(error)
        })?;
        check_counts(&placed, &data.stock)?;
    }
    cx.publish(DeviceDataReceived {
        device_id,
        shop_id: placed.shop_id,
        data_type: report.data_type,
        data: report.data,
    })
    .await
}

async fn seen(
    cx: &Cx,
    device_id: &str,
    status: DeviceStatus,
) -> Result<(UpdateDeviceStatusResponse, i64)> {
    limits::id("deviceId", device_id)?;
    let last_seen = cx.now().as_second();
    let update = UpdateDeviceStatusRequest {
        device_id: device_id.to_owned(),
        status: status.name().to_owned(),
        last_seen,
    };
    Ok((shop::update_device_status(cx, update).await?, last_seen))
}

/// A device that does not count the shop's stock may not say what lies there.
fn check_counts(placed: &UpdateDeviceStatusResponse, stock: &[Count]) -> Result<()> {
    if stock.is_empty() {
        return Ok(());
    }
    if !placed.counts_stock {
        let text = "this device does not count the stock of its shop";
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "device_counts_nothing",
            text,
        ));
    }
    limits::lines(stock.len())?;
    stock
        .iter()
        .try_for_each(|count| limits::id("productId", &count.product_id))
}
