//! Reading without a group: a consumer for each topic that is gone with its reader.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use trunkline_bus::{Start, Subscribe};
use trunkline_core::{Error, Result, Timestamp};

use super::{Named, first};
use crate::cursor::Cursor;
use crate::link::Link;
use crate::member::{Member, Source};
use crate::shared::{Shared, Topic};
use crate::{consumers, error};

pub(super) async fn open(
    shared: &Shared,
    link: &Arc<Link>,
    member: &Arc<Member>,
    topics: &[Arc<Topic>],
    spec: &Subscribe,
) -> Result<Vec<Named>> {
    let mut named = Vec::new();
    for (at, topic) in topics.iter().enumerate() {
        let policy = match spec.start {
            Start::Committed | Start::Earliest => DeliverPolicy::All,
            Start::Latest => DeliverPolicy::New,
            start @ (Start::Offset(_) | Start::Time(_)) => DeliverPolicy::ByStartSequence {
                start_sequence: first(link, topic, start).await?.unwrap_or(1).max(1),
            },
        };
        let name = format!("+reader-{:016x}", shared.env.random_u64());
        let subject = format!("{}.*", shared.names.topic(&topic.name));
        let config = consumers::reader(name.clone(), subject, policy);
        let info = consumers::create(link, &topic.stream, &config).await?;
        let next = info.delivered.consumer_sequence + 1;
        let stream = consumers::pull(link, config, info, spec.in_flight_max).await?;
        member.open(Source {
            topic: at,
            partition: None,
            stream,
            // Nobody else would deliver again what is returned.
            cursor: Cursor::new(next, Duration::MAX),
            moving: None,
        });
        named.push(Named {
            topic: at,
            partition: None,
            stream: topic.stream.clone(),
            name,
        });
    }
    let gone: Vec<_> = named
        .iter()
        .map(|one| (one.stream.clone(), one.name.clone()))
        .collect();
    shared.adopt(member, keep(link.clone(), member.clone(), gone));
    Ok(named)
}

/// Ends the reader with its connection, and takes its consumers away when it leaves.
async fn keep(link: Arc<Link>, member: Arc<Member>, consumers: Vec<(String, String)>) {
    while !member.is_leaving() && !member.is_failed() {
        tokio::select! {
            biased;
            () = link.ended() => member.fail(error::lost()),
            () = member.work.notified() => {}
        }
    }
    drop(member.remove(|_| true));
    for (stream, name) in consumers {
        if let Err(error) = consumers::delete(&link, &stream, &name).await {
            // The server takes it away by itself after a while.
            tracing::debug!(%name, error = %trunkline_core::report(&error), "a reader's consumer stays");
        }
    }
}

/// The sequence of the first event at or after a time: where the server would let a consumer begin.
pub(super) async fn at_time(link: &Link, topic: &Topic, time: Timestamp) -> Result<u64> {
    let start_time = async_nats::datetime::from_nanos(time.as_nanosecond());
    let start_time = start_time.map_err(|e| {
        Error::invalid("start_invalid", "expected a time that NATS can express").with_source(e)
    })?;
    let name = format!("+probe-{}", time.as_nanosecond());
    let policy = DeliverPolicy::ByStartTime { start_time };
    let subject = topic
        .subjects
        .first()
        .map_or("", |subject| subject.as_str());
    let every = subject.rsplit_once('.').map_or(subject, |(topic, _)| topic);
    let config = consumers::reader(name.clone(), format!("{every}.*"), policy);
    consumers::delete(link, &topic.stream, &name).await?;
    let info = consumers::create(link, &topic.stream, &config).await?;
    consumers::delete(link, &topic.stream, &name).await?;
    Ok(info.delivered.stream_sequence + 1)
}
