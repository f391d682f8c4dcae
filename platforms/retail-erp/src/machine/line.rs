//! A machine's line to its MQTT broker: MQTT 5, a session that is kept, and a last will.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, Publish};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use serde::Serialize;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use trunkline::device::DeviceConfig;
use trunkline::{Error, Result};

/// So many of its messages may wait to be written.
const WAITING_MAX: usize = 64;
/// So many commands may be handed over and not acknowledged.
const COMMANDS_MAX: u16 = 16;
/// How often it shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the broker keeps its session, in seconds: a day.
const SESSION_SECONDS: u32 = 86_400;
/// The pause after the connection broke.
const PAUSE: Duration = Duration::from_millis(500);
/// How long what was said last may take to arrive.
const FAREWELL_WITHIN: Duration = Duration::from_secs(5);

/// Where a machine's broker is, and what it shows there.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Such as `mqtt://127.0.0.1:1883`.
    pub url: String,
    /// Its password, if the broker asks for one; its user is its name.
    pub password: Option<String>,
}

/// What comes by the line.
#[derive(Debug)]
pub(super) enum Heard {
    /// It is there, maybe again: what was said before may be lost.
    Connected,
    /// A command, and when it came.
    Command(Box<Publish>, Instant),
    /// The broker does not let the machine in.
    Refused(String),
}

/// The line.
#[derive(Debug)]
pub(super) struct Line {
    client: AsyncClient,
    machine_id: String,
    heard: Receiver<Heard>,
    /// What was said and not acknowledged, as far as this connection knows.
    unheard: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Line {
    /// Begins to connect, and goes on until it is dropped.
    pub(super) fn open(broker: &Broker, machine_id: &str) -> Result<Self> {
        let place = DeviceConfig::from_url(&broker.url, machine_id)?;
        if place.is_tls {
            let text = "the simulated machine speaks mqtt:// only";
            return Err(Error::invalid("machine_broker_invalid", text));
        }
        let mut options = MqttOptions::new(machine_id, &place.host, place.port);
        let presence = topic(machine_id, "presence");
        let will = LastWill::new(presence, "offline", QoS::AtLeastOnce, true, None);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(false)
            .set_session_expiry_interval(Some(SESSION_SECONDS))
            .set_receive_maximum(Some(COMMANDS_MAX))
            .set_manual_acks(true)
            .set_last_will(will);
        if let Some(password) = &broker.password {
            options.set_credentials(machine_id, password);
        }
        let (client, events) = AsyncClient::new(options, WAITING_MAX);
        let (into, heard) = mpsc::channel(usize::from(COMMANDS_MAX) + WAITING_MAX);
        let unheard = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let talk = Talk {
            client: client.clone(),
            commands: topic(machine_id, "commands"),
            into,
            unheard: unheard.clone(),
        };
        tasks.spawn(talk.run(events));
        Ok(Self {
            client,
            machine_id: machine_id.to_owned(),
            heard,
            unheard,
            tasks,
        })
    }

    /// What comes next.
    pub(super) async fn hear(&mut self) -> Result<Heard> {
        let heard = self.heard.recv().await;
        heard.ok_or_else(|| Error::internal("the line to the broker has ended"))
    }

    /// Says something that arrives at least once, unless the machine dies or the broker forgets its session.
    pub(super) async fn say(&self, what: &str, message: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(message);
        let text = text.map_err(|error| Error::internal("a report is JSON").with_source(error))?;
        self.publish(what, text, false).await
    }

    /// Says that it is there, or that it goes; the broker remembers it.
    pub(super) async fn say_presence(&self, word: &str) -> Result<()> {
        self.publish("presence", word.into(), true).await
    }

    async fn publish(&self, what: &str, payload: Vec<u8>, retain: bool) -> Result<()> {
        self.unheard.fetch_add(1, Ordering::AcqRel);
        let topic = topic(&self.machine_id, what);
        let said = self
            .client
            .publish(topic, QoS::AtLeastOnce, retain, payload);
        said.await
            .map_err(|error| Error::internal("the line has ended").with_source(error))
    }

    /// A command has been dealt with: it need not come again.
    pub(super) async fn acknowledge(&self, command: &Publish) -> Result<()> {
        let acknowledged = self.client.ack(command).await;
        acknowledged.map_err(|error| Error::internal("the line has ended").with_source(error))
    }

    /// Waits until all that was said has arrived, and hangs up.
    pub(super) async fn close(mut self) {
        let arrived = async {
            while self.unheard.load(Ordering::Acquire) > 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        // What did not arrive is said again at the next start.
        drop(timeout(FAREWELL_WITHIN, arrived).await);
        if self.client.disconnect().await.is_ok() {
            drop(timeout(FAREWELL_WITHIN, self.tasks.join_next()).await);
        }
    }
}

fn topic(machine_id: &str, what: &str) -> String {
    format!("devices/{machine_id}/{what}")
}

/// What runs on the line.
struct Talk {
    client: AsyncClient,
    commands: String,
    into: Sender<Heard>,
    unheard: Arc<AtomicUsize>,
}

impl Talk {
    async fn run(self, mut events: EventLoop) {
        loop {
            let heard = match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    self.unheard.store(0, Ordering::Release);
                    drop(self.client.try_subscribe(&self.commands, QoS::AtLeastOnce));
                    Heard::Connected
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    Heard::Command(Box::new(publish), Instant::now())
                }
                Ok(Event::Incoming(Packet::PubAck(_))) => {
                    let one_less = |count: usize| count.checked_sub(1);
                    let (set, get) = (Ordering::AcqRel, Ordering::Acquire);
                    self.unheard.fetch_update(set, get, one_less).ok();
                    continue;
                }
                Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
                Ok(_) => continue,
                Err(ConnectionError::ConnectionRefused(why)) => Heard::Refused(format!("{why:?}")),
                Err(_) => {
                    sleep(PAUSE).await;
                    continue;
                }
            };
            // There is room for more than the broker hands over unacknowledged; nobody listens at the end.
            if self.into.try_send(heard).is_err() && self.into.is_closed() {
                return;
            }
        }
    }
}
