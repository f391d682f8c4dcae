//! What serves a subscription: it answers the group's coordinator, commits positions and leaves in order.

mod commit;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytestring::ByteString;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use trunkline_core::{Error, Result};

use self::commit::Commit;
use crate::client::{Change, Client};
use crate::config::KafkaConfig;
use crate::desk::Desk;
use crate::error;
use crate::partition::Partition;
use crate::subscribe::recovers;
use crate::topics::Topic;

/// How often it looks at least, whatever it was told; well within the library's `max.poll.interval.ms`.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One subscription's service.
pub(crate) struct Service {
    client: Client,
    desk: Arc<Desk>,
    config: Arc<KafkaConfig>,
    /// Topics by their names in the cluster.
    names: HashMap<String, ByteString>,
    is_group: bool,
    /// Partitions that are somebody else's, whose positions may still have to be committed.
    ended: Vec<Arc<Partition>>,
    commit: Option<Commit>,
    /// Nothing is committed before.
    commit_from: Instant,
    /// Nothing is committed before for those who wait: a commit has just failed.
    flush_from: Instant,
    /// Those who wait for the commit after the one that is on its way.
    flushes: Vec<oneshot::Sender<()>>,
    /// What blocks on the brokers, off the async threads: one commit and one look for brokers at a time.
    errands: JoinSet<Errand>,
    is_looking: bool,
}

/// How an errand ended.
enum Errand {
    /// The commit that was on its way. The library's own callback is never called for one.
    Commit(KafkaResult<()>),
    /// Whether any broker is left.
    Brokers(bool),
}

impl Service {
    pub(crate) fn new(
        client: Client,
        desk: Arc<Desk>,
        config: Arc<KafkaConfig>,
        names: HashMap<String, ByteString>,
    ) -> Self {
        Self {
            client,
            desk,
            config,
            names,
            is_group: false,
            ended: Vec::new(),
            commit: None,
            commit_from: Instant::now(),
            flush_from: Instant::now(),
            flushes: Vec::new(),
            errands: JoinSet::new(),
            is_looking: false,
        }
    }

    /// Begins to join the group.
    pub(crate) fn join(&mut self) -> Result<()> {
        self.is_group = true;
        let names: Vec<&str> = self.names.keys().map(String::as_str).collect();
        let joined = self.client.reader().subscribe(&names);
        joined.map_err(|failed| error::kafka("the group can't be joined", failed))
    }

    /// Reads these partitions from these offsets.
    pub(crate) fn read(&mut self, starts: Vec<(Arc<Topic>, i32, i64)>) -> Result<()> {
        let wrong = |failed| error::kafka("the partitions can't be read", failed);
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for (topic, partition, offset) in &starts {
            list.add_partition_offset(&topic.full, *partition, Offset::Offset(*offset))
                .map_err(wrong)?;
            self.hold(&topic.full, *partition, Some(*offset))?;
        }
        self.client.reader().assign(&list).map_err(wrong)
    }

    /// Serves until the subscription ends.
    pub(crate) async fn run(mut self) {
        while !self.desk.is_closed() {
            self.step(None).await;
            loop {
                let change = self.client.context().changes.lock().pop_front();
                match change {
                    Some(Change::Assign(list)) => self.assign(&list),
                    Some(Change::Revoke(list)) => self.revoke(&list).await,
                    None => break,
                }
            }
        }
        self.leave().await;
    }

    /// Waits for something to do, no longer than `until`, and does it; changes are left.
    async fn step(&mut self, until: Option<Instant>) {
        let mut wait = Instant::now() + LOOK_AGAIN;
        if self.commit.is_none() {
            if self.desk.is_soiled() {
                wait = wait.min(self.commit_from);
            }
            if !self.flushes.is_empty() {
                wait = wait.min(self.flush_from);
            }
        }
        if let Some(until) = until {
            wait = wait.min(until);
        }
        let call = self.desk.call.clone();
        tokio::select! {
            biased;
            () = call.notified() => {}
            Some(errand) = self.errands.join_next(), if !self.errands.is_empty() => {
                match errand {
                    Ok(Errand::Commit(outcome)) => self.committed(outcome),
                    Ok(Errand::Brokers(found)) => self.looked(found),
                    Err(_) => self.desk.fail(Error::internal("the client library panicked")),
                }
            }
            () = sleep_until(wait) => {}
        }
        self.poll();
        self.commit();
    }

    /// Lets the library tell what it has to tell.
    fn poll(&mut self) {
        loop {
            let served = &self.client.context().served;
            let before = served.load(Ordering::Relaxed);
            let polled = self.client.reader().poll(Duration::ZERO);
            match polled {
                Some(Ok(message)) => {
                    // Each partition has a queue of its own from before its first message.
                    drop(message);
                    self.desk
                        .fail(Error::internal("a message came outside of its partition"));
                }
                Some(Err(failed)) => {
                    if recovers(&failed) {
                        self.look_for_brokers();
                    } else if let Some(error) = grave(&failed) {
                        self.desk.fail(error);
                    }
                }
                None => {
                    let served = &self.client.context().served;
                    if served.load(Ordering::Relaxed) == before {
                        return;
                    }
                }
            }
        }
    }

    /// All brokers are down, it is said; whether one comes back within the limit is looked for.
    fn look_for_brokers(&mut self) {
        if self.is_looking {
            return;
        }
        let Some(topic) = self.names.keys().next().cloned() else {
            return;
        };
        let (reader, limit) = (self.client.downgrade(), self.config.limit);
        self.is_looking = true;
        self.errands.spawn_blocking(move || {
            let Some(reader) = reader.upgrade() else {
                return Errand::Brokers(true);
            };
            let found = reader.client().fetch_metadata(Some(&topic), limit);
            Errand::Brokers(found.is_ok())
        });
    }

    fn looked(&mut self, found: bool) {
        self.is_looking = false;
        if !found {
            let faults = &self.client.context().faults;
            self.desk.fail(faults.unreachable(&self.config));
        }
    }

    /// Takes a partition on.
    fn hold(&mut self, full: &str, number: i32, start: Option<i64>) -> Result<()> {
        let Some(name) = self.names.get(full) else {
            return Err(Error::internal("a partition of another topic was assigned"));
        };
        let queue = self.client.reader().split_partition_queue(full, number);
        let mut queue = queue.ok_or_else(|| Error::internal("a partition has no queue"))?;
        let arrived = self.desk.arrived.clone();
        queue.set_nonempty_callback(move || arrived.notify_one());
        let names = (name.clone(), full.to_owned(), number);
        let partition = Partition::new(self.desk.clone(), names, queue, start);
        self.desk.partitions.write().push(Arc::new(partition));
        Ok(())
    }

    fn assign(&mut self, list: &TopicPartitionList) {
        for entry in list.elements() {
            if let Err(error) = self.hold(entry.topic(), entry.partition(), None) {
                self.desk.fail(error);
            }
        }
        if let Err(failed) = self.client.reader().incremental_assign(list) {
            let error = error::kafka("partitions could not be taken on", failed);
            self.desk.fail(error);
        }
        // Closed in between: what was added after its end ends here.
        if self.desk.is_closed() {
            self.desk.close();
        }
        self.desk.admitted();
    }

    /// Gives partitions up: what is being handled is waited for, then their positions are committed.
    async fn revoke(&mut self, list: &TopicPartitionList) {
        let given: Vec<_> = {
            let partitions = self.desk.partitions.read();
            let given = partitions.iter().filter(|partition| {
                list.find_partition(&partition.full, partition.number)
                    .is_some()
            });
            given.cloned().collect()
        };
        given.iter().for_each(|partition| partition.begin_move());
        let until = Instant::now() + self.config.handover;
        while given.iter().any(|partition| partition.is_busy())
            && Instant::now() < until
            && !self.is_over()
        {
            self.step(Some(until)).await;
        }
        self.end(&given);
        self.settle_positions().await;
        if let Err(failed) = self.client.reader().incremental_unassign(list) {
            let error = error::kafka("partitions could not be given up", failed);
            self.desk.fail(error);
        }
    }

    /// There is nothing to wait for: the group has given up on the member, or it is leaving anyway.
    fn is_over(&self) -> bool {
        self.desk.is_closed() || self.client.reader().assignment_lost()
    }

    fn end(&mut self, given: &[Arc<Partition>]) {
        let is_given = |one: &Arc<Partition>| given.iter().any(|other| Arc::ptr_eq(one, other));
        self.desk.partitions.write().retain(|one| !is_given(one));
        for partition in given {
            partition.end();
            self.ended.push(partition.clone());
        }
        self.desk.soil();
    }

    /// Leaves the group with everything committed that was done.
    async fn leave(mut self) {
        let held = self.desk.partitions.read().clone();
        self.end(&held);
        self.settle_positions().await;
        let client = self.client;
        // The coordinator is told, which blocks for a moment.
        if tokio::task::spawn_blocking(move || drop(client))
            .await
            .is_err()
        {
            tracing::warn!("a consumer could not be closed");
        }
        self.desk.left();
    }
}

/// A failure that the library does not recover from by itself.
pub(crate) fn grave(failed: &KafkaError) -> Option<Error> {
    let code = failed.rdkafka_error_code()?;
    let fatal = matches!(failed, KafkaError::MessageConsumptionFatal(_));
    let grave = fatal
        || matches!(
            code,
            Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::InconsistentGroupProtocol
                | Code::InvalidGroupId
                | Code::InvalidSessionTimeout
                | Code::NotImplemented
                | Code::BadCompression
        );
    if !grave {
        tracing::debug!(%failed, "kafka: the subscription goes on");
        return None;
    }
    Some(error::of_code("the subscription can't go on", code))
}
