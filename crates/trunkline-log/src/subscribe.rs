//! A member of a group: taking events and settling them.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use trunkline_bus::{Delivery, Receipt, Settlement, Settler, Start, Subscribe, Subscription};
use trunkline_core::{Error, Result};

use crate::cursor::{Need, Taken};
use crate::error;
use crate::group::{Group, JoinTopic, MemberId, Next};
use crate::partition::{Found, Partition};
use crate::read;
use crate::shared::{Control, Shared};

pub(crate) struct LogSubscription {
    member: Arc<Member>,
    wake: Arc<Notify>,
}

/// What receipts need.
struct Member {
    shared: Arc<Shared>,
    group: Arc<Group>,
    id: MemberId,
}

/// A token is a cursor and an offset.
const OFFSET_BITS: u32 = 40;

/// Joins a group, or makes a reader.
pub(crate) async fn subscribe(shared: &Arc<Shared>, spec: &Subscribe) -> Result<LogSubscription> {
    if spec.topics.is_empty() || spec.in_flight_max == 0 {
        let message = "expected at least one topic and in_flight_max of at least 1";
        return Err(Error::invalid("subscribe_invalid", message));
    }
    let mut topics = Vec::new();
    for name in &spec.topics {
        let topic = shared.topic(name)?;
        if topics
            .iter()
            .any(|known: &JoinTopic| known.index == topic.index)
        {
            continue;
        }
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let at = position(shared, partition, spec.start).await?;
            partitions.push((partition.clone(), at));
        }
        topics.push(JoinTopic {
            index: topic.index,
            partitions,
        });
    }
    let group = match &spec.group {
        Some(name) => group(shared, name).await?,
        None => reader(shared),
    };
    if shared.pending.lock().closing {
        return Err(error::closed());
    }
    let (id, wake, moved) = group.join(topics, spec.start, spec.in_flight_max);
    let subscription = LogSubscription {
        member: Arc::new(Member {
            shared: shared.clone(),
            group,
            id,
        }),
        wake,
    };
    if shared.pending.lock().closing {
        // Closed meanwhile, perhaps before this group could be told.
        return Err(error::closed());
    }
    if !moved.is_empty() {
        for cursor in moved {
            shared.soil(subscription.member.group.clone(), cursor);
        }
        // Where a group begins is durable before it begins.
        shared.ask(Control::Flush).await?;
    }
    Ok(subscription)
}

async fn position(shared: &Arc<Shared>, partition: &Arc<Partition>, start: Start) -> Result<u64> {
    let found = partition.state.lock().position(start);
    match found {
        Found::At(offset) => Ok(offset),
        Found::Search { from, time } => {
            let (shared, partition) = (shared.clone(), partition.clone());
            blocking(move || read::search(&shared.files, &partition, from, time)).await
        }
    }
}

async fn group(shared: &Shared, name: &bytestring::ByteString) -> Result<Arc<Group>> {
    if name.is_empty() || name.len() > crate::meta::NAME_BYTES_MAX {
        let message = "expected a group name of 1 to 200 bytes";
        return Err(Error::invalid("group_name_invalid", message).with("group", name));
    }
    let known = || shared.groups.lock().get(name).cloned();
    if let Some(group) = known() {
        return Ok(group);
    }
    shared.ask(Control::Group(name.clone())).await?;
    known().ok_or_else(|| Error::unavailable("group_forgotten", "the group was just forgotten"))
}

fn reader(shared: &Shared) -> Arc<Group> {
    let group = Arc::new(Group::new(None, std::collections::HashMap::new()));
    let mut readers = shared.readers.lock();
    readers.retain(|reader| reader.strong_count() > 0);
    readers.push(Arc::downgrade(&group));
    group
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::internal("reading the log failed").with_source(e))?
}

impl LogSubscription {
    fn delivery(&self, cursor: usize, partition: u16, taken: Taken) -> Delivery {
        let token = (cursor as u64) << OFFSET_BITS | taken.offset;
        Delivery {
            envelope: taken.envelope,
            offset: taken.offset,
            partition,
            redeliveries: taken.redeliveries,
            unreadable: None,
            receipt: Receipt::new(self.member.clone(), token),
        }
    }

    async fn read(&self, cursor: usize, need: Need) -> Result<()> {
        let (shared, wanted) = (self.member.shared.clone(), need.clone());
        let read = blocking(move || {
            read::read(
                &shared.files,
                &wanted.partition,
                wanted.offset,
                wanted.single,
            )
        });
        let read = read.await?;
        self.member.group.fill(self.member.id, cursor, &need, read);
        Ok(())
    }
}

impl Settler for Member {
    fn settle(&self, token: u64, how: Settlement) {
        let cursor = usize::try_from(token >> OFFSET_BITS).unwrap_or(usize::MAX);
        let offset = token & ((1 << OFFSET_BITS) - 1);
        let soil = |group, cursor| self.shared.soil(group, cursor);
        self.group.settle(self.id, (cursor, offset), how, soil);
    }
}

impl Subscription for LogSubscription {
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>> {
        async move {
            loop {
                match self.member.group.next(self.member.id, max.max(1)) {
                    Next::Closed => return Ok(Vec::new()),
                    Next::Taken(taken) => {
                        let deliver =
                            |(cursor, partition, one)| self.delivery(cursor, partition, one);
                        return Ok(taken.into_iter().map(deliver).collect());
                    }
                    Next::Read(cursor, need) => self.read(cursor, need).await?,
                    Next::Wait(None) => self.wake.notified().await,
                    Next::Wait(Some(due)) => {
                        tokio::select! {
                            biased;
                            () = self.wake.notified() => {}
                            () = tokio::time::sleep_until(due) => {}
                        }
                    }
                }
            }
        }
        .boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.member.shared.ask(Control::Flush).boxed()
    }

    fn lag(&self) -> BoxFuture<'_, Result<u64>> {
        std::future::ready(Ok(self.member.group.lag(self.member.id))).boxed()
    }
}

impl Drop for LogSubscription {
    fn drop(&mut self) {
        self.member.group.leave(self.member.id);
    }
}

impl fmt::Debug for LogSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSubscription")
            .field("member", &self.member.id)
            .finish_non_exhaustive()
    }
}
