//! One bus of several engines: some topics have an engine of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use futures::future::{BoxFuture, select_all, try_join_all};
use trunkline_core::{Envelope, Result};

use crate::lane::base;
use crate::{Capabilities, Delivery, PublishError, Subscribe, Subscription, TopicSpec, Transport};

/// A [`Transport`] that carries some topics, with all their lanes, on other engines than the rest.
///
/// # Guarantees
/// Each topic has those of its own engine. [`Transport::capabilities`] are what all engines have. An engine without groups
/// delivers to every process that subscribes, whatever group it says, and remembers nothing: its topics are for what is worth
/// hearing now, by handlers whom hearing it twice does no harm.
pub struct Split {
    main: Arc<dyn Transport>,
    /// By the topic's name without its lane.
    others: BTreeMap<ByteString, Arc<dyn Transport>>,
}

impl Split {
    /// All topics on `main`.
    pub fn new(main: Arc<dyn Transport>) -> Self {
        Self {
            main,
            others: BTreeMap::new(),
        }
    }

    /// A topic on another engine. Several topics may share one.
    #[must_use]
    pub fn topic(mut self, name: impl Into<ByteString>, engine: Arc<dyn Transport>) -> Self {
        self.others.insert(name.into(), engine);
        self
    }

    fn engine_of(&self, topic: &str) -> &Arc<dyn Transport> {
        self.others.get(base(topic)).unwrap_or(&self.main)
    }

    /// Each engine once, with what is for it.
    fn by_engine<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        topic: impl Fn(&T) -> ByteString,
    ) -> Vec<(&Arc<dyn Transport>, Vec<T>)> {
        let mut found: Vec<(&Arc<dyn Transport>, Vec<T>)> = Vec::new();
        for one in all {
            let engine = self.engine_of(&topic(&one));
            match found
                .iter_mut()
                .find(|(known, _)| Arc::ptr_eq(known, engine))
            {
                Some((_, ones)) => ones.push(one),
                None => found.push((engine, vec![one])),
            }
        }
        found
    }

    fn engines(&self) -> Vec<&Arc<dyn Transport>> {
        let mut engines = vec![&self.main];
        for engine in self.others.values() {
            if !engines.iter().any(|known| Arc::ptr_eq(known, engine)) {
                engines.push(engine);
            }
        }
        engines
    }
}

impl Transport for Split {
    fn capabilities(&self) -> Capabilities {
        let engines = self.engines().into_iter();
        let all = engines.map(|engine| engine.capabilities());
        let both = |one: Capabilities, other: Capabilities| Capabilities {
            durable: one.durable && other.durable,
            ordered_by_key: one.ordered_by_key && other.ordered_by_key,
            groups: one.groups && other.groups,
            replay: one.replay && other.replay,
            atomic_batch: false,
        };
        all.reduce(both).unwrap_or_default()
    }

    fn declare<'a>(&'a self, topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let parts = self.by_engine(topics.iter().cloned(), |spec| spec.name.clone());
            for (engine, topics) in parts {
                engine.declare(&topics).await?;
            }
            Ok(())
        })
    }

    /// A batch is published in its order, an engine's run after the other's, so that what was published is a prefix of it.
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            let is_together = |one: &Envelope, next: &Envelope| {
                Arc::ptr_eq(self.engine_of(&one.topic), self.engine_of(&next.topic))
            };
            let mut accepted = 0;
            for run in batch.chunk_by(is_together) {
                let Some(first) = run.first() else { continue };
                let published = self.engine_of(&first.topic).publish(run).await;
                published.map_err(|failed| PublishError {
                    accepted: accepted + failed.accepted,
                    error: failed.error,
                })?;
                accepted += run.len();
            }
            Ok(())
        })
    }

    fn subscribe<'a>(
        &'a self,
        spec: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        Box::pin(async move {
            let parts = self.by_engine(spec.topics.iter().cloned(), ByteString::clone);
            let mut subscriptions = Vec::with_capacity(parts.len());
            for (engine, topics) in parts {
                let group = spec.group.clone().filter(|_| engine.capabilities().groups);
                let mine = Subscribe {
                    topics,
                    group,
                    ..spec.clone()
                };
                subscriptions.push(engine.subscribe(&mine).await?);
            }
            let only = subscriptions.pop();
            match only {
                Some(only) if subscriptions.is_empty() => Ok(only),
                last => {
                    subscriptions.extend(last);
                    Ok(Box::new(Merged(subscriptions)) as Box<dyn Subscription>)
                }
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut closed = Ok(());
            for engine in self.engines() {
                closed = closed.and(engine.close().await);
            }
            closed
        })
    }
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split")
            .field("main", &self.main)
            .field("others", &self.others)
            .finish()
    }
}

/// Subscriptions of several engines as one. It ends when one of them ends: a new one is then made of all.
#[derive(Debug)]
struct Merged(Vec<Box<dyn Subscription>>);

impl Subscription for Merged {
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>> {
        Box::pin(async move {
            let (batch, first, rest) = select_all(self.0.iter_mut().map(|one| one.next(max))).await;
            drop(rest);
            // Whoever had something is asked last, so that a busy engine hides no other.
            if let Some(last) = self.0.len().checked_sub(1) {
                self.0.swap(first, last);
            }
            batch
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        let all: Vec<_> = self.0.iter().map(|one| one.flush()).collect();
        Box::pin(async move { try_join_all(all).await.map(drop) })
    }

    fn lag(&self) -> BoxFuture<'_, Result<u64>> {
        let all: Vec<_> = self.0.iter().map(|one| one.lag()).collect();
        Box::pin(async move {
            let lags = try_join_all(all).await?;
            Ok(lags.into_iter().fold(0, u64::saturating_add))
        })
    }
}
