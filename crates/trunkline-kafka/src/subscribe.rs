//! A subscription: a member of a group, or a reader on its own.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytestring::ByteString;
use futures::FutureExt;
use futures::future::BoxFuture;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use trunkline_bus::{Delivery, Start, Subscribe, Subscription};
use trunkline_core::{Error, Result};

use crate::client::{Client, Faults, Reader, blocking, reader_settings};
use crate::desk::Desk;
use crate::error;
use crate::offsets;
use crate::partition::Reading;
use crate::service::{self, Service};
use crate::topics::Topic;
use crate::transport::Shared;
use crate::wire::Scratch;

/// The group's name in the client library where there is no group: it is never joined nor committed to.
const NO_GROUP: &str = "trunkline-reader";

/// How long it waits at most to look again, whatever the client library told.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A member of a group, or a reader on its own.
pub(crate) struct Member {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    reader: Weak<Reader>,
    group: Option<ByteString>,
    topics: Vec<Arc<Topic>>,
    reading: Reading,
    /// The partition that is asked first next time.
    turn: usize,
    /// How many came together last: room is made for as many.
    usual: usize,
}

pub(crate) async fn subscribe(shared: &Arc<Shared>, spec: &Subscribe) -> Result<Member> {
    check(spec)?;
    let mut topics = Vec::with_capacity(spec.topics.len());
    for name in &spec.topics {
        topics.push(shared.topics.find(name).await?);
    }
    let config = &shared.config;
    let faults = Arc::new(Faults::default());
    let group = spec.group.as_ref().map(|group| config.full(group));
    if let Some(group) = &spec.group {
        shared
            .crew
            .settle(group, Instant::now() + config.limit)
            .await;
    }
    let starts = match (&group, spec.start) {
        (Some(_), Start::Committed) => Vec::new(),
        (_, start) => {
            let (probe, topics, limit) = (shared.topics.probe(), topics.clone(), config.limit);
            blocking(limit * 3, "asking for offsets", move || {
                offsets::find(&probe, &topics, start, limit)
            })
            .await?
        }
    };
    let starts = match &group {
        Some(group) if !starts.is_empty() => {
            offsets::move_group(config, &faults, group, starts).await?;
            Vec::new()
        }
        _ => starts,
    };
    let desk = Arc::new(Desk::new(spec.in_flight_max));
    let settings = reader_settings(config, group.as_deref().unwrap_or(NO_GROUP));
    let client = Client::new(&settings, faults, desk.call.clone())?;
    let names = topics.iter().zip(&spec.topics);
    let names = names.map(|(topic, name)| (topic.full.clone(), name.clone()));
    let member = Member {
        shared: shared.clone(),
        desk: desk.clone(),
        reader: client.downgrade(),
        group: spec.group.clone(),
        topics: topics.clone(),
        reading: Reading {
            form: config.form,
            env: shared.env.clone(),
            scratch: Scratch::default(),
        },
        turn: 0,
        usual: 0,
    };
    let mut service = Service::new(client, desk.clone(), config.clone(), names.collect());
    if group.is_some() {
        service.join()?;
    } else {
        service.read(starts)?;
    }
    shared.crew.serve(&desk, service.run())?;
    if group.is_some() {
        member.joined().await?;
    }
    Ok(member)
}

fn check(spec: &Subscribe) -> Result<()> {
    let wrong = if spec.topics.is_empty() {
        "expected at least one topic"
    } else if spec.in_flight_max == 0 {
        "expected in_flight_max of at least 1"
    } else {
        return Ok(());
    };
    Err(Error::invalid("subscription_invalid", wrong))
}

impl Member {
    /// Waits for the group to admit the member, and a little for its share, which others may have to give up
    /// first. A member for whom there is nothing stands by.
    async fn joined(&self) -> Result<()> {
        let config = &self.shared.config;
        // Whoever died in the group holds up those who join until its session is over.
        let until = Instant::now() + config.limit + config.session;
        let mut share = None;
        loop {
            if !self.desk.check()? {
                return Err(error::closed());
            }
            match self.desk.admission() {
                Admission::Waits => {}
                Admission::Admitted => {
                    share.get_or_insert_with(|| Instant::now() + config.heartbeat * 3);
                }
                Admission::Assigned => return Ok(()),
            }
            let wait = timeout_at(share.unwrap_or(until), self.desk.joined.notified());
            match (wait.await, share) {
                (Err(_), Some(_)) => return Ok(()),
                (Err(_), None) => {
                    let message = "the group did not admit the member within limit and session";
                    let group = self.group.as_deref().unwrap_or_default();
                    return Err(error::silent(message).with("group", group));
                }
                _ => {}
            }
        }
    }

    /// Takes what is there.
    fn take(&mut self, max: usize) -> Result<Vec<Delivery>> {
        let mut taken = Vec::with_capacity(self.usual.min(max));
        let partitions = self.desk.partitions.read();
        let count = partitions.len();
        self.turn = self.turn.wrapping_add(1);
        for index in 0..count {
            let Some(partition) = partitions.get((self.turn + index) % count) else {
                continue;
            };
            let room = max - taken.len();
            if room == 0 {
                break;
            }
            if let Err(failed) = partition.take(room, &mut self.reading, &mut taken)
                && let Some(error) = service::grave(&failed)
            {
                self.desk
                    .fail(error.with("partition", format!("{partition:?}")));
                break;
            }
        }
        drop(partitions);
        self.usual = taken.len();
        Ok(taken)
    }

    fn next_look(&self) -> Instant {
        let latest = Instant::now() + LOOK_AGAIN;
        let partitions = self.desk.partitions.read();
        let due = partitions
            .iter()
            .filter_map(|partition| partition.next_due());
        due.min().map_or(latest, |due| due.min(latest))
    }
}

/// How far a member has come into its group.
pub(crate) enum Admission {
    Waits,
    /// It is in, with no partition yet.
    Admitted,
    Assigned,
}

impl Subscription for Member {
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>> {
        async move {
            let arrived = self.desk.arrived.clone();
            loop {
                if !self.desk.check()? {
                    return Ok(Vec::new());
                }
                // A permit is kept for what arrives between looking and waiting.
                let taken = self.take(max)?;
                if !taken.is_empty() || max == 0 {
                    return Ok(taken);
                }
                tokio::select! {
                    biased;
                    () = arrived.notified() => {}
                    () = sleep_until(self.next_look()) => {}
                }
            }
        }
        .boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            if self.group.is_none() || !self.desk.check()? {
                return Ok(());
            }
            let config = &self.shared.config;
            match timeout(config.limit, self.desk.flush()).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(error::closed()),
                Err(_) => Err(error::silent("the group's positions were not confirmed")),
            }
        }
        .boxed()
    }

    fn lag(&self) -> BoxFuture<'_, Result<u64>> {
        async move {
            let reader = self.reader.upgrade().ok_or_else(error::closed)?;
            let (topics, limit) = (self.topics.clone(), self.shared.config.limit);
            let is_group = self.group.is_some();
            let held: Vec<_> = {
                let partitions = self.desk.partitions.read();
                let progress = partitions.iter().map(|partition| {
                    let (position, done) = partition.progress();
                    (partition.full.clone(), partition.number, position, done)
                });
                progress.collect()
            };
            blocking(limit * 3, "asking for the lag", move || {
                offsets::lag(&reader, &topics, &held, (is_group, limit))
            })
            .await
        }
        .boxed()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let leaving = self.group.as_ref();
        self.desk
            .leave(leaving.map(|group| self.shared.crew.leaving(group)));
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// What the client library says while it recovers by itself.
pub(crate) fn recovers(failed: &KafkaError) -> bool {
    matches!(
        failed.rdkafka_error_code(),
        Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::OperationTimedOut)
    )
}
