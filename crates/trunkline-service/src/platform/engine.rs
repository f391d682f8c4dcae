//! The engine of the bus, by its URL.

use std::sync::Arc;

use trunkline_bus::Transport;
use trunkline_bus::memory::Memory;
use trunkline_core::{Env, Error, ErrorKind, Result};
use trunkline_log::{Log, LogConfig};
use trunkline_realtime::Backbone;

use super::PLATFORM;
use crate::Config;

/// Checks that several processes can use the bus.
///
/// # Errors
/// `InvalidInput` for one that lives in a process.
pub(crate) fn check_shared(config: &Config) -> Result<()> {
    let scheme = config.bus.split_once(':').map_or("", |(scheme, _)| scheme);
    if !matches!(scheme, "memory" | "log") {
        return Ok(());
    }
    let text = "parts of the platform run in processes of their own: expected a `bus` that these share, such as \
                redis://, amqp://, kafka:// or nats://";
    Err(Error::invalid("bus_not_shared", text).with("bus", &config.bus))
}

/// Whether a second process can run the same services: what they keep is on servers.
pub(super) fn is_shared(config: &Config) -> bool {
    check_shared(config).is_ok() && config.store.starts_with("postgres")
}

/// Checks that a second process can run the same services for a while.
///
/// # Errors
/// `InvalidInput` for a bus that lives in a process, or stores that are files of one.
pub(super) fn check_beside(config: &Config) -> Result<()> {
    if is_shared(config) {
        return Ok(());
    }
    let text = "a process that is taken over runs beside the new one for a while: expected a `bus` and a `store` on servers, \
                such as redis:// and postgres://";
    Err(Error::invalid("take_over_not_shared", text)
        .with("bus", &config.bus)
        .with("store", &config.store))
}

/// Opens the bus that the configuration names.
///
/// # Errors
/// `InvalidInput` for a URL of no engine, or of one that processes can't share where they have to; what the engine says.
pub(super) async fn open(config: &Config, env: &Env) -> Result<Arc<dyn Transport>> {
    let url = config.url(&config.bus, PLATFORM);
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    if config.is_partial() {
        check_shared(config)?;
    }
    match scheme {
        "memory" => Ok(Arc::new(Memory::new(env.clone()))),
        "log" => {
            let (log, env) = (LogConfig::from_url(&url)?, env.clone());
            // It reads files for as long as it takes.
            let opened = tokio::task::spawn_blocking(move || Log::open(log, env)).await;
            let opened = opened
                .map_err(|error| Error::internal("the log did not open").with_source(error))?;
            Ok(Arc::new(opened?))
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+pubsub" | "rediss+pubsub" => {
            use trunkline_redis::{Redis, RedisConfig};
            let config = RedisConfig::from_url(&url)?;
            Ok(Arc::new(Redis::connect(config, env.clone()).await?))
        }
        #[cfg(feature = "kafka")]
        "kafka" => {
            use trunkline_kafka::KafkaConfig;
            let config = KafkaConfig::from_url(&url)?;
            let kafka = trunkline_kafka::connect(config, env.clone()).await?;
            Ok(Arc::new(kafka))
        }
        #[cfg(feature = "nats")]
        "nats" | "tls" => {
            use trunkline_nats::{Nats, NatsConfig};
            let config = NatsConfig::from_url(&url)?;
            Ok(Arc::new(Nats::connect(config, env.clone()).await?))
        }
        #[cfg(feature = "rabbitmq")]
        "amqp" | "amqps" => {
            use trunkline_rabbitmq::{RabbitConfig, RabbitMq};
            let config = RabbitConfig::from_url(&url)?;
            Ok(Arc::new(RabbitMq::connect(config, env.clone()).await?))
        }
        _ => Err(unknown(scheme)),
    }
}

/// What the processes of one service share for their rooms.
///
/// # Errors
/// `InvalidInput` for a URL or a name that it can't have; `Unsupported` in a program that was built without it.
#[cfg(feature = "redis")]
pub(super) fn backbone(url: &str, name: &str) -> Result<Arc<dyn Backbone>> {
    Ok(Arc::new(trunkline_redis::RedisBackbone::from_url(
        url, name,
    )?))
}

#[cfg(not(feature = "redis"))]
pub(super) fn backbone(_: &str, _: &str) -> Result<Arc<dyn Backbone>> {
    let text = "this program was built without Redis; build it with the feature `redis`";
    Err(Error::new(
        ErrorKind::Unsupported,
        "backbone_not_built",
        text,
    ))
}

/// The engines beyond this process, and whether this program has each.
const ENGINES: [(&str, bool); 4] = [
    ("redis", cfg!(feature = "redis")),
    ("amqp", cfg!(feature = "rabbitmq")),
    ("kafka", cfg!(feature = "kafka")),
    ("nats", cfg!(feature = "nats")),
];

#[cold]
fn unknown(scheme: &str) -> Error {
    let is_known = ENGINES.iter().any(|(name, _)| scheme.starts_with(name));
    if is_known {
        let text =
            "this program was built without this engine; build it with the feature of its name";
        return Error::new(ErrorKind::Unsupported, "bus_not_built", text).with("bus", scheme);
    }
    let built = ENGINES.iter().filter(|(_, built)| *built);
    let built: String = built.map(|(name, _)| format!(", {name}://HOST")).collect();
    let expected = format!("expected `bus` to be memory: or log:FOLDER{built}");
    Error::invalid("bus_unknown", expected).with("found", scheme)
}
