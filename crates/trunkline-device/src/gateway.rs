//! The gateway: everything above, put together and run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trunkline_core::{Env, Envelope, Error, Result};

use crate::command::CommandBook;
use crate::command::sender::{Outlet, Sender};
use crate::gate::{Gate, TOPIC};
use crate::link::{DeviceTransport, Link};
use crate::presence::PresenceBook;
use crate::presence::watch::Watch;
use crate::{Declared, DeviceConfig};

/// How long the farewell to the broker and the last announcement may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What the gateway stands on.
#[derive(Clone)]
pub struct DevicePorts {
    /// The service whose gateway it is.
    pub service: ByteString,
    /// Where presence is kept, if devices say it.
    pub presence: Arc<dyn PresenceBook>,
    /// Where commands are kept, if there are any.
    pub commands: Arc<dyn CommandBook>,
    /// Told when commands were added, or have ended.
    pub commands_changed: Arc<Notify>,
    /// Which errors of these are nobody's fault, such as a store that is away.
    pub blameless: fn(&Error) -> bool,
    /// Clock, randomness and ids.
    pub env: Env,
}

impl fmt::Debug for DevicePorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevicePorts")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// A gateway between devices and a service, over an MQTT broker. Cheap to clone.
///
/// # Guarantees
/// A message that the broker took with QoS 1 is acknowledged to it when its handler has committed or its dead letter is kept,
/// or when it is refused; until then the broker hands it over again. Messages of one device are handled in order, one at a
/// time, and devices side by side.
#[derive(Clone)]
pub struct DeviceGateway(Arc<Running>);

struct Running {
    link: Arc<Link>,
    stop: CancellationToken,
    /// Presence and commands end before the connection does.
    parts: Mutex<JoinSet<()>>,
    connection: Mutex<JoinSet<()>>,
    connection_stop: CancellationToken,
}

impl DeviceGateway {
    /// Starts to connect, and goes on by itself from then on: a broker that is away is no error.
    ///
    /// # Errors
    /// `InvalidInput` for a configuration or topics that can't work; what the book of presence says.
    pub async fn start(
        config: DeviceConfig,
        declared: Declared,
        ports: DevicePorts,
    ) -> Result<Self> {
        config.check()?;
        let gate = Gate::new(declared.clone(), &config, ports.env.clone())?;
        let watch = match &declared.presence {
            None => None,
            Some(_) => {
                let (book, env) = (ports.presence.clone(), ports.env.clone());
                let watch = Watch::new(&config, book, ports.blameless, env);
                watch.load().await?;
                Some(Arc::new(watch))
            }
        };
        let sender = declared.commands.clone().map(|topics| {
            let (book, env) = (ports.commands.clone(), ports.env.clone());
            let wake = ports.commands_changed.clone();
            Arc::new(Sender::new(topics, book, (env, wake), config.answer_within))
        });
        let parts = (watch.clone(), sender.clone());
        let link = Link::new(config, &declared, ports.service, parts, ports.env);
        let link = Arc::new(link);
        let (stop, connection_stop) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        if let Some(watch) = watch {
            let stop = stop.clone();
            tasks.spawn(async move { watch.run(stop).await });
        }
        if let Some(sender) = sender {
            let (stop, outlet) = (stop.clone(), link.clone());
            tasks.spawn(async move { sender.run(&*outlet, stop).await });
        }
        let mut connection = JoinSet::new();
        connection.spawn(link.clone().run(gate, connection_stop.clone()));
        Ok(Self(Arc::new(Running {
            link,
            stop,
            parts: Mutex::new(tasks),
            connection: Mutex::new(connection),
            connection_stop,
        })))
    }

    /// What a consumer subscribes to.
    pub fn transport(&self) -> DeviceTransport {
        DeviceTransport(self.0.link.clone())
    }

    /// The topic that the consumer names, and the most messages that may be out at once.
    pub fn reads(&self) -> (&'static str, usize) {
        (TOPIC, self.0.link.config.in_flight_max.into())
    }

    /// Whether the broker is reached, as it changes.
    pub fn is_linked(&self) -> tokio::sync::watch::Receiver<bool> {
        self.0.link.ups()
    }

    /// Whether the broker is reached: for health checks.
    ///
    /// # Errors
    /// `Unavailable` when it is not.
    pub fn check(&self) -> Result<()> {
        if self.0.link.is_linked() {
            return Ok(());
        }
        let text = "the devices' broker can't be reached";
        Err(Error::unavailable("device_broker_away", text))
    }

    /// Ends presence and commands, then acknowledges what was handled and says farewell to the broker, which keeps what
    /// comes meanwhile. The consumer ends before.
    pub async fn stop(&self) {
        let mut parts = std::mem::take(&mut *self.0.parts.lock());
        self.0.stop.cancel();
        let ended = async { while parts.join_next().await.is_some() {} };
        if timeout(STOP_WITHIN, ended).await.is_err() {
            parts.shutdown().await;
        }
        let mut connection = std::mem::take(&mut *self.0.connection.lock());
        self.0.connection_stop.cancel();
        let ended = async { while connection.join_next().await.is_some() {} };
        if timeout(STOP_WITHIN, ended).await.is_err() {
            connection.shutdown().await;
        }
    }
}

impl fmt::Debug for DeviceGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeviceGateway").field(&self.0.link).finish()
    }
}

/// What a capture of the topic stands for, by which a report came: `capture(&event.envelope, "machine_id")`.
pub fn capture(envelope: &Envelope, name: &str) -> Option<String> {
    serde_json::from_str(envelope.extension(name)?).ok()
}
