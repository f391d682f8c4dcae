//! The configuration: one file, every value overridable by an environment variable.

mod discovery;
mod load;
pub(crate) mod place;
mod realtime;
mod section;
mod secure;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use trunkline_call::policy::Policies;
use trunkline_security::KeyringConfig;
use trunkline_telemetry::Format;

pub use discovery::Finding;
pub(crate) use discovery::scheme;
use load::Source;
pub use realtime::RealtimeSection;
pub use secure::{Tls, Tokens};

/// How a platform runs. A value that is not given has the default named with it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The folder for everything that is kept: `data`.
    pub data: PathBuf,
    /// The engine of the bus, by its URL: `log:{data}/bus`. `memory:` keeps nothing.
    pub bus: String,
    /// Topics that have another engine than the bus, by its URL: none. `chat = "redis+pubsub://…"` is for events that are worth
    /// hearing now or never.
    pub topics: BTreeMap<String, String>,
    /// The store of each service, by its URL: `sqlite:{data}/{service}.db`, or
    /// `postgres://user@host/database?schema={service}`.
    pub store: String,
    /// What runs in this process: names of services, and `gateway` for the gateway with the trail and the console.
    /// Empty, as it is by default: everything that has no `url`.
    #[serde(deserialize_with = "place::names")]
    pub run: Vec<String>,
    /// Whether the addresses of the processes that run the same now are taken over, which end in order when this one is up:
    /// no. It needs a bus and stores that processes share, and the same data folder.
    pub take_over: bool,
    /// The gateway.
    pub gateway: Gateway,
    /// The admin address.
    pub admin: Admin,
    /// How events are handled.
    pub events: Events,
    /// Where the keys are that seal the data of events; needed where an event is declared as encrypted.
    pub keys: Option<KeyringConfig>,
    /// Certificates between processes; none by default.
    pub tls: Option<Tls>,
    /// Tokens between processes, where they are to come without certificates, or their keys lie elsewhere.
    pub identity: Option<Tokens>,
    /// Log lines.
    pub log: Log,
    /// Traces.
    pub telemetry: Traces,
    /// Where the devices' broker is, and what devices may do.
    pub devices: DeviceSection,
    /// How browsers are reached.
    pub realtime: RealtimeSection,
    /// Who is told of dead letters.
    pub alerts: Alerts,
    /// How long each step of a shutdown may take, in seconds: 10.
    pub shutdown_seconds: u64,
    /// How long the trail keeps events, in days: 30.
    pub trail_days: u64,
    /// How many events the trail keeps: 1,000,000.
    pub trail_events_max: u64,
    /// How services are found of which nothing else is said, and where those that run here are registered.
    pub discovery: Finding,
    /// A section for each service, by its name. `url`, `urls` or `discover` in it say where other processes find it,
    /// and `listen` where it listens for them in the process that runs it.
    pub service: BTreeMap<String, toml::Table>,
    /// Where services outside the platform are, by name.
    pub external: BTreeMap<String, ExternalAddress>,
    /// How services are called: a section for each target, and in it one for each of its operations. Read again on
    /// SIGHUP.
    pub call: Policies,
    /// What it was read from.
    #[serde(skip)]
    source: Source,
}

/// The gateway.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Gateway {
    /// Where it listens: `127.0.0.1:8000`.
    pub address: SocketAddr,
    /// Where it listens for TLS, by the certificates of its configuration; nowhere without.
    pub tls_address: Option<SocketAddr>,
    /// Kong's file, which it goes by instead of what the platform declares, and which is followed.
    pub file: Option<PathBuf>,
    /// Whether changes by its admin API are written back to the file.
    pub write_back: bool,
}

/// The admin address.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Admin {
    /// Where it listens: `127.0.0.1:9900`.
    pub address: SocketAddr,
    /// The token that it asks for; needed when it listens beyond loopback.
    pub token: Option<String>,
}

/// How events are handled.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Events {
    /// How often an event is handled before it becomes a dead letter, the first time included: 3.
    pub attempts_max: u32,
    /// The longest pause after the first failure, in milliseconds: 1,000. It doubles with each failure.
    pub retry_initial_ms: u64,
    /// The longest pause at all, in milliseconds: 10,000.
    pub retry_max_ms: u64,
    /// How long handling one event may take, in milliseconds: 30,000.
    pub handler_timeout_ms: u64,
    /// How often a dead letter is replayed by itself, where its service wants that: 5.
    pub recoveries_max: u32,
    /// The pause before the first time, in milliseconds: 30,000. It doubles with each.
    pub recovery_initial_ms: u64,
    /// The longest such pause, in milliseconds: 3,600,000.
    pub recovery_max_ms: u64,
    /// In how many parts each topic is kept, and so how many processes can share the work of one service: 1. It can't
    /// be changed once the topics are there.
    pub partitions: u16,
}

/// Log lines.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Log {
    /// `human` or `json`.
    pub format: Format,
    /// Which lines: `warn`.
    pub filter: String,
}

/// Traces.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Traces {
    /// The collector that takes spans by OTLP over HTTP, such as `http://127.0.0.1:4318`; none by default.
    pub otlp: Option<String>,
}

/// Who is told of dead letters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Alerts {
    /// Gets a POST with JSON for each key that is parked and each decision about a dead letter, such as `http://127.0.0.1:9093/alerts`; at
    /// least once, also after a kill; none by default.
    pub webhook: Option<String>,
}

/// Where the devices' broker is, and what devices may do. For programs with the feature `device`.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeviceSection {
    /// The MQTT broker: `mqtt://127.0.0.1:1883`, or `mqtts://…`.
    pub broker: String,
    /// The gateway's user there.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// A PEM file of the authorities that are trusted, for `mqtts://`.
    pub ca: Option<PathBuf>,
    /// The name of its session there: the service's name.
    pub client_id: Option<String>,
    /// How many messages the broker hands over before one is acknowledged: 1,024.
    pub in_flight_max: u16,
    /// How many messages a second one device may send: 5.
    pub rate_per_second: u32,
    /// How many it may send at once: 50.
    pub burst_max: u32,
    /// How long a device is away before that is told, in milliseconds: 5,000.
    pub offline_after_ms: u64,
    /// How long a device may be silent before it is taken to be away, in seconds: 900.
    pub silence_max_seconds: u64,
    /// How soon a command without an answer is sent again, in milliseconds: 10,000. It doubles each time.
    pub answer_within_ms: u64,
    /// How many commands of one device may wait: 64.
    pub commands_max: u32,
}

impl Default for DeviceSection {
    fn default() -> Self {
        Self {
            broker: "mqtt://127.0.0.1:1883".to_owned(),
            user: None,
            password: None,
            ca: None,
            client_id: None,
            in_flight_max: 1_024,
            rate_per_second: 5,
            burst_max: 50,
            offline_after_ms: 5_000,
            silence_max_seconds: 900,
            answer_within_ms: 10_000,
            commands_max: 64,
        }
    }
}

impl fmt::Debug for DeviceSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceSection")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A service outside the platform.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ExternalAddress {
    /// Where it is: `http://host:port`.
    pub url: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            bus: "log:{data}/bus".to_owned(),
            topics: BTreeMap::new(),
            store: "sqlite:{data}/{service}.db".to_owned(),
            run: Vec::new(),
            take_over: false,
            gateway: Gateway::default(),
            admin: Admin::default(),
            events: Events::default(),
            keys: None,
            tls: None,
            identity: None,
            log: Log::default(),
            telemetry: Traces::default(),
            devices: DeviceSection::default(),
            realtime: RealtimeSection::default(),
            alerts: Alerts::default(),
            shutdown_seconds: 10,
            trail_days: 30,
            trail_events_max: 1_000_000,
            discovery: Finding::default(),
            service: BTreeMap::new(),
            external: BTreeMap::new(),
            call: Policies::default(),
            source: Source::default(),
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8000)),
            tls_address: None,
            file: None,
            write_back: false,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9900)),
            token: None,
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            retry_initial_ms: 1_000,
            retry_max_ms: 10_000,
            handler_timeout_ms: 30_000,
            recoveries_max: 5,
            recovery_initial_ms: 30_000,
            recovery_max_ms: 3_600_000,
            partitions: 1,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: Format::Human,
            filter: "warn".to_owned(),
        }
    }
}

impl Config {
    /// A URL with `{data}` and `{service}` filled in.
    pub(crate) fn url(&self, template: &str, service: &str) -> String {
        template
            .replace("{data}", &self.data.display().to_string())
            .replace("{service}", service)
    }
}
