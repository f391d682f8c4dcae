//! Subscribing: a connection of its own, and a channel for each queue.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use trunkline_bus::{Delivery, Start, Subscribe, Subscription};
use trunkline_core::{Error, ErrorKind, Result};

use crate::amqp::{Connection, Queue, no_arguments};
use crate::event::Reader;
use crate::lane::Lane;
use crate::member::{End, Member};
use crate::pump::Pump;
use crate::topics::Quiet;
use crate::transport::{RabbitMq, Shared};

/// What a queue has out with one member, at least: what waits for its retry counts, too.
const PREFETCH_MIN: usize = 64;

pub(crate) struct QueueSubscription {
    member: Arc<Member>,
    group: Option<ByteString>,
    prefetch: u16,
    shared: Arc<Shared>,
}

/// Joins a group, or begins to read alone.
pub(crate) async fn subscribe(rabbit: &RabbitMq, spec: &Subscribe) -> Result<QueueSubscription> {
    let shared = rabbit.shared();
    shared.open()?;
    if spec.topics.is_empty() || spec.in_flight_max == 0 {
        let message = "expected at least one topic and in_flight_max of at least 1";
        return Err(Error::invalid("subscribe_invalid", message));
    }
    check_start(spec)?;
    let connection = Arc::new(Connection::open(&shared.config).await?);
    let lanes = match &spec.group {
        Some(group) => group_lanes(shared, &connection, group, spec).await,
        None => reader_lanes(shared, &connection, spec).await,
    };
    let lanes = lanes?;
    let prefetch = spec.in_flight_max.max(PREFETCH_MIN);
    let prefetch = u16::try_from(prefetch).unwrap_or(u16::MAX);
    let count = lanes.len();
    let reader = Reader {
        form: shared.config.form,
        event_bytes_max: shared.config.event_bytes_max,
        env: shared.env.clone(),
    };
    let member = Arc::new(Member::new(
        spec.group.is_none(),
        lanes,
        spec.in_flight_max,
        shared.config.rebalance,
        reader,
    ));
    let pump = Pump {
        member: member.clone(),
        connection,
        prefetch,
    };
    let begun: Result<Vec<()>> = join_all((0..count).map(|lane| pump.begin(lane)))
        .await
        .into_iter()
        .collect();
    let subscription = QueueSubscription {
        member: member.clone(),
        group: spec.group.clone(),
        prefetch,
        shared: shared.clone(),
    };
    // Also after a failure: it takes leave.
    rabbit.spawn(pump.run())?;
    begun?;
    shared.enter(&member)?;
    Ok(subscription)
}

fn check_start(spec: &Subscribe) -> Result<()> {
    let can = match (&spec.group, spec.start) {
        (Some(_), Start::Committed | Start::Earliest | Start::Latest) => true,
        (None, start) => start == Start::Latest,
        _ => false,
    };
    if can {
        return Ok(());
    }
    let message = "RabbitMQ keeps events for declared groups only, until they are settled; expected a group, or the \
                   start Latest";
    Err(Error::new(
        ErrorKind::Unsupported,
        "rabbitmq_no_replay",
        message,
    ))
}

async fn group_lanes(
    shared: &Shared,
    connection: &Connection,
    group: &ByteString,
    spec: &Subscribe,
) -> Result<Vec<Lane>> {
    let mut lanes: Vec<Lane> = Vec::new();
    let topics = &shared.topics;
    let channel = connection.channel(Arc::new(Quiet)).await?;
    for topic in &spec.topics {
        if lanes.iter().any(|lane| lane.topic == *topic) {
            continue;
        }
        let partitions = topics
            .find(connection, topic, shared.config.timeout)
            .await?;
        let declared = topics
            .declare_group(&channel, group, topic, partitions)
            .await;
        let consumers = declared.inspect_err(|_| topics.forget())?;
        for partition in 0..partitions {
            let queue = topics.queue(group, topic, partition);
            if spec.start == Start::Latest && consumers == 0 {
                channel.purge(&queue).await?;
            }
            lanes.push(Lane::new(topic.clone(), Some(partition), queue));
        }
    }
    Ok(lanes)
}

/// One queue for each topic, which is this connection's alone.
async fn reader_lanes(
    shared: &Shared,
    connection: &Connection,
    spec: &Subscribe,
) -> Result<Vec<Lane>> {
    let mut lanes: Vec<Lane> = Vec::new();
    for topic in &spec.topics {
        if lanes.iter().any(|lane| lane.topic == *topic) {
            continue;
        }
        let patience = shared.config.timeout;
        shared.topics.find(connection, topic, patience).await?;
        let channel = connection.channel(Arc::new(Quiet)).await?;
        let queue = Queue {
            exclusive: true,
            ..Queue::default()
        };
        let declared = channel.queue(&queue).await?;
        let exchange = shared.topics.exchange(topic);
        let bound = channel
            .bind(&declared.name, &exchange, "#", &no_arguments())
            .await;
        bound.inspect_err(|_| shared.topics.forget())?;
        lanes.push(Lane::new(topic.clone(), None, declared.name));
    }
    Ok(lanes)
}

impl QueueSubscription {
    async fn flush(&self) -> Result<()> {
        self.shared.open()?;
        self.member.acknowledge();
        let unflushed: Vec<_> = {
            let mut state = self.member.state.lock();
            let lanes = state.lanes.iter_mut().filter(|lane| lane.unflushed);
            lanes
                .filter_map(|lane| {
                    lane.unflushed = false;
                    lane.channel.clone()
                })
                .collect()
        };
        let barriers = unflushed.iter().map(|channel| channel.qos(self.prefetch));
        join_all(barriers).await.into_iter().collect()
    }

    async fn lag(&self) -> Result<u64> {
        self.shared.open()?;
        let queues: Vec<_> = {
            let state = self.member.state.lock();
            let lanes = state.lanes.iter();
            lanes
                .filter_map(|lane| Some((lane.channel.clone()?, lane.queue.clone())))
                .collect()
        };
        // Asked on the channel that reads it: what the server has sent by then has come before its answer.
        let looks = queues.iter().map(|(channel, queue)| channel.look(queue));
        let looks: Result<Vec<_>> = join_all(looks).await.into_iter().collect();
        let ready: u64 = looks?.iter().map(|queue| u64::from(queue.ready)).sum();
        let state = self.member.state.lock();
        let unsettled: usize = state.lanes.iter().map(Lane::unsettled).sum();
        Ok(ready + unsettled as u64)
    }
}

impl Subscription for QueueSubscription {
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>> {
        self.member.next(max.max(1)).boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.flush().boxed()
    }

    fn lag(&self) -> BoxFuture<'_, Result<u64>> {
        self.lag().boxed()
    }
}

impl Drop for QueueSubscription {
    fn drop(&mut self) {
        self.member.end(End::Dropped);
    }
}

impl fmt::Debug for QueueSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSubscription")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
