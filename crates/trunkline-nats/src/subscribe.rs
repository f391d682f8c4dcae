//! Subscribing: as a member of a group, or on one's own.

mod reader;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use tokio::time::Instant;
use trunkline_bus::{Delivery, Start, Subscribe, Subscription};
use trunkline_core::{Error, Result};

use crate::keeper::{Held, Keeper, Seen, confirm, tell};
use crate::link::Link;
use crate::member::{Member, Terms};
use crate::shared::{Shared, Topic, stream_info};
use crate::store::Kept;
use crate::{consumers, declare, error, names};

pub(crate) struct NatsSubscription {
    member: Arc<Member>,
    link: Arc<Link>,
    /// Every consumer that it may read: its stream, its name, and which of the member's it is.
    consumers: Vec<Named>,
}

struct Named {
    topic: usize,
    partition: Option<u16>,
    stream: String,
    name: String,
}

pub(crate) async fn subscribe(shared: &Shared, spec: &Subscribe) -> Result<NatsSubscription> {
    if spec.topics.is_empty() || spec.in_flight_max == 0 {
        let message = "expected at least one topic and in_flight_max of at least 1";
        return Err(Error::invalid("subscribe_invalid", message));
    }
    let link = shared.links.get().await?;
    let mut topics: Vec<Arc<Topic>> = Vec::new();
    for name in &spec.topics {
        let topic = shared.topic(&link, name).await?;
        if !topics.iter().any(|known| known.name == topic.name) {
            topics.push(topic);
        }
    }
    let member = Arc::new(Member::new(Terms {
        topics: topics.iter().map(|topic| topic.name.clone()).collect(),
        form: shared.config.form,
        in_flight_max: spec.in_flight_max,
        span_max: shared.config.ack_pending_max,
        acks: spec.group.is_some(),
    }));
    let consumers = match &spec.group {
        Some(group) => {
            let group = names::group(group)?;
            let keeper = join(shared, &link, &member, &topics, (&group, spec.start)).await?;
            shared.adopt(&member, keeper.run());
            let all = topics.iter().enumerate().flat_map(|(at, topic)| {
                let group = &group;
                (0..topic.partitions()).map(move |partition| Named {
                    topic: at,
                    partition: Some(partition),
                    stream: topic.stream.clone(),
                    name: names::consumer(group, partition),
                })
            });
            all.collect()
        }
        None => reader::open(shared, &link, &member, &topics, spec).await?,
    };
    if shared.links.is_closed() {
        member.close();
        return Err(error::closed());
    }
    Ok(NatsSubscription {
        member,
        link,
        consumers,
    })
}

async fn join(
    shared: &Shared,
    link: &Arc<Link>,
    member: &Arc<Member>,
    topics: &[Arc<Topic>],
    (group, start): (&str, Start),
) -> Result<Keeper> {
    declare::ensure_records(shared, link).await?;
    let changes = link
        .client
        .subscribe(shared.names.group_changed(group, "*"));
    let changes = link.within("subscribe", changes).await?;
    let changes = changes.map_err(|e| error::lost().with_source(e))?;
    let mut held = Vec::new();
    for topic in topics {
        let moves = first(link, topic, start).await?;
        let moves = moves.map(|from| vec![from; usize::from(topic.partitions())]);
        held.push(Held {
            name: topic.name.clone(),
            stream: topic.stream.clone(),
            partitions: topic.partitions(),
            record: shared.names.group(group, &topic.stream),
            kept: Kept::default(),
            seen: Seen::default(),
            moves,
            stale: false,
        });
    }
    let mut keeper = Keeper {
        member: member.clone(),
        link: link.clone(),
        config: shared.config.clone(),
        names: shared.names.clone(),
        group: group.to_owned(),
        id: format!("{:016x}", shared.env.random_u64()),
        topics: held,
        changes,
    };
    keeper.join(start).await?;
    Ok(keeper)
}

/// The sequence in a topic's stream that a start means; none where the group is.
async fn first(link: &Link, topic: &Topic, start: Start) -> Result<Option<u64>> {
    let time = match start {
        Start::Committed => return Ok(None),
        Start::Earliest => return Ok(Some(1)),
        Start::Time(time) => Some(time),
        Start::Latest | Start::Offset(_) => None,
    };
    if let Some(time) = time {
        return reader::at_time(link, topic, time).await.map(Some);
    }
    let info = stream_info(link, &topic.stream).await?;
    let info = info.ok_or_else(|| error::undeclared(&topic.name, &topic.stream))?;
    let next = info.state.last_sequence + 1;
    Ok(Some(match start {
        Start::Offset(offset) => offset.min(next),
        _ => next,
    }))
}

impl Subscription for NatsSubscription {
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>> {
        async move {
            let member = &self.member;
            loop {
                let due = member.due();
                let until = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
                tokio::select! {
                    biased;
                    taken = poll_fn(|cx| member.poll_take(cx, max.max(1))) => return taken,
                    () = member.wake.notified() => {}
                    () = tokio::time::sleep_until(until), if due.is_some() => {}
                }
            }
        }
        .boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            if !self.member.terms.acks {
                return Ok(());
            }
            if self.member.is_failed() {
                return Err(error::ended("it failed before"));
            }
            tell(&self.link, &self.member).await?;
            let floors = self.member.each(|source| source.cursor.floor().cloned());
            confirm(&self.link, floors).await
        }
        .boxed()
    }

    fn lag(&self) -> BoxFuture<'_, Result<u64>> {
        async move {
            let infos = self.consumers.iter().map(|one| async move {
                let info = consumers::info(&self.link, &one.stream, &one.name).await?;
                let Some(info) = info else { return Ok(0) };
                let own = self.member.each(|source| {
                    let it = source.topic == one.topic && source.partition == one.partition;
                    // What was sent and not yet taken, and what was taken and is not settled.
                    let sent = info.delivered.consumer_sequence;
                    let coming = sent.saturating_sub(source.cursor.last());
                    it.then(|| coming + source.cursor.unsettled() as u64)
                });
                let open = own.first().copied().unwrap_or(info.num_ack_pending as u64);
                Ok::<_, Error>(info.num_pending + open)
            });
            Ok(try_join_all(infos).await?.into_iter().sum())
        }
        .boxed()
    }
}

impl Drop for NatsSubscription {
    fn drop(&mut self) {
        self.member.leave();
    }
}

impl fmt::Debug for NatsSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSubscription")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}
