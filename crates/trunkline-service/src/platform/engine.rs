//! The engine of the bus, by its URL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trunkline_bus::memory::Memory;
use trunkline_bus::{Split, Transport};
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
    let of_a_process = |url: &&String| {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        matches!(scheme, "memory" | "log")
    };
    let mut engines = std::iter::once(&config.bus).chain(config.topics.values());
    let Some(bus) = engines.find(of_a_process) else {
        return Ok(());
    };
    let text = "parts of the platform run in processes of their own: expected a `bus` that these share, such as \
                redis://, amqp://, kafka:// or nats://";
    Err(Error::invalid("bus_not_shared", text).with("bus", bus))
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

/// Opens the bus that the configuration names, of one engine or several.
///
/// # Errors
/// `InvalidInput` for a URL of no engine, or of one that processes can't share where they have to, and for an engine of a topic
/// that the platform has not; what the engine says.
pub(super) async fn open(
    config: &Config,
    topics: &BTreeSet<&str>,
    env: &Env,
) -> Result<Arc<dyn Transport>> {
    if config.is_partial() {
        check_shared(config)?;
    }
    if let Some(unknown) = config.topics.keys().find(|name| !topics.contains(&***name)) {
        let known: Vec<&str> = topics.iter().copied().collect();
        let expected = format!("expected `[topics]` to name some of {}", known.join(", "));
        return Err(Error::invalid("topic_unknown", expected).with("found", unknown));
    }
    let main = open_one(&config.url(&config.bus, PLATFORM), env).await?;
    if config.topics.is_empty() {
        return Ok(main);
    }
    let mut opened: BTreeMap<&str, Arc<dyn Transport>> = BTreeMap::new();
    let mut split = Split::new(main);
    for (topic, template) in &config.topics {
        let engine = match opened.get(&**template) {
            Some(engine) => engine.clone(),
            None => open_one(&config.url(template, PLATFORM), env).await?,
        };
        opened.insert(template, engine.clone());
        split = split.topic(&**topic, engine);
    }
    Ok(Arc::new(split))
}

async fn open_one(url: &str, env: &Env) -> Result<Arc<dyn Transport>> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        "memory" => Ok(Arc::new(Memory::new(env.clone()))),
        "log" => {
            let (log, env) = (LogConfig::from_url(url)?, env.clone());
            // It reads files for as long as it takes.
            let opened = tokio::task::spawn_blocking(move || Log::open(log, env)).await;
            let opened = opened
                .map_err(|error| Error::internal("the log did not open").with_source(error))?;
            Ok(Arc::new(opened?))
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+pubsub" | "rediss+pubsub" => {
            use trunkline_redis::{Redis, RedisConfig};
            let config = RedisConfig::from_url(url)?;
            Ok(Arc::new(Redis::connect(config, env.clone()).await?))
        }
        #[cfg(feature = "kafka")]
        "kafka" => {
            use trunkline_kafka::KafkaConfig;
            let config = KafkaConfig::from_url(url)?;
            let kafka = trunkline_kafka::connect(config, env.clone()).await?;
            Ok(Arc::new(kafka))
        }
        #[cfg(feature = "nats")]
        "nats" | "tls" => {
            use trunkline_nats::{Nats, NatsConfig};
            let config = NatsConfig::from_url(url)?;
            Ok(Arc::new(Nats::connect(config, env.clone()).await?))
        }
        #[cfg(feature = "rabbitmq")]
        "amqp" | "amqps" => {
            use trunkline_rabbitmq::{RabbitConfig, RabbitMq};
            let config = RabbitConfig::from_url(url)?;
            Ok(Arc::new(RabbitMq::connect(config, env.clone()).await?))
        }
        _ => Err(unknown(scheme)),
    }
}

/// What the processes of one service share: what they send, and who is where.
pub(crate) struct Backbones {
    pub(crate) sent: Arc<dyn Backbone>,
    pub(crate) members: Arc<dyn Backbone>,
}

/// So much of who came and went is kept: whoever is further behind asks for all.
#[cfg(feature = "redis")]
const MEMBERS_KEPT: usize = 1_000;

/// What the processes of one service share for their rooms.
///
/// # Errors
/// `InvalidInput` for a URL or a name that it can't have; `Unsupported` in a program that was built without it.
#[cfg(feature = "redis")]
pub(super) fn backbones(url: &str, name: &str) -> Result<Backbones> {
    use trunkline_redis::RedisBackbone;
    let members = RedisBackbone::from_url(url, &format!("{name}.members"))?;
    Ok(Backbones {
        sent: Arc::new(RedisBackbone::from_url(url, name)?),
        members: Arc::new(members.keeping(MEMBERS_KEPT)),
    })
}

#[cfg(not(feature = "redis"))]
pub(super) fn backbones(_: &str, _: &str) -> Result<Backbones> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_is_of_a_topic_that_is_there_and_shared_where_the_bus_is() {
        let mut config = Config::default();
        config.bus = "memory:".to_owned();
        config
            .topics
            .insert("chat".to_owned(), "memory:".to_owned());
        let env = Env::system();
        let known = BTreeSet::from(["chat", "games"]);
        let bus = open(&config, &known, &env).await.unwrap();
        assert!(bus.capabilities().groups && !bus.capabilities().atomic_batch);
        let error = open(&config, &BTreeSet::from(["games"]), &env).await;
        assert_eq!(error.unwrap_err().code(), "topic_unknown");
        config.bus = "redis://127.0.0.1".to_owned();
        let error = check_shared(&config).unwrap_err();
        assert_eq!(error.code(), "bus_not_shared");
    }
}
