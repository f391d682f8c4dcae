//! The connection to the broker: one session, kept over as many connections as it takes.

mod connect;
mod inbox;
mod sub;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;
use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};
use tokio::sync::{Notify, watch};
use trunkline_bus::{Delivery, Receipt, Settlement, Settler};
use trunkline_core::{Env, Error, ErrorKind, Result, report};

use crate::command::Pending;
use crate::command::sender::{Outlet, Sender};
use crate::declare::CommandTopics;
use crate::gate::{Arrival, Gate, Taken};
use crate::presence::watch::Watch;
use crate::refusal::Refusal;
use crate::{Declared, DeviceConfig};

use inbox::Inbox;

pub use sub::DeviceTransport;

/// So many commands may wait to be written to the broker; one more is sent later.
const PUBLISHES_MAX: usize = 256;

/// What the gateway's parts share.
pub(crate) struct Link {
    pub(crate) config: DeviceConfig,
    pub(crate) filters: Vec<String>,
    pub(crate) service: ByteString,
    inbox: Mutex<Inbox>,
    wake: Notify,
    /// Something was settled.
    settled: Notify,
    /// The connection is to be made anew.
    renew: Notify,
    /// Whether the broker is reached.
    up: watch::Sender<bool>,
    client: Mutex<Option<AsyncClient>>,
    publishes: AtomicUsize,
    pub(crate) watch: Option<Arc<Watch>>,
    pub(crate) sender: Option<Arc<Sender>>,
    meters: Meters,
    pub(crate) env: Env,
}

struct Meters {
    taken: Counter,
    up: Gauge,
    connections: Counter,
}

impl Link {
    pub(crate) fn new(
        config: DeviceConfig,
        declared: &Declared,
        service: ByteString,
        parts: (Option<Arc<Watch>>, Option<Arc<Sender>>),
        env: Env,
    ) -> Self {
        let label = [("service", service.to_string())];
        let meters = Meters {
            taken: counter!("trunkline_device_messages_taken_total", &label),
            up: gauge!("trunkline_device_broker_up", &label),
            connections: counter!("trunkline_device_connections_total", &label),
        };
        Self {
            config,
            filters: declared.filters(),
            service,
            inbox: Mutex::default(),
            wake: Notify::new(),
            settled: Notify::new(),
            renew: Notify::new(),
            up: watch::Sender::new(false),
            client: Mutex::default(),
            publishes: AtomicUsize::new(0),
            watch: parts.0,
            sender: parts.1,
            meters,
            env,
        }
    }

    /// Whether the broker is reached, as it changes.
    pub(crate) fn ups(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    fn set_up(&self, is_up: bool) {
        self.meters.up.set(if is_up { 1.0 } else { 0.0 });
        let changed = self
            .up
            .send_if_modified(|up| std::mem::replace(up, is_up) != is_up);
        if !changed {
            return;
        }
        if let Some(watch) = &self.watch {
            watch.linked(is_up);
        }
        if let (Some(sender), true) = (&self.sender, is_up) {
            sender.linked();
        }
    }

    /// A connection begins.
    fn began(&self, client: AsyncClient) {
        self.publishes.store(0, Ordering::Release);
        self.meters.connections.increment(1);
        *self.client.lock() = Some(client);
    }

    /// The connection has ended.
    fn ended(&self) {
        *self.client.lock() = None;
        self.inbox.lock().ended();
        self.set_up(false);
    }

    /// Waits until a connection may bring more.
    async fn has_room(&self) {
        loop {
            let settled = self.settled.notified();
            if self.inbox.lock().has_room(self.config.in_flight_max.into()) {
                return;
            }
            settled.await;
        }
    }

    fn close(&self) {
        self.inbox.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// A message came.
    fn arrived(&self, gate: &mut Gate, arrival: &Arrival) {
        let (device, taken) = match gate.admit(arrival) {
            Ok(taken) => taken,
            Err(reason) => {
                self.refused(reason);
                return self.acknowledge(arrival.packet);
            }
        };
        self.meters.taken.increment(1);
        if let (Some(watch), false) = (&self.watch, arrival.retained) {
            watch.heard(&device);
        }
        match taken {
            Taken::Presence { online, retained } => {
                if let Some(watch) = &self.watch {
                    watch.said(&device, online, retained);
                }
                if let (Some(sender), true) = (&self.sender, online) {
                    sender.rouse(&device);
                }
                // The broker remembers it: should we forget it now, we read it again.
                self.acknowledge(arrival.packet);
            }
            Taken::Event(envelope) => {
                let mut inbox = self.inbox.lock();
                // Of those that are acknowledged the broker hands over only so many.
                let is_full = !inbox.has_room(self.config.in_flight_max.into());
                if arrival.packet == 0 && is_full {
                    drop(inbox);
                    let detail = "sent with QoS 0, and too much waits".to_owned();
                    gate.tell(Some(device), &arrival.topic, Refusal::NoRoom, detail);
                    return self.refused(Refusal::NoRoom);
                }
                inbox.push(arrival.packet, envelope, arrival.again);
                drop(inbox);
                self.wake.notify_one();
            }
        }
    }

    fn refused(&self, reason: Refusal) {
        let labels = [
            ("service", self.service.to_string()),
            ("reason", reason.to_string()),
        ];
        counter!("trunkline_device_messages_refused_total", &labels).increment(1);
    }

    /// Acknowledges a message of the connection at hand.
    fn acknowledge(&self, packet: u16) {
        if packet == 0 {
            return;
        }
        let publish = Publish {
            qos: QoS::AtLeastOnce,
            pkid: packet,
            ..Publish::default()
        };
        let acknowledged = match &*self.client.lock() {
            Some(client) => client.try_ack(&publish).is_ok(),
            None => return,
        };
        if !acknowledged {
            // There is room for all that are handed over, so this is a broker that breaks its word.
            self.renew.notify_one();
        }
    }

    /// Gives out what came, at most `max`; none when there is nothing, an empty batch when all has ended.
    fn take(self: &Arc<Self>, max: usize) -> Option<Vec<Delivery>> {
        let mut inbox = self.inbox.lock();
        if inbox.is_closed {
            return Some(Vec::new());
        }
        let taken = inbox.take(max);
        drop(inbox);
        let settler: Arc<dyn Settler> = self.clone();
        let deliveries = taken.into_iter().map(|(token, envelope, again)| Delivery {
            envelope: *envelope,
            offset: 0,
            partition: 0,
            redeliveries: again.into(),
            unreadable: None,
            receipt: Receipt::new(settler.clone(), token),
        });
        Some(deliveries.collect()).filter(|all: &Vec<_>| !all.is_empty())
    }
}

impl Settler for Link {
    fn settle(&self, token: u64, how: Settlement) {
        let packets = self.inbox.lock().settle(token);
        self.settled.notify_one();
        match how {
            Settlement::Ack => packets
                .into_iter()
                .for_each(|packet| self.acknowledge(packet)),
            // Only a new connection makes the broker hand it over again.
            Settlement::Retry(_) if !packets.is_empty() => self.renew.notify_one(),
            Settlement::Retry(_) => {}
        }
    }
}

impl Outlet for Link {
    fn is_linked(&self) -> bool {
        *self.up.borrow()
    }

    fn is_reachable(&self, device: &str) -> bool {
        let watch = self.watch.as_ref();
        watch.is_none_or(|watch| watch.is_reachable(device))
    }

    fn send(&self, topics: &CommandTopics, command: &Pending, left: Duration) -> Result<()> {
        let seconds = left.as_secs().saturating_add(1);
        let properties = PublishProperties {
            message_expiry_interval: Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
            response_topic: Some(topics.replies.of_device(&command.device)),
            correlation_data: Some(command.id.as_bytes().clone()),
            content_type: Some("application/json".to_owned()),
            ..PublishProperties::default()
        };
        let busy = || {
            let text = "too many commands wait to be written to the broker";
            Error::new(ErrorKind::Overloaded, "device_broker_busy", text)
        };
        let waiting = self.publishes.fetch_add(1, Ordering::AcqRel);
        let topic = topics.commands.of_device(&command.device);
        let sent = match &*self.client.lock() {
            Some(client) if waiting < PUBLISHES_MAX => client
                .try_publish_with_properties(
                    topic,
                    QoS::AtLeastOnce,
                    false,
                    command.payload()?,
                    properties,
                )
                .map_err(|error| busy().with_source(error)),
            _ => Err(busy()),
        };
        if let Err(error) = &sent {
            self.publishes.fetch_sub(1, Ordering::AcqRel);
            tracing::debug!(device = &*command.device, error = %report(error), "a command waits");
        }
        sent
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("config", &self.config)
            .field("up", &*self.up.borrow())
            .finish_non_exhaustive()
    }
}
