//! Making topics and groups.

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::stream::{self, DiscardPolicy, Info, StorageType};
use futures::{StreamExt, TryStreamExt};
use trunkline_bus::TopicSpec;
use trunkline_core::{Error, Result};

use crate::link::Link;
use crate::shared::{Shared, Topic, foreign, partitions, stream_info};
use crate::{consumers, error, names, store};

/// Consumers that are made at once.
const AT_ONCE: usize = 16;
/// A stream names each partition's subject.
const PARTITIONS_MAX: u16 = 1_024;
/// JetStream's code: a stream of this name is there, with another configuration.
const STREAM_EXISTS: u64 = 10_058;

pub(crate) async fn declare(shared: &Shared, topics: &[TopicSpec]) -> Result<()> {
    for spec in topics {
        spec.check()?;
        if spec.partitions > PARTITIONS_MAX {
            let error = Error::invalid("topic_invalid", "expected at most 1,024 partitions");
            return Err(error
                .with("topic", &spec.name)
                .with("found", spec.partitions));
        }
    }
    let link = shared.links.get().await?;
    for spec in topics {
        let known = {
            let declared = shared.declared.lock();
            declared
                .topics
                .get(&spec.name)
                .is_some_and(|known| known.is_same_topic(spec))
        };
        if !known {
            declare_topic(shared, &link, spec).await?;
        }
        declare_groups(shared, &link, spec).await?;
    }
    Ok(())
}

async fn declare_topic(shared: &Shared, link: &Link, spec: &TopicSpec) -> Result<()> {
    let topic = Topic::new(&shared.names, &spec.name, spec.partitions);
    let wanted = stream_config(shared, &topic, spec)?;
    let found = match stream_info(link, &topic.stream).await? {
        Some(info) => Some(info.config),
        None => create_stream(link, &wanted).await?,
    };
    if let Some(found) = found {
        match partitions(&shared.names, &spec.name, &found) {
            Some(count) if count == spec.partitions => {}
            Some(count) => {
                let message = "the topic exists with another number of partitions";
                let error = Error::conflict("topic_conflict", message).with("topic", &spec.name);
                return Err(error.with("expected", spec.partitions).with("found", count));
            }
            None => return Err(foreign(&spec.name, &found)),
        }
        if (found.max_age, found.max_bytes) != (wanted.max_age, wanted.max_bytes) {
            let changed = stream::Config {
                max_age: wanted.max_age,
                max_bytes: wanted.max_bytes,
                duplicate_window: shorter(found.duplicate_window, wanted.max_age),
                ..found
            };
            let subject = format!("STREAM.UPDATE.{}", topic.stream);
            let what = "change a stream's retention";
            link.demand::<Info>(what, subject, &changed).await?;
        }
    }
    shared.learn(&spec.name, spec.partitions);
    let mut declared = shared.declared.lock();
    declared.topics.insert(spec.name.clone(), spec.clone());
    Ok(())
}

/// Makes a stream; if it is there meanwhile, says how.
async fn create_stream(link: &Link, wanted: &stream::Config) -> Result<Option<stream::Config>> {
    let subject = format!("STREAM.CREATE.{}", wanted.name);
    match link.ask::<Info>("create a stream", subject, wanted).await? {
        Ok(_) => Ok(None),
        Err(refused) if refused.error_code().0 == STREAM_EXISTS => {
            Ok(stream_info(link, &wanted.name)
                .await?
                .map(|info| info.config))
        }
        Err(refused) => {
            let error = error::refused("create a stream", refused);
            Err(error.with("stream", &wanted.name))
        }
    }
}

fn stream_config(shared: &Shared, topic: &Topic, spec: &TopicSpec) -> Result<stream::Config> {
    let max_bytes = spec
        .retention_bytes
        .map_or(Ok(-1), i64::try_from)
        .map_err(|_| {
            Error::invalid(
                "topic_invalid",
                "expected a smaller number of bytes to keep",
            )
            .with("topic", &spec.name)
        })?;
    let max_age = spec.retention.unwrap_or_default();
    Ok(stream::Config {
        name: topic.stream.clone(),
        description: Some(format!("Trunkline: the topic {}", spec.name)),
        subjects: topic.subjects.iter().map(ToString::to_string).collect(),
        storage: StorageType::File,
        num_replicas: shared.config.replicas,
        discard: DiscardPolicy::Old,
        max_age,
        max_bytes,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        duplicate_window: shorter(shared.config.dedup_window, max_age),
        allow_direct: true,
        ..stream::Config::default()
    })
}

/// What is remembered against duplicates is remembered no longer than it is kept. The server takes zero for
/// its own default.
fn shorter(window: std::time::Duration, max_age: std::time::Duration) -> std::time::Duration {
    if max_age.is_zero() {
        window
    } else {
        window.min(max_age)
    }
}

async fn declare_groups(shared: &Shared, link: &Link, spec: &TopicSpec) -> Result<()> {
    let new: Vec<_> = {
        let declared = shared.declared.lock();
        let new = spec.groups.iter();
        let new = new.filter(|group| {
            !declared
                .groups
                .contains(&(spec.name.clone(), (*group).clone()))
        });
        new.cloned().collect()
    };
    if new.is_empty() {
        return Ok(());
    }
    ensure_records(shared, link).await?;
    let stream = shared.names.stream(&spec.name);
    let mut wanted = Vec::new();
    for group in &new {
        let group = names::group(group)?;
        for partition in 0..spec.partitions {
            let name = names::consumer(&group, partition);
            let subject = shared.names.partition(&spec.name, partition);
            wanted.push(consumers::durable(
                &shared.config,
                &name,
                subject,
                DeliverPolicy::All,
            ));
        }
    }
    let stream = &stream;
    let make = |config| async move { consumers::ensure(link, stream, &config).await };
    let made = futures::stream::iter(wanted.into_iter().map(make));
    made.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let mut declared = shared.declared.lock();
    for group in new {
        declared.groups.insert((spec.name.clone(), group));
    }
    Ok(())
}

/// Makes the stream of the groups' records.
pub(crate) async fn ensure_records(shared: &Shared, link: &Link) -> Result<()> {
    let config = store::config(&shared.names, &shared.config);
    if stream_info(link, &config.name).await?.is_none() {
        create_stream(link, &config).await?;
    }
    Ok(())
}
