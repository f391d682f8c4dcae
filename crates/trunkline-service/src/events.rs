//! Events on their way to a service's handlers.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Mutex;
use trunkline_bus::{Handler, Outcome};
use trunkline_core::{
    ByteString, Envelope, Error, Event, EventData, EventDecl, Result, SchemaRegistry,
};
use trunkline_realtime::Stage;
use trunkline_telemetry::Scope;

use crate::Cx;
use crate::cx::{DUPLICATE, Shared};
use crate::rooms::Binding;
use crate::runtime::Runtime;

/// How a service reacts to one event type.
#[derive(Clone)]
pub(crate) struct Reaction {
    pub(crate) decl: EventDecl,
    /// How many may share a transaction; none means one at a time.
    pub(crate) batch_max: Option<usize>,
    /// The saga that it wakes: a group of its own.
    pub(crate) saga: Option<ByteString>,
    /// The rooms that are told of it: a group of its own.
    pub(crate) rooms: Option<Binding>,
    run: Arc<dyn Fn(Cx, Envelope) -> BoxFuture<'static, Result<()>> + Send + Sync>,
}

pub(crate) fn reaction<T, F, W>(batch_max: Option<usize>, handler: F) -> Reaction
where
    T: EventData,
    F: Fn(Cx, Event<T>) -> W + Send + Sync + 'static,
    W: Future<Output = Result<()>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Reaction {
        decl: EventDecl::of::<T>(),
        batch_max,
        saga: None,
        rooms: None,
        run: Arc::new(move |cx, envelope| {
            let handler = handler.clone();
            Box::pin(async move { handler(cx, Event::decode(envelope)?).await })
        }),
    }
}

/// Handles the events of one group of a service, over the service's store.
pub(crate) struct Reactions {
    group: ByteString,
    runtime: Arc<Runtime>,
    by_type: HashMap<&'static str, Reaction>,
    schemas: SchemaRegistry,
}

impl Reactions {
    pub(crate) fn new(
        group: ByteString,
        runtime: Arc<Runtime>,
        reactions: &[Reaction],
    ) -> Result<Self> {
        Ok(Self {
            group,
            runtime,
            by_type: reactions
                .iter()
                .map(|r| (r.decl.event_type, r.clone()))
                .collect(),
            schemas: SchemaRegistry::of(reactions.iter().map(|reaction| &reaction.decl))?,
        })
    }

    /// One event in a transaction of its own.
    async fn alone(&self, event: &Envelope) -> Result<()> {
        let Some(reaction) = self.by_type.get(&*event.event_type) else {
            return Ok(());
        };
        // The inbox decides when the transaction opens, and that may be late: a handler that first sends a mail or
        // makes a call would do so again for an event that was handled before. So the inbox is read first; the
        // insert stays, for two who handle the same event at once.
        if self.runtime.store.seen(&self.group, &event.id).await? {
            return Ok(());
        }
        let cx = Cx::of_event(self.runtime.clone(), &self.group, event, None);
        let done = match react((&self.runtime, &self.schemas), reaction, &cx, event).await {
            Ok(()) => cx.finish(None).await,
            Err(error) => Err(error),
        };
        match done {
            Err(error) => {
                cx.undo().await;
                if error.code() == DUPLICATE {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            done => done,
        }
    }

    /// Several events in one transaction, with a savepoint each.
    async fn together(&self, batch: &[Envelope]) -> Result<Vec<Outcome>> {
        let shared = self.share(false).await?;
        let mut outcomes = Outcomes::default();
        for event in batch {
            if !outcomes.blocks(event) {
                outcomes.push(event, self.within(&shared, event).await?);
            }
        }
        let tx = shared.tx.lock().await.take();
        if let Some(tx) = tx {
            tx.commit().await?;
            shared.stage.send();
            if shared.touched.load(Ordering::Acquire) {
                self.runtime.committed();
            }
        }
        Ok(outcomes.all)
    }

    async fn share(&self, rehearsal: bool) -> Result<Shared> {
        let tx = self.runtime.store.begin().await?;
        Ok(Shared {
            tx: Arc::new(Mutex::new(Some(tx))),
            rehearsal,
            touched: Arc::default(),
            stage: Stage::default(),
        })
    }

    /// Several events of one key in one transaction that is rolled back.
    async fn rehearsal(&self, events: &[Envelope]) -> Result<Vec<Outcome>> {
        let shared = self.share(true).await?;
        let mut outcomes = Outcomes::default();
        for event in events {
            if outcomes.blocks(event) {
                continue;
            }
            let tried = AssertUnwindSafe(self.within(&shared, event)).catch_unwind();
            let panicked = |_| Err(Error::internal("the handler panicked"));
            let ended = tried.await.unwrap_or_else(panicked);
            outcomes.push(event, ended.unwrap_or_else(Outcome::Failed));
        }
        let tx = shared.tx.lock().await.take();
        if let Some(tx) = tx {
            tx.rollback().await?;
        }
        Ok(outcomes.all)
    }

    /// One event of a batch. An error is one of the whole transaction.
    async fn within(&self, shared: &Shared, event: &Envelope) -> Result<Outcome> {
        let Some(reaction) = self.by_type.get(&*event.event_type) else {
            return Ok(Outcome::Done);
        };
        if let Some(tx) = shared.tx.lock().await.as_mut() {
            tx.savepoint(1).await?;
            if !tx.first_time(&self.group, &event.id).await? {
                tx.release(1).await?;
                return Ok(Outcome::Done);
            }
        }
        let cx = Cx::of_event(
            self.runtime.clone(),
            &self.group,
            event,
            Some(shared.clone()),
        );
        let done = match react((&self.runtime, &self.schemas), reaction, &cx, event).await {
            Ok(()) => cx.finish(None).await,
            Err(error) => Err(error),
        };
        if let Some(tx) = shared.tx.lock().await.as_mut() {
            if done.is_err() {
                tx.rollback_to(1).await?;
            }
            tx.release(1).await?;
        }
        Ok(match done {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(error),
        })
    }
}

impl Handler for Reactions {
    fn handle<'a>(&'a self, batch: &'a [Envelope], _attempt: u32) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            if let [event] = batch {
                return vec![outcome(self.alone(event).await)];
            }
            match self.together(batch).await {
                Ok(outcomes) => outcomes,
                // The transaction as a whole came to nothing: each event is tried again by itself.
                Err(error) => {
                    tracing::warn!(
                        group = &*self.group, events = batch.len(),
                        error = %trunkline_core::report(&error),
                        "a batch was undone; its events run one by one"
                    );
                    self.one_by_one(batch).await
                }
            }
        })
    }

    fn rehearse<'a>(&'a self, events: &'a [Envelope]) -> BoxFuture<'a, Option<Vec<Outcome>>> {
        Box::pin(async move {
            Some(self.rehearsal(events).await.unwrap_or_else(|error| {
                // The transaction as a whole could not be had: that is how the first of them would end.
                let mut outcomes = vec![Outcome::Failed(error)];
                outcomes.resize_with(events.len(), || Outcome::Blocked);
                outcomes
            }))
        })
    }
}

impl Reactions {
    async fn one_by_one(&self, batch: &[Envelope]) -> Vec<Outcome> {
        let mut outcomes = Outcomes::default();
        for event in batch {
            if !outcomes.blocks(event) {
                outcomes.push(event, outcome(self.alone(event).await));
            }
        }
        outcomes.all
    }
}

/// Runs the handler of an event within a unit of work.
pub(crate) async fn react(
    (runtime, schemas): (&Arc<Runtime>, &SchemaRegistry),
    reaction: &Reaction,
    cx: &Cx,
    event: &Envelope,
) -> Result<()> {
    let mut event = event.clone();
    runtime.open(&mut event, reaction.decl.encrypted)?;
    if event.version == reaction.decl.version {
        schemas.validate_event(&event)?;
    }
    // Of a batch, each event's lines say to which flow it belongs.
    let scope = Scope::new(&runtime.name, cx.context());
    scope.run((reaction.run)(cx.clone(), event)).await
}

/// How the events of a batch ended so far: after a failure, later ones of its key are not tried.
#[derive(Default)]
struct Outcomes<'a> {
    all: Vec<Outcome>,
    failed: Vec<&'a ByteString>,
}

impl<'a> Outcomes<'a> {
    /// Whether an earlier event of its key has failed; if so, that is how this one ends.
    fn blocks(&mut self, event: &Envelope) -> bool {
        let blocks = self.failed.contains(&event.order_key());
        if blocks {
            self.all.push(Outcome::Blocked);
        }
        blocks
    }

    fn push(&mut self, event: &'a Envelope, outcome: Outcome) {
        if matches!(outcome, Outcome::Failed(_)) {
            self.failed.push(event.order_key());
        }
        self.all.push(outcome);
    }
}

fn outcome(done: Result<()>) -> Outcome {
    match done {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(error),
    }
}

impl fmt::Debug for Reactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactions")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
