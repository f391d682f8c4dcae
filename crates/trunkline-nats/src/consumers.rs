//! The server's consumers: a durable one for each group and partition, and one that is gone with its reader.

use std::time::Duration;

use async_nats::jetstream::consumer::{
    self, AckPolicy, Consumer, DeliverPolicy, Info, IntoConsumerConfig, pull,
};
use serde::Serialize;
use serde_json::{Value, json};
use trunkline_core::Result;

use crate::config::NatsConfig;
use crate::error;
use crate::link::Link;

/// How long a pull request stays, and how often the server shows meanwhile that it lives, at most.
const EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT_MAX: Duration = Duration::from_secs(5);
/// How long the consumer of a reader that asks for nothing is kept.
const READER_IDLE_MAX: Duration = Duration::from_secs(300);
/// A pull request's messages and bytes, at most.
const PULL_MAX: usize = 1_024;
const PULL_BYTES: usize = 8 << 20;
/// JetStream's code: the consumer is there, with another configuration.
const EXISTS: u64 = 10_148;

#[derive(Serialize)]
struct Create<'a> {
    stream_name: &'a str,
    config: consumer::Config,
    action: &'a str,
}

/// A request to make a consumer, and its subject.
fn creation<'a>(stream: &'a str, config: &pull::Config) -> (String, Create<'a>) {
    let name = config.name.as_deref().unwrap_or_default();
    let subject = format!("CONSUMER.CREATE.{stream}.{name}.{}", config.filter_subject);
    let create = Create {
        stream_name: stream,
        config: config.into_consumer_config(),
        action: "create",
    };
    (subject, create)
}

/// A group's consumer of a partition.
pub(crate) fn durable(
    config: &NatsConfig,
    name: &str,
    subject: String,
    deliver_policy: DeliverPolicy,
) -> pull::Config {
    pull::Config {
        durable_name: Some(name.to_owned()),
        name: Some(name.to_owned()),
        deliver_policy,
        // One acknowledgement settles all before it: see `cursor`.
        ack_policy: AckPolicy::All,
        ack_wait: config.ack_wait,
        max_deliver: -1,
        max_ack_pending: i64::try_from(config.ack_pending_max).unwrap_or(i64::MAX),
        filter_subject: subject,
        ..pull::Config::default()
    }
}

/// A consumer of all partitions, for one who belongs to no group.
pub(crate) fn reader(name: String, subject: String, deliver_policy: DeliverPolicy) -> pull::Config {
    pull::Config {
        name: Some(name),
        deliver_policy,
        ack_policy: AckPolicy::None,
        filter_subject: subject,
        inactive_threshold: READER_IDLE_MAX,
        num_replicas: 1,
        memory_storage: true,
        ..pull::Config::default()
    }
}

pub(crate) async fn create(link: &Link, stream: &str, config: &pull::Config) -> Result<Info> {
    let (subject, request) = creation(stream, config);
    link.demand("create a consumer", subject, &request).await
}

/// Makes a consumer that may be there already, however far it has come.
pub(crate) async fn ensure(link: &Link, stream: &str, config: &pull::Config) -> Result<()> {
    let (subject, request) = creation(stream, config);
    let answer = link
        .ask::<Info>("create a consumer", subject, &request)
        .await?;
    match answer {
        Ok(_) => Ok(()),
        Err(refused) if refused.error_code().0 == EXISTS => Ok(()),
        Err(refused) => Err(error::refused("create a consumer", refused)),
    }
}

pub(crate) async fn info(link: &Link, stream: &str, name: &str) -> Result<Option<Info>> {
    let subject = format!("CONSUMER.INFO.{stream}.{name}");
    match link.ask("read a consumer", subject, &json!({})).await? {
        Ok(info) => Ok(Some(info)),
        Err(refused) if refused.code() == 404 => Ok(None),
        Err(refused) => Err(error::refused("read a consumer", refused)),
    }
}

/// Deletes a consumer; pull requests that wait on it end.
pub(crate) async fn delete(link: &Link, stream: &str, name: &str) -> Result<()> {
    let subject = format!("CONSUMER.DELETE.{stream}.{name}");
    match link
        .ask::<Value>("delete a consumer", subject, &json!({}))
        .await?
    {
        Err(refused) if refused.code() != 404 => Err(error::refused("delete a consumer", refused)),
        _ => Ok(()),
    }
}

/// Pulls from a consumer, at most `batch` ahead.
pub(crate) async fn pull(
    link: &Link,
    config: pull::Config,
    info: consumer::Info,
    batch: usize,
) -> Result<pull::Stream> {
    // A message larger than what a pull takes would never come.
    let bytes = PULL_BYTES.max(link.client.max_payload().saturating_mul(2));
    let consumer = Consumer::new(config, info, link.js.clone());
    let pulling = consumer
        .stream()
        .max_messages_per_batch(batch.clamp(1, PULL_MAX))
        .max_bytes_per_batch(bytes)
        .expires(EXPIRES)
        .heartbeat(HEARTBEAT_MAX.min(link.timeout / 2))
        .messages();
    let opened = link.within("pull from a consumer", pulling).await?;
    opened.map_err(|error| error::lost().with_source(error))
}
