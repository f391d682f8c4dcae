//! Sagas by orchestration, as a service declares, starts and tells them.

mod held;
mod host;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use trunkline_core::{ByteString, Error, ErrorKind, EventData, Result, report};
use trunkline_saga::{
    Data, Definition, Engine, Instance, Message, Probe, Settings, Which, Write, Written,
};

use crate::Cx;
use crate::alerts::Alerts;
use crate::events::{Reaction, reaction};
use crate::runtime::Runtime;

pub(crate) use held::Sagas;
pub use host::SagaHost;

/// An instance of a saga, as its function sees it: its steps work with a [`Cx`].
pub type Saga = trunkline_saga::Saga<SagaHost>;

/// A saga by orchestration, as a service declares it with [`Service::saga`](crate::Service::saga).
///
/// # Guarantees
/// The rows that a step writes with its [`Cx`], the events that it publishes and its entry in the saga's journal commit
/// together. Its calls carry idempotency keys that are the same at every attempt: whoever keeps such keys does each once. The
/// second call of a service within a step has a key of its own, and so on; for each to have the same key again, every attempt
/// makes its calls in the same order.
pub struct SagaDefinition {
    definition: Definition<SagaHost>,
    pub(crate) wakes: Vec<Reaction>,
}

impl SagaDefinition {
    /// A saga of this name, such as `order`: lower-case letters, digits and `-`.
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

    /// Tells events of this type to the instance with the key that `key` reads from them: there,
    /// [`Saga::event`](trunkline_saga::Saga::event) waits for them.
    ///
    /// # Guarantees
    /// An event is told once, in the transaction that notes it in the inbox. One for an instance that is not there, or has
    /// ended, is nobody's.
    #[must_use]
    pub fn wakes<T: EventData>(
        mut self,
        key: impl Fn(&T) -> String + Send + Sync + 'static,
    ) -> Self {
        let saga = self.name().clone();
        let woken = saga.clone();
        let key = Arc::new(key);
        let mut wakes = reaction::<T, _, _>(None, move |cx, event| {
            let (saga, key) = (saga.clone(), key.clone());
            async move {
                let message = Message {
                    id: event.envelope.id.clone(),
                    name: ByteString::from_static(T::TYPE),
                    data: Data::of(&event.data)?,
                    at: cx.now(),
                };
                match cx.tell_saga((&saga, &key(&event.data)), message).await? {
                    Written::NotFound | Written::Ended => Ok(()),
                    told => Engine::<SagaHost>::told(told),
                }
            }
        });
        wakes.saga = Some(woken);
        self.wakes.push(wakes);
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
    /// Starts an instance of a saga of this service when this work commits. The same key and input again are the instance
    /// that is there.
    ///
    /// # Errors
    /// `Conflict` (`saga_key_taken`) when the key is there with another input; `PermissionDenied` for a saga that the service
    /// does not declare; `InvalidInput` for an empty key or one above 256 bytes.
    pub async fn start_saga(
        &self,
        saga: &str,
        key: &str,
        input: &impl Serialize,
    ) -> Result<Instance> {
        let starting = self
            .sagas(saga)?
            .starting(saga, key, input, host::begin(self)?)?;
        let written = self.write_saga(&Write::Start(starting.clone())).await?;
        Engine::<SagaHost>::started(*starting, written)
    }

    /// Tells an instance what it waits for with `saga.signal(name, …)`, when this work commits. Work with a
    /// [stable id](Cx::stable_id) tells each name once.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when it has ended, `Overloaded` when too many messages wait for it; `PermissionDenied` for a saga
    /// that the service does not declare.
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
        Engine::<SagaHost>::told(self.tell_saga((saga, key), message).await?)
    }

    /// How an instance stands, as far as is committed: its state, what it says of itself, what it gave; none when there is
    /// none.
    ///
    /// # Errors
    /// `PermissionDenied` for a saga that the service does not declare; what the store says.
    pub async fn saga_status(&self, saga: &str, key: &str) -> Result<Option<Instance>> {
        let which = Which::Key(saga.into(), key.into());
        match self.sagas(saga)?.show(&which).await {
            Ok(record) => Ok(Some(record.instance)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn tell_saga(&self, (saga, key): (&str, &str), message: Message) -> Result<Written> {
        self.sagas(saga)?;
        let which = Which::Key(saga.into(), key.into());
        self.write_saga(&Write::Tell(which, message)).await
    }

    async fn write_saga(&self, write: &Write) -> Result<Written> {
        let mut tx = self.tx().await?;
        let written = tx.saga(write).await?;
        self.touches();
        Ok(written)
    }

    fn sagas(&self, saga: &str) -> Result<Engine<SagaHost>> {
        let engine = self.runtime().sagas.engine();
        let declares =
            |engine: &Engine<SagaHost>| engine.sagas().any(|known| *known.name() == saga);
        engine.filter(declares).ok_or_else(|| {
            let text = "the service does not declare this saga: add .saga(…)";
            Error::new(ErrorKind::PermissionDenied, "saga_undeclared", text)
                .with("service", self.service_name())
                .with("saga", saga)
        })
    }
}

/// The engine of a service's sagas, if it declares any.
pub(crate) fn engine(
    sagas: Vec<SagaDefinition>,
    runtime: &Arc<Runtime>,
    (alerts, probe): (&Alerts, Option<Arc<dyn Probe>>),
) -> Result<Option<Engine<SagaHost>>> {
    if sagas.is_empty() {
        return Ok(None);
    }
    let host = SagaHost::new(runtime.clone(), alerts.clone());
    let definitions = sagas.into_iter().map(|saga| saga.definition);
    let engine = Engine::probed(
        host,
        Arc::new(runtime.store.sagas()),
        runtime.env.clone(),
        (definitions, Settings::default(), probe),
    )
    .map_err(|error| error.with("service", &runtime.name))?;
    runtime.sagas.open(engine.clone());
    Ok(Some(engine))
}

/// Runs it until `stop`; then its instances are given back.
pub(crate) async fn run(engine: Engine<SagaHost>, stop: CancellationToken) {
    if let Err(error) = engine.run(stop.cancelled_owned()).await {
        tracing::error!(error = %report(&error), "the sagas of a service do not run");
    }
}
