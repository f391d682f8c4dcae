//! Kafka as a transport.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use bytestring::ByteString;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use trunkline_bus::{Capabilities, PublishError, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::{Env, Envelope, Result};

use crate::client::Faults;
use crate::config::KafkaConfig;
use crate::desk::Desk;
use crate::error;
use crate::publish::Publisher;
use crate::subscribe;
use crate::topics::Topics;

/// A Kafka cluster. Cheap to clone; clones are the same connection.
///
/// # Guarantees
/// What a publish accepted is kept by all in-sync replicas, and delivered to every group at least once, in the
/// order of its partition, as long as retention keeps it. A partition belongs to one member of a group at a
/// time; one that moves waits for what is being handled, at most [`KafkaConfig::handover`].
///
/// A lost connection is the client library's to restore. A subscription that finds no broker for
/// [`KafkaConfig::limit`] ends with `Unavailable`.
#[derive(Clone)]
pub struct Kafka {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: Arc<KafkaConfig>,
    pub(crate) env: Env,
    pub(crate) topics: Arc<Topics>,
    pub(crate) publisher: Publisher,
    pub(crate) crew: Crew,
}

/// Connects.
///
/// # Errors
/// `InvalidInput`: the configuration; `Unauthenticated`: the brokers refuse the credentials; `Unavailable`: no
/// broker answers within the limit, with the reason as far as it is known.
pub async fn connect(config: KafkaConfig, env: Env) -> Result<Kafka> {
    config.check()?;
    let config = Arc::new(config);
    let faults = Arc::new(Faults::default());
    let topics = Arc::new(Topics::new(config.clone(), faults.clone())?);
    topics.connect().await?;
    let publisher = Publisher::new(config.clone(), faults, topics.clone());
    Ok(Kafka {
        shared: Arc::new(Shared {
            config,
            env,
            topics,
            publisher,
            crew: Crew::default(),
        }),
    })
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Transport for Kafka {
    fn capabilities(&self) -> Capabilities {
        let mut all = Capabilities::default();
        all.durable = true;
        all.ordered_by_key = true;
        all.groups = true;
        all.replay = true;
        all
    }

    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        async move {
            self.shared.crew.check()?;
            for spec in topics {
                self.shared.topics.declare(spec).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        self.shared.publisher.publish(batch).boxed()
    }

    fn subscribe<'a>(
        &'a self,
        spec: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        async move {
            self.shared.crew.check()?;
            let subscription = subscribe::subscribe(&self.shared, spec).await?;
            Ok(Box::new(subscription) as Box<dyn Subscription>)
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            self.shared.crew.close();
            self.shared.publisher.close().await;
            self.shared.crew.gone(self.shared.config.limit).await;
            Ok(())
        }
        .boxed()
    }
}

/// The tasks that serve subscriptions, and the groups whose members are still leaving.
#[derive(Default)]
pub(crate) struct Crew {
    state: Arc<Mutex<CrewState>>,
    left: Arc<Notify>,
}

#[derive(Default)]
struct CrewState {
    closed: bool,
    tasks: JoinSet<()>,
    desks: Vec<Weak<Desk>>,
    /// How many members of a group were dropped and have not left yet.
    leaving: HashMap<ByteString, usize>,
}

impl Crew {
    pub(crate) fn check(&self) -> Result<()> {
        if self.state.lock().closed {
            return Err(error::closed());
        }
        Ok(())
    }

    /// Runs a subscription's service.
    pub(crate) fn serve(
        &self,
        desk: &Arc<Desk>,
        service: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(error::closed());
        }
        while state.tasks.try_join_next().is_some() {}
        state.desks.retain(|desk| desk.strong_count() > 0);
        state.desks.push(Arc::downgrade(desk));
        state.tasks.spawn(service);
        Ok(())
    }

    /// A member of a group begins to leave.
    pub(crate) fn leaving(&self, group: &ByteString) -> Leaving {
        *self.state.lock().leaving.entry(group.clone()).or_default() += 1;
        Leaving {
            group: group.clone(),
            state: self.state.clone(),
            left: self.left.clone(),
        }
    }

    /// Waits until those who were dropped have left the group, so that who comes next meets nobody.
    pub(crate) async fn settle(&self, group: &ByteString, until: Instant) {
        loop {
            let left = self.left.notified();
            if !self.state.lock().leaving.contains_key(group) {
                return;
            }
            if timeout_at(until, left).await.is_err() {
                return;
            }
        }
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for desk in state.desks.drain(..) {
            if let Some(desk) = desk.upgrade() {
                desk.close();
            }
        }
    }

    /// Waits until all have left.
    async fn gone(&self, limit: std::time::Duration) {
        let mut tasks = std::mem::take(&mut self.state.lock().tasks);
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("subscriptions did not leave Kafka within the limit");
        }
    }
}

/// Held while a member leaves.
pub(crate) struct Leaving {
    group: ByteString,
    state: Arc<Mutex<CrewState>>,
    left: Arc<Notify>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let Some(count) = state.leaving.get_mut(&self.group) {
            *count -= 1;
            if *count == 0 {
                state.leaving.remove(&self.group);
            }
        }
        drop(state);
        self.left.notify_waiters();
    }
}
