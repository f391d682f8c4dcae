//! Sagas by orchestration, as a service declares, starts and tells them.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use trunkline_core::{ByteString, Context, Error, EventData, Result, TraceContext, report};
use trunkline_saga::{
    At, Begin, Committed, Data, Definition, Engine, Host, Instance, Message, Probe, Settings,
    State, WeakEngine, Went, Which, Write, Written,
};
use trunkline_telemetry::SpanKind;

use crate::Cx;
use crate::alerts::Alerts;
use crate::events::{Reaction, reaction};
use crate::runtime::Runtime;

/// An instance of a saga, as its function sees it: its steps work with a [`Cx`].
pub type Saga = trunkline_saga::Saga<SagaHost>;

/// A saga by orchestration, as a service declares it with [`Service::saga`](crate::Service::saga).
///
/// # Guarantees
/// What a step does in its service's store, the events that it publishes and its entry in the saga's journal commit together.
/// Its calls to other services carry the same idempotency key at every attempt, so that what answers to such keys does
/// nothing twice: one call of a kind for each step.
pub struct SagaDefinition {
    definition: Definition<SagaHost>,
    pub(crate) wakes: Vec<Reaction>,
}

impl SagaDefinition {
    /// A saga of this name, such as `order`.
    pub fn named(name: impl Into<ByteString>) -> Self {
        Self {
            definition: Definition::named(name),
            wakes: Vec::new(),
        }
    }

    /// Its code in one version, from 1; see [`Definition::version`].
    #[must_use]
    pub fn version<I, O, F, W>(mut self, version: u32, function: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(Saga, I) -> W + Send + Sync + 'static,
        W: Future<Output = Result<O>> + Send + 'static,
    {
        self.definition = self.definition.version(version, function);
        self
    }

    /// What is done last when an instance has come to nothing; see [`Definition::failed`].
    #[must_use]
    pub fn failed<I, F, W>(mut self, handler: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        F: Fn(Cx, I, Error) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        self.definition = self.definition.failed(handler);
        self
    }

    /// Events of this type are told to the instance with the key that an event is given here, which waits for them with
    /// [`Saga::event`](trunkline_saga::Saga::event). Those for an instance that is not there, or has ended, are nobody's.
    #[must_use]
    pub fn wakes<T: EventData>(mut self, key: fn(&T) -> String) -> Self {
        let saga = self.name().clone();
        let wakes = saga.clone();
        let mut reaction = reaction::<T, _, _>(None, move |cx, event| {
            let saga = saga.clone();
            async move {
                let key = key(&event.data);
                let message = Message {
                    id: event.envelope.id.clone(),
                    name: ByteString::from_static(T::TYPE),
                    data: Data::of(&event.data)?,
                    at: cx.now(),
                };
                cx.tell_saga((&saga, &key), message).await.map(drop)
            }
        });
        reaction.saga = Some(wakes);
        self.wakes.push(reaction);
        self
    }

    /// Its name.
    pub fn name(&self) -> &ByteString {
        self.definition.name()
    }
}

impl fmt::Debug for SagaDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.definition.fmt(f)
    }
}

impl Cx {
    /// Starts a saga of this service, when this work commits. The same key and input again are the instance that is there.
    ///
    /// # Errors
    /// `Conflict` (`saga_key_taken`) when the key is there with another input; `NotFound` for a saga that the service does not
    /// declare.
    pub async fn start_saga(
        &self,
        saga: &str,
        key: &str,
        input: &impl Serialize,
    ) -> Result<Instance> {
        let engine = self.sagas()?;
        let starting = engine.starting(saga, key, input, self.begin()?)?;
        let started = self.write_saga(&Write::Start(starting.clone())).await?;
        Engine::<SagaHost>::started(*starting, started)
    }

    /// Tells an instance something that it waits for with `saga.signal(name, …)`, when this work commits. The same work tells
    /// each name once.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when it has ended, `Overloaded` when too many messages wait for it.
    pub async fn signal_saga(
        &self,
        (saga, key): (&str, &str),
        name: &str,
        data: &impl Serialize,
    ) -> Result<()> {
        let message = Message {
            id: format!("{}:{name}", self.stable_id()).into(),
            name: name.into(),
            data: Data::of(data)?,
            at: self.now(),
        };
        let told = self.tell_saga((saga, key), message).await?;
        Engine::<SagaHost>::told(told)
    }

    /// How an instance stands; none when there is none.
    ///
    /// # Errors
    /// What the store says.
    pub async fn saga(&self, saga: &str, key: &str) -> Result<Option<Instance>> {
        let which = Which::Key(saga.into(), key.into());
        match self.sagas()?.show(&which).await {
            Ok(record) => Ok(Some(record.instance)),
            Err(error) if error.code() == "saga_not_found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn tell_saga(&self, (saga, key): (&str, &str), message: Message) -> Result<Written> {
        let which = Which::Key(saga.into(), key.into());
        self.write_saga(&Write::Tell(which, message)).await
    }

    async fn write_saga(&self, write: &Write) -> Result<Written> {
        let written = self.tx().await?.saga(write).await?;
        self.touches();
        Ok(written)
    }

    fn sagas(&self) -> Result<Engine<SagaHost>> {
        let sagas = self.runtime().sagas.get().ok_or_else(|| {
            Error::not_found("saga_unknown", "the service declares no saga: add .saga(…)")
                .with("service", self.service_name())
        })?;
        sagas
            .upgrade()
            .ok_or_else(|| Error::unavailable("saga_engine_stopped", "the service is stopping"))
    }

    /// What an instance has from this work.
    fn begin(&self) -> Result<Begin> {
        let context = self.context();
        let started = Started {
            trace: context.trace.to_string(),
            user_id: context.user_id.clone(),
        };
        Ok(Begin {
            context: Data::of(&started)?,
            correlation_id: context.correlation_id.clone(),
            parent: None,
        })
    }
}

/// What an instance has from whoever started it.
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    /// W3C `traceparent`.
    trace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<ByteString>,
}

/// A service, as its sagas see it.
#[derive(Clone)]
pub struct SagaHost {
    runtime: Arc<Runtime>,
    alerts: Alerts,
}

impl SagaHost {
    fn context(&self, at: &At) -> Context {
        let mut context = Context::root(&self.runtime.env);
        context.correlation_id = at.instance.correlation_id.clone();
        if let Ok(started) = at.instance.context.get::<Started>() {
            context.user_id = started.user_id;
            context.trace = started.trace.parse().unwrap_or(context.trace);
        }
        context
    }
}

impl Host for SagaHost {
    type Work = Cx;

    fn begin(&self, at: &At) -> Cx {
        let mut context = self.context(at);
        let what = if at.undo { "undo " } else { "" };
        let name = format!("saga {} {what}{}", at.instance.saga, at.name);
        let parent: Option<TraceContext> = Some(context.trace);
        let telemetry = &self.runtime.telemetry;
        let mut span = telemetry.span(SpanKind::Internal, name, &self.runtime.name, parent);
        if span.is_recorded() {
            span.set("saga.id", at.instance.id.to_string());
            span.set("saga.attempt", i64::from(at.attempt));
        }
        context.trace = span.context();
        Cx::of_step(self.runtime.clone(), at, context, span)
    }

    fn commit<'a>(&'a self, work: &'a Cx, went: Went) -> BoxFuture<'a, Result<Committed>> {
        Box::pin(work.finish_step(went))
    }

    fn abandon<'a>(&'a self, work: &'a Cx, error: &'a Error) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            work.end_span(Some(error));
            work.undo().await;
        })
    }

    fn settled(&self, instance: &Instance) {
        if instance.state == State::Parked {
            self.alerts.saga_parked(&self.runtime.name, instance);
        }
    }
}

impl fmt::Debug for SagaHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SagaHost")
            .field("service", &self.runtime.name)
            .finish_non_exhaustive()
    }
}

/// The engine of a service's sagas, if it has any.
pub(crate) fn engine(
    sagas: &mut Vec<SagaDefinition>,
    runtime: &Arc<Runtime>,
    (alerts, probe): (&Alerts, Option<Arc<dyn Probe>>),
) -> Result<Option<Engine<SagaHost>>> {
    if sagas.is_empty() {
        return Ok(None);
    }
    let host = SagaHost {
        runtime: runtime.clone(),
        alerts: alerts.clone(),
    };
    let definitions = sagas.drain(..).map(|saga| saga.definition);
    let journal = Arc::new(runtime.store.sagas());
    let how = (definitions, Settings::default(), probe);
    let engine = Engine::probed(host, journal, runtime.env.clone(), how)
        .map_err(|error| error.with("service", &runtime.name))?;
    // The engine keeps the service, and the service does not keep the engine.
    let handle: WeakEngine<SagaHost> = engine.downgrade();
    runtime.sagas.set(handle).ok();
    Ok(Some(engine))
}

/// Runs it until `stop`.
pub(crate) async fn run(engine: Engine<SagaHost>, stop: CancellationToken) {
    if let Err(error) = engine.run(stop.cancelled_owned()).await {
        tracing::error!(error = %report(&error), "the sagas did not run");
    }
}
