//! One service, brought up.

use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunkline_bus::{Consumer, ConsumerConfig, ConsumerPorts, Handler, Transport, lane};
use trunkline_call::Network;
use trunkline_call::server::{self, Limits};
use trunkline_console::SagaDesk;
use trunkline_core::{ByteString, Context, Env, Result};
use trunkline_saga::{Engine, Probe};
use trunkline_security::{Audit, EventSealer};
use trunkline_store::{AuditLog, Projections, Relay, Store};
use trunkline_telemetry::{Health, Scope, SpanKind, Telemetry};

use super::auditing::Auditing;
use super::secure::{self, Gate, Secure};
use super::{Backbones, engine, health, topics};
use crate::alerts::Alerts;
use crate::events::{Reaction, Reactions};
use crate::http::router;
use crate::namespace::{Namespace, Sockets};
use crate::recovery::{LetterHandler, Recoverer};
use crate::rooms::{self, Follower, Rooms};
use crate::runtime::Runtime;
use crate::saga::{self, SagaHost, Sagas};
use crate::{Config, Cx, Service, asyncapi, jobs, openapi, sourcing};

/// What every service of a process shares.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) platform: ByteString,
    pub(super) config: Arc<Config>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) network: Network,
    pub(super) telemetry: Telemetry,
    pub(super) alerts: Alerts,
    pub(super) sealer: Option<EventSealer>,
    pub(super) probe: Option<Arc<dyn Probe>>,
    pub(super) secure: Secure,
    pub(super) env: Env,
}

impl Shared {
    /// What the processes of a service share for those who are connected to them, if the configuration says so.
    fn backbones(&self, service: &str) -> Result<Option<Backbones>> {
        let Some(url) = &self.config.realtime.backbone else {
            return Ok(None);
        };
        let url = self.config.url(url, service);
        engine::backbones(&url, &format!("{}.{service}", self.platform)).map(Some)
    }
}

/// A service that is up: it answers calls and sends its events, but handles none yet.
pub(super) struct Unit {
    pub(super) runtime: Arc<Runtime>,
    pub(super) relay: Relay,
    pub(super) health: Health,
    /// Its subscriptions, once it has them.
    pub(super) consumers: Vec<Consumer>,
    /// What it answers with, for whoever calls it from another process.
    pub(super) router: Router,
    /// Who stands at its door.
    pub(super) gate: Gate,
    reactions: Vec<Reaction>,
    jobs: Vec<jobs::JobDecl>,
    starts: Vec<crate::service::StartHandler>,
    letters: Option<LetterHandler>,
    /// How far back those go who come back.
    recovers: Duration,
    /// Who tells rooms of events, once it subscribes.
    follower: Mutex<Option<Follower>>,
    /// Who decides about its dead letters, once it subscribes.
    recoverer: Option<Recoverer>,
    /// The engine of its sagas, if it has any.
    pub(super) sagas: Option<Engine<SagaHost>>,
    auditing: Auditing,
    #[cfg(feature = "device")]
    devices: Option<crate::Devices>,
    #[cfg(feature = "device")]
    gateway: Option<trunkline_device::DeviceGateway>,
    _mounted: Mounted,
}

/// Takes a service off the network when dropped. Its routes hold the network, to call others, and the network holds its
/// routes: without this neither would ever end, nor what they keep open. The same holds for a service and its sagas, and its health checks.
struct Mounted {
    network: Network,
    name: ByteString,
    runtime: Arc<Runtime>,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.network.unmount(&self.name);
        self.runtime.sagas.close();
        self.runtime.health.close();
    }
}

impl Unit {
    /// Opens the store, mounts the routes and starts the relay.
    pub(super) async fn raise(mut service: Service, shared: &Shared) -> Result<Self> {
        let name = service.name.clone();
        let store = open_store(&service, shared)
            .await
            .map_err(|error| error.with("service", &name))?;
        let projections = std::mem::take(&mut service.projections);
        let projections = sourcing::prepare(projections, store.clone()).await;
        let projections = projections.map_err(|error| error.with("service", &name))?;
        let audit_log = AuditLog::open(store.clone(), None).await;
        let audit_log = audit_log.map_err(|error| error.with("service", &name))?;
        let (auditing, audit) = Auditing::start(audit_log.clone(), &shared.env);
        let secure = &shared.secure;
        let gate = secure.gate(&name, &audit, &shared.network)?;
        place_outside(&service, shared)?;
        let runtime = Arc::new(runtime_of(
            &service,
            shared,
            projections,
            (audit, audit_log),
        ));
        let telemetry = shared.telemetry.clone();
        let relay = Relay::start(
            store,
            shared.transport.clone(),
            telemetry,
            shared.env.clone(),
        );
        let health = health::of_service(&service, &runtime, &relay);
        secure.watch_over(&name, &health);
        let router = routes((&service, &gate), &runtime, health.clone(), shared)?;
        let namespaces = std::mem::take(&mut service.namespaces);
        let router = with_sockets(router, namespaces, &runtime, shared).await?;
        let engine = saga::engine(
            std::mem::take(&mut service.sagas),
            &runtime,
            (&shared.alerts, shared.probe.clone()),
        )?;
        if let Some(engine) = &engine {
            health::watch_sagas(&health, &runtime, engine);
        }
        let network = shared.network.clone();
        network.mount(name.clone(), router.clone(), service.responses);
        Ok(Self {
            _mounted: Mounted {
                network,
                name,
                runtime: runtime.clone(),
            },
            runtime,
            relay,
            health,
            consumers: Vec::new(),
            router,
            gate,
            reactions: service.reactions,
            jobs: service.jobs,
            starts: service.starts,
            letters: service.letters,
            recovers: service.recovers,
            follower: Mutex::default(),
            recoverer: None,
            sagas: engine,
            auditing,
            #[cfg(feature = "device")]
            devices: service.devices,
            #[cfg(feature = "device")]
            gateway: None,
        })
    }

    /// Runs what the service wants to run before anything reaches it.
    pub(super) async fn begin(&self) -> Result<()> {
        for start in &self.starts {
            let runtime = &self.runtime;
            let mut span = runtime
                .telemetry
                .span(SpanKind::Internal, "start", &runtime.name, None);
            let mut context = Context::root(&runtime.env);
            context.trace = span.context();
            let scope = Scope::new(&runtime.name, &context);
            let cx = Cx::new(runtime.clone(), context);
            let done = scope.run(async {
                start(cx.clone()).await?;
                cx.finish(None).await
            });
            if let Err(error) = done.await {
                span.fail(&error);
                cx.undo().await;
                return Err(error
                    .with("service", &self.runtime.name)
                    .with("in", "on_start"));
            }
        }
        Ok(())
    }

    /// Starts to handle events: one group for those that run one by one, one for those that share transactions.
    pub(super) async fn consume(&mut self, shared: &Shared) -> Result<()> {
        for (group, reactions) in topics::groups(&self.runtime.name, &self.reactions) {
            if reactions.iter().any(|reaction| reaction.rooms.is_some()) {
                self.tell_rooms(group, reactions, shared).await?;
                continue;
            }
            let handler = Reactions::new(group.clone(), self.runtime.clone(), &reactions)?;
            let batches = reactions.iter().filter_map(|reaction| reaction.batch_max);
            let mut config = self.consumer_config(group, &reactions, shared);
            config.batch_max = batches.max().unwrap_or(1);
            if config.batch_max > 1 {
                // One store, one writer: batches beside each other would only wait for each other.
                config.handlers_max = 3;
            }
            let consumer = self.start(config, Arc::new(handler), shared).await?;
            self.consumers.push(consumer);
        }
        #[cfg(feature = "device")]
        if let Some(devices) = self.devices.take() {
            let (runtime, alerts) = (&self.runtime, &shared.alerts);
            let started = crate::device::start(devices, runtime, alerts, &self.health).await;
            let (gateway, consumer) =
                started.map_err(|error| error.with("service", &runtime.name))?;
            self.gateway = Some(gateway);
            self.consumers.push(consumer);
        }
        health::watch(&self.health, self.relay.clone(), self.consumers.clone());
        let (runtime, consumers) = (&self.runtime, &self.consumers);
        let letters = self.letters.take();
        self.recoverer = letters.map(|handler| Recoverer::new(runtime.clone(), handler, consumers));
        Ok(())
    }

    /// Starts to tell rooms of events: all nodes together where they share a log, or this one by itself.
    async fn tell_rooms(
        &mut self,
        group: ByteString,
        reactions: Vec<Reaction>,
        shared: &Shared,
    ) -> Result<()> {
        let mut config = self.consumer_config(group.clone(), &reactions, shared);
        let topics = topics::read_by(&reactions);
        let rooms = Rooms::new(group, self.runtime.clone(), (reactions, self.recovers))?;
        if shared.config.realtime.backbone.is_some() {
            config.blameless = rooms::is_away;
            let consumer = self.start(config, Arc::new(rooms), shared).await?;
            self.consumers.push(consumer);
            return Ok(());
        }
        let lanes = topics.into_iter().flat_map(|(topic, lanes)| {
            let lanes = lanes.into_iter();
            lanes.map(move |priority| lane(topic, priority))
        });
        self.runtime.sockets.begin(self.runtime.env.now());
        let (transport, back) = (shared.transport.clone(), self.recovers);
        let follower = Follower::open(rooms, transport, lanes.collect(), back).await?;
        *self.follower.lock() = Some(follower);
        Ok(())
    }

    fn consumer_config(
        &self,
        group: ByteString,
        reactions: &[Reaction],
        shared: &Shared,
    ) -> ConsumerConfig {
        let mut config = ConsumerConfig::new(group);
        config.service = self.runtime.name.clone();
        let events = &shared.config.events;
        config.retry.attempts_max = events.attempts_max;
        config.retry.initial = Duration::from_millis(events.retry_initial_ms);
        config.retry.max = Duration::from_millis(events.retry_max_ms);
        config.handler_timeout = Duration::from_millis(events.handler_timeout_ms);
        config.replays_max = config.replays_max.max(events.recoveries_max);
        // A dead letter needs the store as much as its event does.
        config.blameless = trunkline_store::is_away;
        for (topic, lanes) in topics::read_by(reactions) {
            config = config.topic(topic, &lanes);
        }
        config
    }

    async fn start(
        &self,
        config: ConsumerConfig,
        handler: Arc<dyn Handler>,
        shared: &Shared,
    ) -> Result<Consumer> {
        let ports = ConsumerPorts {
            transport: shared.transport.clone(),
            handler,
            lot: shared.alerts.over(self.runtime.store.parking_lot()),
            telemetry: shared.telemetry.clone(),
            env: shared.env.clone(),
        };
        Consumer::start(config, ports).await
    }

    /// Starts the jobs, the alerts, the recovery of dead letters, the sagas and the projections, which end with `stop`. When each job runs
    /// first is written down by then.
    pub(super) async fn work(
        &mut self,
        alerts: &Alerts,
        into: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Result<()> {
        for job in self.jobs.drain(..) {
            let declared = jobs::declare(&self.runtime, &job).await;
            declared.map_err(|error| {
                error
                    .with("service", &self.runtime.name)
                    .with("job", job.name)
            })?;
            into.spawn(jobs::run(self.runtime.clone(), job, stop.clone()));
        }
        if let Some(sender) = alerts.sender(&self.runtime.store) {
            into.spawn(sender.run(stop.clone()));
        }
        if let Some(recoverer) = self.recoverer.take() {
            recoverer.start(into, stop);
        }
        if let Some(follower) = self.follower.lock().take() {
            into.spawn(follower.run(stop.clone()));
        }
        if let Some(engine) = self.sagas.clone() {
            into.spawn(saga::run(engine, stop.clone()));
        }
        let projections = self.runtime.projections.clone();
        if !projections.is_empty() {
            let stop = stop.clone();
            into.spawn(async move { projections.run(stop.cancelled()).await });
        }
        Ok(())
    }

    /// Its sagas for the console, if it has any.
    pub(super) fn desk(&self) -> Option<(ByteString, Arc<dyn SagaDesk>)> {
        let engine = self.sagas.clone()?;
        Some((self.runtime.name.clone(), Arc::new(engine)))
    }

    /// Its projections for the console, if it has any.
    pub(super) fn projections(&self) -> Option<(ByteString, Projections)> {
        let all = &self.runtime.projections;
        (!all.is_empty()).then(|| (self.runtime.name.clone(), all.clone()))
    }

    /// Sends what is committed, then closes the store.
    pub(super) async fn lower(&self, limit: Duration) {
        #[cfg(feature = "device")]
        if let Some(gateway) = &self.gateway {
            gateway.stop().await;
        }
        if !self.relay.drain(limit).await {
            tracing::warn!(
                service = &*self.runtime.name,
                "events were still unsent at the limit; they stay in the outbox"
            );
        }
        self.relay.stop().await;
        self.auditing.stop().await;
        self.runtime.store.close().await;
    }
}

/// Opens the namespaces of a service, if it has any, and joins what its other processes share. Their clients are browsers, whom each
/// namespace asks who they are: they stand beside the service's gate.
async fn with_sockets(
    router: Router,
    namespaces: Vec<Namespace>,
    runtime: &Arc<Runtime>,
    shared: &Shared,
) -> Result<Router> {
    if namespaces.is_empty() {
        return Ok(router);
    }
    let shared = shared.backbones(&runtime.name)?;
    if let Some(backbones) = &shared {
        health::watch_backbone(&runtime.health, backbones.sent.clone());
    }
    let opened = runtime.sockets.open(namespaces, shared, runtime).await;
    opened
        .map(|sockets| router.merge(sockets))
        .map_err(|error| error.with("service", &runtime.name))
}

/// What the handlers of a service share.
fn runtime_of(
    service: &Service,
    shared: &Shared,
    projections: Projections,
    (audit, audit_log): (Audit, AuditLog),
) -> Runtime {
    let external = service
        .external
        .iter()
        .map(|external| external.name.clone());
    Runtime {
        name: service.name.clone(),
        responses: service.responses,
        store: projections.store().clone(),
        network: shared.network.clone(),
        env: shared.env.clone(),
        calls: service.calls.iter().cloned().chain(external).collect(),
        publishes: service
            .publishes
            .iter()
            .map(|decl| decl.event_type)
            .collect(),
        states: service.states.clone(),
        config: shared.config.clone(),
        telemetry: shared.telemetry.clone(),
        sealer: shared.sealer.clone(),
        audit,
        audit_log,
        health: Health::new(
            service.name.clone(),
            service.version.clone(),
            shared.env.clone(),
        ),
        sagas: Sagas::default(),
        projections,
        sockets: Sockets::default(),
        #[cfg(feature = "device")]
        devices: service
            .devices
            .as_ref()
            .map(|devices| crate::device::Hub::new(devices, shared.config.devices.commands_max)),
    }
}

/// Opens a service's store, with its tables in it.
/// Says where what the service calls outside of the platform is.
fn place_outside(service: &Service, shared: &Shared) -> Result<()> {
    for external in &service.external {
        let address = shared.config.external.get(&*external.name);
        let url = address.map_or(&external.url, |address| &address.url);
        shared
            .network
            .outside(external.name.clone(), url)
            .map_err(|error| error.with("external", &external.name))?;
    }
    Ok(())
}

async fn open_store(service: &Service, shared: &Shared) -> Result<Store> {
    let url = shared.config.url(&shared.config.store, &service.name);
    let alerts = &shared.alerts;
    let store = alerts.open(&url, &service.name, &shared.env).await?;
    store.migrate(service.migrations).await?;
    #[cfg(feature = "device")]
    if service.devices.is_some() {
        store.migrate(crate::device::TABLES).await?;
    }
    Ok(store)
}

fn routes(
    (service, gate): (&Service, &Gate),
    runtime: &Arc<Runtime>,
    health: Health,
    shared: &Shared,
) -> Result<Router> {
    let mut limits = Limits::default();
    // Whoever may call for longer is not cut off here.
    let longest = shared.network.policies().of(&service.name).timeout_max();
    limits.timeout = limits.timeout.max(longest);
    let document = Arc::new(openapi::document(service));
    let live = health.clone();
    #[cfg(feature = "grpc")]
    let checks = health.clone();
    let router = secure::publish(
        router(runtime, &service.routes)?,
        shared.secure.keys(&service.name),
    );
    let router = match asyncapi::document(service) {
        None => router,
        Some(document) => {
            let document = Arc::new(document);
            let answer = move || async move { Json((*document).clone()) };
            router.route("/asyncapi.json", get(answer))
        }
    };
    let router = router
        .route(
            "/openapi.json",
            get(move || async move { Json((*document).clone()) }),
        )
        .route(
            "/health/live",
            get(|| async { Json(serde_json::json!({ "status": "alive" })) }),
        )
        .route("/health", get(move || health::answer(health.clone())))
        .route("/health/ready", get(move || health::answer(live.clone())));
    #[cfg(feature = "grpc")]
    let router = crate::grpc::mount(router, service, runtime, checks)?;
    Ok(server::guarded_layer(
        router,
        service.name.clone(),
        shared.telemetry.clone(),
        limits,
        Arc::new(gate.clone()),
    ))
}
