//! Bringing the gateway of a service up.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use trunkline_bus::{Consumer, ConsumerConfig, ConsumerPorts};
use trunkline_core::{ByteString, Priority, Result};
use trunkline_device::{DeviceConfig, DeviceGateway, DevicePorts, Reply};
use trunkline_store::Migration;
use trunkline_telemetry::{Check, Health};

use super::book::Books;
use super::{Devices, commands};
use crate::alerts::Alerts;
use crate::config::DeviceSection;
use crate::events::{Reactions, reaction};
use crate::runtime::Runtime;

/// What is kept of devices, in the service's store.
pub(crate) const TABLES: &[Migration] = &[Migration {
    name: "trunkline/0001_devices",
    sql: "CREATE TABLE trunkline_device (device TEXT PRIMARY KEY, online BIGINT NOT NULL,
            cause TEXT NOT NULL, changed_at BIGINT NOT NULL);
          CREATE TABLE trunkline_device_command (id TEXT PRIMARY KEY, device TEXT NOT NULL,
            name TEXT NOT NULL, data TEXT NOT NULL, made_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL, next_at BIGINT NOT NULL, attempts BIGINT NOT NULL,
            open_now BIGINT NOT NULL, outcome TEXT, reason TEXT, settled_at BIGINT);
          CREATE INDEX trunkline_device_command_due ON trunkline_device_command (open_now, next_at, id);
          CREATE INDEX trunkline_device_command_by_device ON trunkline_device_command (device, open_now, id);
          CREATE INDEX trunkline_device_command_by_end ON trunkline_device_command (open_now, settled_at)",
}];

/// So many calls of the handlers run at once, each of other devices.
const HANDLERS_MAX: usize = 16;
/// With batches, one store with one writer: more would only wait for each other.
const BATCHES_MAX: usize = 3;
/// With batches, reports that come within this time share a transaction.
const GATHER: Duration = Duration::from_millis(25);

impl DeviceSection {
    /// The configuration of a service's gateway.
    ///
    /// # Errors
    /// `InvalidInput` for a broker that is no such URL.
    pub(crate) fn of(&self, service: &str) -> Result<DeviceConfig> {
        let client_id = self.client_id.clone().unwrap_or_else(|| service.to_owned());
        let mut config = DeviceConfig::from_url(&self.broker, client_id)?;
        if let Some(user) = &self.user {
            let password = self.password.clone().unwrap_or_default();
            config.credentials = Some((user.clone(), password));
        }
        config.ca = self.ca.clone();
        config.in_flight_max = self.in_flight_max;
        config.rate_per_second = self.rate_per_second;
        config.burst_max = self.burst_max;
        config.offline_after = Duration::from_millis(self.offline_after_ms);
        config.silence_max = Duration::from_secs(self.silence_max_seconds);
        config.answer_within = Duration::from_millis(self.answer_within_ms);
        config.commands_max = self.commands_max;
        Ok(config)
    }
}

/// Starts the gateway of a service, and the consumer of what comes by it.
pub(crate) async fn start(
    devices: Devices,
    runtime: &Arc<Runtime>,
    alerts: &Alerts,
    health: &Health,
) -> Result<(DeviceGateway, Consumer)> {
    let Devices {
        declared,
        mut reactions,
        ..
    } = devices;
    let mut config = runtime.config.devices.of(&runtime.name)?;
    let books = Arc::new(Books(runtime.clone()));
    let changed = runtime.devices.as_ref().map(|hub| hub.changed.clone());
    let ports = DevicePorts {
        service: runtime.name.clone(),
        presence: books.clone(),
        commands: books,
        commands_changed: changed.unwrap_or_default(),
        blameless: trunkline_store::is_away,
        env: runtime.env.clone(),
    };
    let batches: Option<Vec<usize>> = reactions.iter().map(|one| one.batch_max).collect();
    let batch_max = batches.and_then(|all| all.into_iter().max()).unwrap_or(1);
    if batch_max > 1 {
        config.gather = GATHER;
    }
    if declared.commands.is_some() {
        reactions.push(reaction::<Reply, _, _>(None, commands::replied));
    }
    let gateway = DeviceGateway::start(config, declared, ports).await?;
    health.register("devices", Arc::new(Linked(gateway.clone())));
    let group = ByteString::from(format!("{}.devices", runtime.name));
    let (topic, in_flight_max) = gateway.reads();
    let mut config = ConsumerConfig::new(group.clone()).topic(topic, &[Priority::Medium]);
    config.service = runtime.name.clone();
    config.batch_max = batch_max;
    config.handlers_max = if batch_max > 1 {
        BATCHES_MAX
    } else {
        HANDLERS_MAX
    };
    // Together no more than the broker hands over: then a device whose reports fail leaves room for the others.
    config.in_flight_max = (in_flight_max / 2).max(1);
    config.held_max = (in_flight_max / 2).max(1);
    let events = &runtime.config.events;
    config.retry.attempts_max = events.attempts_max;
    config.retry.initial = Duration::from_millis(events.retry_initial_ms);
    config.retry.max = Duration::from_millis(events.retry_max_ms);
    config.handler_timeout = Duration::from_millis(events.handler_timeout_ms);
    config.blameless = trunkline_store::is_away;
    let ports = ConsumerPorts {
        transport: Arc::new(gateway.transport()),
        handler: Arc::new(Reactions::new(group, runtime.clone(), &reactions)?),
        lot: alerts.over(runtime.store.parking_lot()),
        telemetry: runtime.telemetry.clone(),
        env: runtime.env.clone(),
    };
    let consumer = Consumer::start(config, ports).await?;
    Ok((gateway, consumer))
}

/// The gateway is well when it reaches its broker.
struct Linked(DeviceGateway);

impl Check for Linked {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(self.0.check()))
    }
}
