//! iot-gateway: takes what devices report, and tells shop-service and everybody else.
//!
//! A device speaks for itself alone: who it is comes from its credentials, never from what it says. By MQTT vending machines
//! sell too, see [`vending`].

mod credentials;
mod http;
mod mqtt;
mod report;
mod rpc;
pub mod vending;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service};

use crate::events::{Count, DeviceDataReceived, DeviceStatusUpdated, VendEnded};
use crate::proto::DESCRIPTORS;
use crate::proto::device::device_gateway_server::DeviceGatewayServer;
use crate::{shop, vm};

use credentials::Gateway;

pub use credentials::{BrokerFiles, DeviceCredentials};
pub use report::{DataReport, StatusReport};

/// The service's name.
pub const NAME: &str = "iot-gateway";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_credentials",
    sql: include_str!("iot/0001_credentials.sql"),
}];

/// The data type of a device that counted what lies in it: [`StockData`].
pub const STOCK_UPDATE: &str = "stock_update";

/// What a device counted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StockData {
    /// What lies in it.
    pub stock: Vec<Count>,
}

/// The `[service.iot-gateway]` section.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether devices report by MQTT too; `[devices]` says where their broker is.
    pub mqtt: bool,
}

/// The service, by a platform's configuration.
pub fn service(config: &trunkline::Config) -> Service {
    let section = config.service.get(NAME);
    let mqtt = section.and_then(|section| section.get("mqtt")?.as_bool());
    let service = Service::new(NAME)
        .version("1.0.0")
        .config::<Config>()
        .migrations(MIGRATIONS)
        .state(Gateway::of(config))
        .calls(shop::NAME)
        .publishes::<DeviceStatusUpdated>()
        .publishes::<DeviceDataReceived>()
        .publishes::<VendEnded>()
        .on(vending::vend_requested)
        .post("/api/devices/{device_id}/status", http::status)
        .post("/api/devices/{device_id}/data", http::data)
        .post("/api/devices/{device_id}/credentials", credentials::give)
        .get("/api/devices/broker", credentials::files)
        .grpc(DeviceGatewayServer::new(rpc::Rpc), DESCRIPTORS);
    if mqtt.unwrap_or_default() {
        service.calls(vm::NAME).devices(mqtt::devices())
    } else {
        service
    }
}
