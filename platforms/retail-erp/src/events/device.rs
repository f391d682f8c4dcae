//! What devices report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunkline::{Error, Event, Result};

/// How a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceStatus {
    /// It reports.
    Online,
    /// It said so, or its connection broke.
    Offline,
}

impl DeviceStatus {
    /// As it stands on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }

    /// The one of this name.
    ///
    /// # Errors
    /// `InvalidInput` with code `status_unknown`.
    pub fn named(name: &str) -> Result<Self> {
        let all = [Self::Online, Self::Offline];
        let found = all.into_iter().find(|status| status.name() == name);
        found.ok_or_else(|| {
            let text = "expected a device to be online or offline";
            Error::invalid("status_unknown", text)
        })
    }
}

/// A device told how it is, or went away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "DeviceStatusUpdated", version = "1.0", topic = "device-events", key = device_id)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatusUpdated {
    /// The device.
    pub device_id: String,
    /// The shop that it stands in.
    pub shop_id: String,
    /// How it is.
    pub status: DeviceStatus,
    /// When it was heard of last, in Unix seconds.
    pub last_seen: i64,
    /// What lies in it, where it counts stock and said so. Ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stock: Vec<Count>,
}

/// How many pieces of a product a device counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// The product.
    pub product_id: String,
    /// How many.
    pub quantity: u32,
}

/// A device measured something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "DeviceDataReceived", version = "1.0", topic = "device-events", key = device_id)]
#[serde(rename_all = "camelCase")]
pub struct DeviceDataReceived {
    /// The device.
    pub device_id: String,
    /// The shop that it stands in.
    pub shop_id: String,
    /// What it is, such as `stock_update`, whose data is `{"stock": [{"productId", "quantity"}]}`.
    pub data_type: String,
    /// What it measured: an object.
    pub data: Value,
}
