//! RabbitMQ as a transport.

use std::fmt;
use std::sync::{Arc, Weak};

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use trunkline_bus::{Capabilities, PublishError, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::{Env, Envelope, Result};

use crate::config::RabbitConfig;
use crate::member::{End, Member};
use crate::publish::{self, Publisher};
use crate::topics::Topics;
use crate::{error, subscribe};

/// RabbitMQ. Cheap to clone; clones share the connection on which they publish.
///
/// # Guarantees
/// What a publish accepted is on the disks of the queues of every declared group, and delivered to each group at least
/// once, in the order of its key; a partition is read by one member of a group at a time. [The crate](crate) says what
/// survives what.
///
/// A connection that is lost ends the subscription on it with `Unavailable`; a new one begins with what the group has
/// not settled. Dropping the last clone ends everything at once: close it first.
#[derive(Debug, Clone)]
pub struct RabbitMq {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

pub(crate) struct Shared {
    pub(crate) config: RabbitConfig,
    pub(crate) env: Env,
    pub(crate) topics: Topics,
    pub(crate) publisher: Publisher,
    members: Mutex<Vec<Weak<Member>>>,
    closed: watch::Sender<bool>,
}

impl RabbitMq {
    /// Connects.
    ///
    /// # Errors
    /// `Unavailable`: the server can't be reached; `Unauthenticated`: it refuses user or password; `NotFound`: there is
    /// no such virtual host; `PermissionDenied`: the user may not use it.
    pub async fn connect(config: RabbitConfig, env: Env) -> Result<Self> {
        let shared = Arc::new(Shared {
            topics: Topics::new(config.prefix.clone()),
            publisher: Publisher::default(),
            members: Mutex::default(),
            closed: watch::Sender::new(false),
            env,
            config,
        });
        shared.publisher.connection(&shared).await?;
        Ok(Self {
            owner: Arc::new(Owner {
                shared,
                tasks: Mutex::default(),
            }),
        })
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// `Unavailable` if it does not, or the transport was closed.
    pub async fn check(&self) -> Result<()> {
        let shared = self.shared();
        let connection = shared.publisher.connection(shared).await?;
        let channel = connection.channel(Arc::new(crate::topics::Quiet)).await?;
        channel.close().await
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// Runs a task that ends with the transport.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        self.shared().open()?;
        let mut tasks = self.owner.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
        Ok(())
    }
}

impl Shared {
    /// Whether the transport is open.
    pub(crate) fn open(&self) -> Result<()> {
        if *self.closed.borrow() {
            return Err(error::closed());
        }
        Ok(())
    }

    /// Remembers a member, so that closing ends it.
    pub(crate) fn enter(&self, member: &Arc<Member>) -> Result<()> {
        let mut members = self.members.lock();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
        drop(members);
        // Closed meanwhile, perhaps before it could be told.
        self.open().inspect_err(|_| member.end(End::Closed))
    }

    fn begin_close(&self) {
        self.closed.send_replace(true);
        let members: Vec<_> = std::mem::take(&mut *self.members.lock());
        for member in members.iter().filter_map(Weak::upgrade) {
            member.end(End::Closed);
        }
    }
}

impl Transport for RabbitMq {
    fn capabilities(&self) -> Capabilities {
        let mut all = Capabilities::default();
        all.durable = true;
        all.ordered_by_key = true;
        all.groups = true;
        all
    }

    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        async move {
            let shared = self.shared();
            let connection = shared.publisher.connection(shared).await?;
            shared.topics.declare(&connection, topics).await
        }
        .boxed()
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        publish::publish(self.shared(), batch).boxed()
    }

    fn subscribe<'a>(
        &'a self,
        spec: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        async move { Ok(Box::new(subscribe::subscribe(self, spec).await?) as _) }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            let shared = self.shared();
            shared.begin_close();
            let limit = shared.config.timeout;
            let mut tasks = std::mem::take(&mut *self.owner.tasks.lock());
            let done = async { while tasks.join_next().await.is_some() {} };
            if timeout(limit * 2, done).await.is_err() {
                tracing::warn!(
                    "the server did not answer in time; what was settled last comes again"
                );
                tasks.shutdown().await;
            }
            shared.publisher.close(limit).await;
            Ok(())
        }
        .boxed()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
