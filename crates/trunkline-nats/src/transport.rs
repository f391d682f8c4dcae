//! NATS as a transport.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_bus::{Capabilities, PublishError, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::{Env, Envelope, Result};

use crate::config::NatsConfig;
use crate::shared::Shared;
use crate::{declare, publish, subscribe};

/// NATS JetStream. Cheap to clone; clones share one connection.
///
/// # Guarantees
/// What a publish accepted, the stream has: it survives the death of the server's process, and that of the
/// machine as the server's `sync_interval` says. It is delivered to every group at least once, in the order of
/// its key, as long as retention keeps it. A partition belongs to one member of a group at a time.
///
/// A connection that is lost fails what waits on it; whoever publishes or subscribes next makes a new one.
#[derive(Debug, Clone)]
pub struct Nats {
    shared: Arc<Shared>,
}

impl Nats {
    /// Connects.
    ///
    /// # Errors
    /// `Unauthenticated`: the credentials; `Unsupported`: the server has no JetStream; `Unavailable`: it can't
    /// be reached; `InvalidInput`: the configuration.
    pub async fn connect(config: NatsConfig, env: Env) -> Result<Self> {
        let shared = Arc::new(Shared::open(config, env).await?);
        Ok(Self { shared })
    }

    /// Whether the server answers, without writing.
    ///
    /// # Errors
    /// `Unavailable` when it can't be reached or the transport was closed.
    pub async fn check(&self) -> Result<()> {
        self.shared.links.get().await.map(drop)
    }
}

/// Connects to NATS.
///
/// # Errors
/// As [`Nats::connect`] says.
pub async fn connect(config: NatsConfig, env: Env) -> Result<Nats> {
    Nats::connect(config, env).await
}

impl Transport for Nats {
    fn capabilities(&self) -> Capabilities {
        let mut all = Capabilities::default();
        all.durable = true;
        all.ordered_by_key = true;
        all.groups = true;
        all.replay = true;
        all
    }

    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        declare::declare(&self.shared, topics).boxed()
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        publish::publish(&self.shared, batch).boxed()
    }

    fn subscribe<'a>(
        &'a self,
        spec: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        async move {
            let subscription = subscribe::subscribe(&self.shared, spec).await?;
            Ok(Box::new(subscription) as Box<dyn Subscription>)
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            self.shared.links.close();
            let mut tasks = self.shared.end_members();
            // Who does not get out of its group in time is taken for dead there.
            let left = async { while tasks.join_next().await.is_some() {} };
            let left = tokio::time::timeout(self.shared.config.timeout, left).await;
            if left.is_err() {
                tracing::warn!("not every member could leave its group in time");
            }
            self.shared.links.drop_current().await;
            Ok(())
        }
        .boxed()
    }
}
