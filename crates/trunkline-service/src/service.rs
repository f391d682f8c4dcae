//! A service, as its author declares it.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::Method;
use serde::de::DeserializeOwned;
use trunkline_bus::DeadLetter;
use trunkline_call::Responses;
use trunkline_call::policy::{Operation, Target};
use trunkline_core::{ByteString, Event, EventData, EventDecl, Result};
use trunkline_security::EVERY_OPERATION;
use trunkline_store::Migration;
use trunkline_telemetry::Check;

use crate::events::{Reaction, reaction};
use crate::http::{Asset, HttpHandler, Route};
use crate::jobs::{JobDecl, Schedule};
use crate::namespace::Namespace;
use crate::recovery::{LetterHandler, Recovery};
use crate::saga::SagaDefinition;
use crate::sourcing::AddProjection;
use crate::{Config, Cx};

/// A service is a value: its routes, the events it handles and publishes, its tables, and the services it calls.
/// Where it runs is configuration. What is not declared here is refused when it is tried.
pub struct Service {
    pub(crate) name: ByteString,
    pub(crate) version: ByteString,
    pub(crate) responses: Responses,
    pub(crate) migrations: &'static [Migration],
    pub(crate) calls: BTreeSet<ByteString>,
    /// What of each of them.
    pub(crate) calls_operations: BTreeMap<ByteString, BTreeSet<ByteString>>,
    pub(crate) external: Vec<External>,
    pub(crate) publishes: Vec<EventDecl>,
    pub(crate) routes: Vec<Route>,
    #[cfg(feature = "grpc")]
    pub(crate) grpc: Vec<crate::grpc::Declared>,
    pub(crate) reactions: Vec<Reaction>,
    pub(crate) jobs: Vec<JobDecl>,
    pub(crate) sagas: Vec<SagaDefinition>,
    pub(crate) projections: Vec<AddProjection>,
    pub(crate) namespaces: Vec<Namespace>,
    /// How long those who were cut off may take to come back to any of them.
    pub(crate) recovers: Duration,
    pub(crate) operations: Vec<(String, Operation)>,
    pub(crate) starts: Vec<StartHandler>,
    pub(crate) letters: Option<LetterHandler>,
    pub(crate) checks: Vec<(ByteString, Arc<dyn Check>)>,
    pub(crate) states: States,
    #[cfg(feature = "device")]
    pub(crate) devices: Option<crate::Devices>,
    /// Checks the service's section of the configuration.
    pub(crate) section: Option<fn(&Config, &str) -> Result<()>>,
}

/// Longer than from one heartbeat to the next.
const POLLED_WITHIN: Duration = Duration::from_secs(60);

/// Values that a service's handlers share, by type.
#[derive(Clone, Default)]
pub(crate) struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.get(&TypeId::of::<T>()).cloned()?.downcast().ok()
    }
}

/// A service outside the platform.
#[derive(Debug, Clone)]
pub(crate) struct External {
    pub(crate) name: ByteString,
    pub(crate) url: String,
}

pub(crate) type StartHandler = Arc<dyn Fn(Cx) -> BoxFuture<'static, Result<()>> + Send + Sync>;

impl Service {
    /// A service of this name, such as `order-service`: lower-case letters, digits and `-`.
    pub fn new(name: impl Into<ByteString>) -> Self {
        Self {
            name: name.into(),
            version: ByteString::from_static("0.0.0"),
            responses: Responses::Plain,
            migrations: &[],
            calls: BTreeSet::new(),
            calls_operations: BTreeMap::new(),
            external: Vec::new(),
            publishes: Vec::new(),
            routes: Vec::new(),
            #[cfg(feature = "grpc")]
            grpc: Vec::new(),
            reactions: Vec::new(),
            jobs: Vec::new(),
            sagas: Vec::new(),
            projections: Vec::new(),
            namespaces: Vec::new(),
            recovers: Duration::ZERO,
            operations: Vec::new(),
            starts: Vec::new(),
            letters: None,
            checks: Vec::new(),
            states: States::default(),
            #[cfg(feature = "device")]
            devices: None,
            section: None,
        }
    }

    /// Its version, for health reports and documents.
    #[must_use]
    pub fn version(mut self, version: impl Into<ByteString>) -> Self {
        self.version = version.into();
        self
    }

    /// How its answers look: plain, or as `{"data": …}`.
    #[must_use]
    pub fn responses(mut self, responses: Responses) -> Self {
        self.responses = responses;
        self
    }

    /// The tables it owns.
    #[must_use]
    pub fn migrations(mut self, migrations: &'static [Migration]) -> Self {
        self.migrations = migrations;
        self
    }

    /// Declares that it calls another service of the platform.
    #[must_use]
    pub fn calls(self, service: impl Into<ByteString>) -> Self {
        self.calls_operation(service, EVERY_OPERATION)
    }

    /// Declares that it uses this operation of another service: `METHOD /path/{of}/the/route`, or for gRPC
    /// `package.Service/Method`. Its tokens then name no others.
    #[must_use]
    pub fn calls_operation(
        mut self,
        service: impl Into<ByteString>,
        operation: impl Into<ByteString>,
    ) -> Self {
        let service = service.into();
        self.calls.insert(service.clone());
        self.calls_operations
            .entry(service)
            .or_default()
            .insert(operation.into());
        self
    }

    /// Declares that it calls something outside the platform, by default at `url`; `[external.<name>]` in the
    /// configuration says otherwise.
    #[must_use]
    pub fn calls_external(mut self, name: impl Into<ByteString>, url: impl Into<String>) -> Self {
        self.external.push(External {
            name: name.into(),
            url: url.into(),
        });
        self
    }

    /// Declares that it publishes an event.
    #[must_use]
    pub fn publishes<T: EventData>(mut self) -> Self {
        self.publishes.push(EventDecl::of::<T>());
        self
    }

    /// Answers `GET path`.
    #[must_use]
    pub fn get<A>(self, path: &'static str, handler: impl HttpHandler<A>) -> Self {
        self.route(Method::GET, path, handler)
    }

    /// Answers `POST path`.
    #[must_use]
    pub fn post<A>(self, path: &'static str, handler: impl HttpHandler<A>) -> Self {
        self.route(Method::POST, path, handler)
    }

    /// Answers `PUT path`.
    #[must_use]
    pub fn put<A>(self, path: &'static str, handler: impl HttpHandler<A>) -> Self {
        self.route(Method::PUT, path, handler)
    }

    /// Answers `PATCH path`.
    #[must_use]
    pub fn patch<A>(self, path: &'static str, handler: impl HttpHandler<A>) -> Self {
        self.route(Method::PATCH, path, handler)
    }

    /// Answers `DELETE path`.
    #[must_use]
    pub fn delete<A>(self, path: &'static str, handler: impl HttpHandler<A>) -> Self {
        self.route(Method::DELETE, path, handler)
    }

    /// Answers `POST path`, once for each `Idempotency-Key`: the same key with the same body gets the same
    /// answer, which commits together with the handler's transaction.
    #[must_use]
    pub fn idempotent_post<A>(mut self, path: &'static str, handler: impl HttpHandler<A>) -> Self {
        self.routes
            .push(Route::new(Method::POST, path, handler).idempotent());
        self
    }

    /// Answers `GET` of each with its bytes: a page, beside what it calls. Its document of operations does not list them.
    #[must_use]
    pub fn assets(mut self, assets: &[Asset]) -> Self {
        self.routes.extend(assets.iter().copied().map(Route::asset));
        self
    }

    /// Declares how one of its operations is called, such as `POST /api/v1/payments`: how long it may take, whether
    /// repeating it is safe. `[call.<name>]` in the configuration says otherwise.
    #[must_use]
    pub fn operation(mut self, name: impl Into<String>, said: Operation) -> Self {
        self.operations.push((name.into(), said));
        self
    }

    fn route<A>(
        mut self,
        method: Method,
        path: &'static str,
        handler: impl HttpHandler<A>,
    ) -> Self {
        self.routes.push(Route::new(method, path, handler));
        self
    }

    /// Handles an event, each one in a transaction of its own.
    #[must_use]
    pub fn on<T, F, W>(mut self, handler: F) -> Self
    where
        T: EventData,
        F: Fn(Cx, Event<T>) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        self.reactions.push(reaction(None, handler));
        self
    }

    /// Handles an event, up to `batch_max` of them in one transaction with a savepoint each.
    #[must_use]
    pub fn on_batch<T, F, W>(mut self, batch_max: usize, handler: F) -> Self
    where
        T: EventData,
        F: Fn(Cx, Event<T>) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        self.reactions
            .push(reaction(Some(batch_max.max(1)), handler));
        self
    }

    /// Decides what becomes of its dead letters, in a transaction of its own: whether each is replayed by itself, and what else
    /// is to be done about it. Declared again, the last handler counts.
    ///
    /// # Guarantees
    /// The handler runs at least once for each failure that parks a letter or keeps it parked, those of before this start
    /// included; its effects and its decision are committed together, and once. It runs for one letter at a time, and not for
    /// letters that only wait behind another of their key. If it fails, it is tried three times; then the letter is kept, which
    /// the audit log tells. While its letter waits, and when it is replayed, the key's order stays: all its letters are replayed,
    /// the first one first.
    #[must_use]
    pub fn on_dead_letter<F, W>(mut self, handler: F) -> Self
    where
        F: Fn(Cx, DeadLetter) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Recovery>> + Send + 'static,
    {
        self.letters = Some(Arc::new(move |cx, letter| Box::pin(handler(cx, letter))));
        self
    }

    /// Serves devices: handles what they report, knows which are there, and tells them what to do.
    #[cfg(feature = "device")]
    #[must_use]
    pub fn devices(mut self, devices: crate::Devices) -> Self {
        self.devices = Some(devices);
        self
    }

    /// Runs something again and again, in a transaction; when it runs next survives restarts.
    ///
    /// # Guarantees
    /// One run at a time, however many processes there are. A run may take five minutes; one that fails, panics or
    /// takes longer is undone, and the next comes at its own time.
    #[must_use]
    pub fn job<F, W>(mut self, name: &'static str, schedule: Schedule, handler: F) -> Self
    where
        F: Fn(Cx) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        let run: StartHandler = Arc::new(move |cx| Box::pin(handler(cx)));
        self.jobs.push(JobDecl {
            name,
            schedule,
            run,
        });
        self
    }

    /// Runs a saga by orchestration; its handlers start instances with `cx.start_saga(…)`. The events that wake it are those
    /// of a group of their own.
    #[must_use]
    pub fn saga(mut self, saga: SagaDefinition) -> Self {
        self.reactions.extend(saga.wakes.iter().cloned());
        self.sagas.push(saga);
        self
    }

    /// Answers browsers in a namespace of Socket.IO, under `/socket.io/`.
    #[must_use]
    pub fn namespace(mut self, mut namespace: Namespace) -> Self {
        if self.namespaces.is_empty() {
            // A request of polling waits until there is something, or until the next heartbeat.
            let waits = Operation::new().timeout(POLLED_WITHIN).no_retry();
            self = self.operation("GET /socket.io/", waits);
        }
        self.reactions.append(&mut namespace.tells);
        self.recovers = self.recovers.max(namespace.recovers);
        self.namespaces.push(namespace);
        self
    }

    /// Runs something once at each start, in a transaction, before any request or event reaches the service.
    #[must_use]
    pub fn on_start<F, W>(mut self, handler: F) -> Self
    where
        F: Fn(Cx) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        self.starts.push(Arc::new(move |cx| Box::pin(handler(cx))));
        self
    }

    /// Adds a health check of something that it stands on.
    #[must_use]
    pub fn check(mut self, name: impl Into<ByteString>, check: Arc<dyn Check>) -> Self {
        self.checks.push((name.into(), check));
        self
    }

    /// Declares the form of its section of the configuration, `[service.<name>]`, so that a mistake there is found
    /// at the start, with its line. Handlers read it with `cx.config::<T>()`.
    #[must_use]
    pub fn config<T: DeserializeOwned>(mut self) -> Self {
        self.section = Some(Config::check_section::<T>);
        self
    }

    /// Shares a value with its handlers, who get at it by its type: `cx.state::<T>()`.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.0.insert(TypeId::of::<T>(), Arc::new(value));
        self
    }

    /// What it declares of its operations.
    pub(crate) fn declared(&self) -> Result<Target> {
        let mut target = Target::new();
        for (name, said) in &self.operations {
            target = target.operation(name.parse()?, *said);
        }
        Ok(target)
    }

    /// Its name.
    pub fn name(&self) -> &ByteString {
        &self.name
    }

    /// Every event type that it publishes or handles.
    pub fn events(&self) -> impl Iterator<Item = EventDecl> {
        self.publishes
            .iter()
            .copied()
            .chain(self.reactions.iter().map(|reaction| reaction.decl))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Every so often.
pub fn every(interval: Duration) -> Schedule {
    Schedule::Every(interval)
}
