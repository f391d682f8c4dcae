//! The conformance suite over an engine of the user's own.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use trunkline_bus::Transport;
use trunkline_core::{Env, Error, Result};
use trunkline_kafka::{Kafka, KafkaConfig};
use trunkline_nats::{Nats, NatsConfig};
use trunkline_rabbitmq::{RabbitConfig, RabbitMq};
use trunkline_redis::{Redis, RedisConfig};
use trunkline_testkit::conformance::{Engine, conform};

use crate::args::Conform;

/// A place of its own on the engine: names with a prefix that nobody else has.
struct Place(String);

impl Engine for Place {
    fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
        open(&self.0, env).boxed()
    }
}

async fn open(url: &str, env: Env) -> Result<Arc<dyn Transport>> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    Ok(match scheme {
        "redis" | "rediss" | "redis+pubsub" | "rediss+pubsub" => {
            Arc::new(Redis::connect(RedisConfig::from_url(url)?, env).await?)
        }
        "amqp" | "amqps" => Arc::new(RabbitMq::connect(RabbitConfig::from_url(url)?, env).await?),
        "kafka" => {
            let kafka: Kafka = trunkline_kafka::connect(KafkaConfig::from_url(url)?, env).await?;
            Arc::new(kafka)
        }
        "nats" | "tls" => Arc::new(Nats::connect(NatsConfig::from_url(url)?, env).await?),
        _ => {
            let text = "expected redis://…, amqp://…, kafka://… or nats://…";
            return Err(Error::invalid("engine_unknown", text).with("found", scheme));
        }
    })
}

/// Runs the suite; what it shows is each case and how it ended.
pub(crate) fn run(conform_to: Conform) -> ExitCode {
    static PLACES: AtomicUsize = AtomicUsize::new(0);
    let url = conform_to.to;
    let scheme = url.split_once(':').map_or("engine", |(scheme, _)| scheme);
    let name = scheme.to_owned();
    let prefix = format!("conform-{:08x}", Env::system().random_u64() >> 32);
    eprintln!("Topics whose names begin with {prefix} are made, and stay on the server.");
    let joint = if url.contains('?') { '&' } else { '?' };
    let fresh = move || {
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        Place(format!("{url}{joint}prefix={prefix}-{number}."))
    };
    conform(&name, fresh, conform_to.case)
}
