//! Devices over MQTT: typed reports, presence, and commands with acknowledgement.
//!
//! A [`DeviceGateway`] keeps one session at a broker. What devices report is checked at its gate and goes, as deliveries of a
//! [`DeviceTransport`], to a consumer of the bus, which brings order per device, retries and dead letters with it; a
//! message is acknowledged to the broker when its handler has committed. [`PresenceBook`] and [`CommandBook`] say what has
//! to be kept for presence and commands; `trunkline-service` keeps it in the service's store.

mod command;
mod config;
mod declare;
mod gate;
mod gateway;
mod limit;
mod link;
pub mod mosquitto;
mod pattern;
mod presence;
mod recent;
mod refusal;

pub use command::{CommandBook, CommandSettled, DeviceCommand, Outcome, Pending, Reply};
pub use config::DeviceConfig;
pub use declare::{CommandTopics, Declared, DeviceTopic, Known as KnownDevices, Report};
pub use gateway::{DeviceGateway, DevicePorts, capture};
pub use link::DeviceTransport;
pub use pattern::{Pattern, is_name};
pub use presence::{Cause, Known, PresenceBook, PresenceChanged};
pub use refusal::{Refusal, RefusalHook, Refused};
