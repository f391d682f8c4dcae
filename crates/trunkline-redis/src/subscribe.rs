//! Subscribing to streams.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use redis::Cmd;
use tokio::time::{Instant, timeout};
use trunkline_bus::{Delivery, Start, Subscribe, Subscription};
use trunkline_core::{Error, Result};

use crate::commit::{commit, keep_writing};
use crate::cursor::Phase;
use crate::member::{End, Member};
use crate::pump::Pump;
use crate::topics::Topic;
use crate::transport::{Redis, Shared};
use crate::{assign, error, script, value};

/// The longest name of a group.
const GROUP_BYTES_MAX: usize = 200;

pub(crate) struct StreamSubscription {
    shared: Arc<Shared>,
    member: Arc<Member>,
}

/// The topics of a subscription, each once.
pub(crate) async fn topics(shared: &Shared, spec: &Subscribe) -> Result<Vec<Arc<Topic>>> {
    shared.open()?;
    if spec.topics.is_empty() || spec.in_flight_max == 0 {
        let message = "expected at least one topic and in_flight_max of at least 1";
        return Err(Error::invalid("subscribe_invalid", message));
    }
    let mut topics: Vec<Arc<Topic>> = Vec::with_capacity(spec.topics.len());
    for name in &spec.topics {
        let topic = shared.topics.find(&shared.link, name).await?;
        if !topics.iter().any(|known| known.name == topic.name) {
            topics.push(topic);
        }
    }
    Ok(topics)
}

/// Joins a group, or begins to read alone.
pub(crate) async fn subscribe(redis: &Redis, spec: &Subscribe) -> Result<StreamSubscription> {
    let shared = redis.shared();
    let topics = topics(shared, spec).await?;
    if let Some(group) = &spec.group {
        if group.is_empty() || group.len() > GROUP_BYTES_MAX {
            let message = "expected a group's name of 1 to 200 bytes";
            return Err(Error::invalid("group_name_invalid", message).with("group", group));
        }
        shared.wait_for_leavers(group).await;
    }
    let name = shared.env.id().to_string().into();
    let group = spec.group.clone();
    let member = Arc::new(Member::new(name, group, topics, spec.in_flight_max));
    let subscription = StreamSubscription {
        shared: shared.clone(),
        member: member.clone(),
    };
    let begun = match &member.group {
        Some(group) => join(shared, &member, group, spec.start).await,
        None => begin(shared, &member, spec.start).await,
    };
    let pump = Pump::new(shared.clone(), member.clone());
    if begun.is_err() {
        member.end(End::Dropped);
    }
    // Also after a failure: what was taken by then is given back.
    redis.spawn(pump.run())?;
    begun?;
    redis.spawn(keep_writing(shared.clone(), member.clone()))?;
    shared.enter(&member)?;
    Ok(subscription)
}

async fn join(shared: &Shared, member: &Member, group: &str, start: Start) -> Result<()> {
    let alone = assign::beat(shared, member, group).await?;
    if start != Start::Committed && alone == member.topics.len() {
        assign::relocate(shared, member, group, start).await?;
    }
    Ok(())
}

async fn begin(shared: &Shared, member: &Member, start: Start) -> Result<()> {
    let streams: Vec<_> = {
        let state = member.state.lock();
        let cursors = state.cursors.iter();
        cursors.map(|cursor| cursor.stream.clone()).collect()
    };
    let places = assign::starts(shared, streams.iter().map(|stream| &**stream), start).await?;
    let mut state = member.state.lock();
    for (cursor, at) in state.cursors.iter_mut().zip(places) {
        cursor.open(at, None, Phase::Fresh);
    }
    Ok(())
}

impl StreamSubscription {
    async fn flush(&self) -> Result<()> {
        self.shared.open()?;
        commit(&self.shared, &self.member, false).await
    }

    async fn lag(&self) -> Result<u64> {
        self.flush().await?;
        let doing = "the lag could not be asked for";
        let mut pipe = redis::Pipeline::new();
        let mut pending = 0;
        {
            let state = self.member.state.lock();
            for joined in &self.member.topics {
                let cursors = state.cursors.iter().skip(joined.first);
                let cursors = cursors.take(joined.topic.places.len());
                let mut cmd: Cmd = script::eval(script::LAG, &joined.topic.places);
                match &self.member.group {
                    Some(group) => {
                        cmd.arg(&**group);
                    }
                    None => {
                        cmd.arg("");
                        for cursor in cursors {
                            cmd.arg(cursor.position().to_string());
                            pending += cursor.pending() as u64;
                        }
                    }
                }
                pipe.add_command(cmd);
            }
        }
        let answers = self.shared.link.calls(doing, &pipe).await?;
        answers.iter().try_fold(pending, |sum, answer| {
            let lag = value::integer(answer).and_then(|lag| u64::try_from(lag).ok());
            Ok(sum + lag.ok_or_else(|| error::odd(doing))?)
        })
    }
}

impl Subscription for StreamSubscription {
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

impl Drop for StreamSubscription {
    fn drop(&mut self) {
        self.member.end(End::Dropped);
    }
}

impl fmt::Debug for StreamSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSubscription")
            .field("group", &self.member.group)
            .field("member", &self.member.name)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Waits, within bounds, until members of the group that were dropped here have left it: only then is
    /// what they had out another's.
    async fn wait_for_leavers(&self, group: &str) {
        let leavers: Vec<Arc<Member>> = {
            let members = self.members.lock();
            let members = members.iter().filter_map(std::sync::Weak::upgrade);
            members
                .filter(|member| member.group.as_deref() == Some(group) && member.has_ended())
                .collect()
        };
        let until = Instant::now() + self.link.timeout();
        for member in leavers {
            let mut gone = member.gone.subscribe();
            let wait = gone.wait_for(|gone| *gone);
            let limit = until.saturating_duration_since(Instant::now());
            if !matches!(timeout(limit, wait).await, Ok(Ok(_))) {
                tracing::debug!(%group, "a member has not left the group yet");
            }
        }
    }

    /// Remembers a member, so that closing ends it.
    fn enter(&self, member: &Arc<Member>) -> Result<()> {
        let mut members = self.members.lock();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
        drop(members);
        // Closed meanwhile, perhaps before it could be told.
        self.open().inspect_err(|_| member.end(End::Closed))
    }
}
