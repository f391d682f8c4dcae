//! iot-gateway: takes what devices report, and tells shop-service and everybody else.
//!
//! A device speaks for itself alone: who it is comes from its credentials, never from what it says.

mod http;
mod report;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::Service;

use crate::events::{Count, DeviceDataReceived, DeviceStatusUpdated};
use crate::shop;

pub use report::{DataReport, StatusReport};

/// The service's name.
pub const NAME: &str = "iot-gateway";

/// The data type of a device that counted what lies in it: [`StockData`].
pub const STOCK_UPDATE: &str = "stock_update";

/// What a device counted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StockData {
    /// What lies in it.
    pub stock: Vec<Count>,
}

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .calls(shop::NAME)
        .publishes::<DeviceStatusUpdated>()
        .publishes::<DeviceDataReceived>()
        .post("/api/devices/{device_id}/status", http::status)
        .post("/api/devices/{device_id}/data", http::data)
}
