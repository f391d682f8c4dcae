//! A platform that runs, and how it ends.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use futures::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trunkline_bus::Consumer;
use trunkline_call::{Network, server};
use trunkline_console::{PEER_PATH, Parts, SagaDesk};
use trunkline_core::{ByteString, Envelope, Error, Result, report};
use trunkline_gateway::Gateway;
use trunkline_security::Certificates;
use trunkline_store::{AuditLog, Projections, Relay, Store};
use trunkline_telemetry::Otlp;

use super::assemble::{Listening, feed};
use super::discovery::{Announced, Announcements};
use super::folder::Claim;
use super::front::Front;
use super::handover::{Giver, Sockets};
use super::health::PlatformHealth;
use super::secure;
use super::unit::{Shared, Unit};
use crate::config::place::GATEWAY;
use crate::stop_requested;
use crate::trail::GROUP;

/// What has been brought up so far.
pub(super) struct Up {
    pub(super) shared: Shared,
    pub(super) units: Vec<Unit>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) platform_store: Option<Store>,
    pub(super) feed: broadcast::Sender<Envelope>,
    pub(super) recorded: watch::Sender<u64>,
    /// Ends the admin API, and whoever follows events there.
    pub(super) admin_stop: CancellationToken,
    pub(super) jobs: JoinSet<()>,
    pub(super) stop: CancellationToken,
    pub(super) otlp: Option<Otlp>,
    // Last: given back when all else is closed.
    _folder: Claim,
}

impl Up {
    pub(super) fn new(shared: Shared, otlp: Option<Otlp>, folder: Claim) -> Self {
        Self {
            shared,
            units: Vec::new(),
            consumers: Vec::new(),
            platform_store: None,
            feed: feed(),
            recorded: watch::Sender::new(0),
            admin_stop: CancellationToken::new(),
            jobs: JoinSet::new(),
            stop: CancellationToken::new(),
            otlp,
            _folder: folder,
        }
    }

    /// The relays of its services.
    pub(super) fn relays(&self) -> Arc<[(ByteString, Relay)]> {
        let units = self.units.iter();
        units
            .map(|unit| (unit.runtime.name.clone(), unit.relay.clone()))
            .collect()
    }

    /// The audit logs of its services.
    pub(super) fn audits(&self) -> Arc<[(ByteString, AuditLog)]> {
        let units = self.units.iter();
        units
            .map(|unit| (unit.runtime.name.clone(), unit.runtime.audit_log.clone()))
            .collect()
    }

    /// The sagas of its services.
    pub(super) fn sagas(&self) -> Arc<[(ByteString, Arc<dyn SagaDesk>)]> {
        self.units.iter().filter_map(Unit::desk).collect()
    }

    /// The projections of its services.
    pub(super) fn projections(&self) -> Arc<[(ByteString, Projections)]> {
        self.units.iter().filter_map(Unit::projections).collect()
    }

    /// What each service answers at its own address: its routes, and what the console of another process asks of it.
    fn service_doors(
        &self,
        listeners: Vec<(ByteString, TcpListener)>,
        parts: &Parts,
        health: &Arc<PlatformHealth>,
    ) -> Result<Vec<Door>> {
        let secure = &self.shared.secure;
        let mut doors = Vec::new();
        for (name, listener) in listeners {
            let tls = secure.tls(&name)?;
            let unit = self.units.iter().find(|unit| unit.runtime.name == name);
            let router = match unit {
                Some(unit) => self.answers(unit, &listener, (parts, health)),
                // The gateway's own: nothing but its keys.
                None => secure::publish(Router::new(), secure.keys(&name)),
            };
            doors.push(Door {
                name,
                listener,
                router,
                tls,
            });
        }
        Ok(doors)
    }

    fn answers(
        &self,
        unit: &Unit,
        listener: &TcpListener,
        (parts, health): (&Parts, &Arc<PlatformHealth>),
    ) -> Router {
        let name = &unit.runtime.name;
        let parts = Parts {
            health: Arc::new(health.of(unit.health.clone())),
            trail: None,
            consumers: unit.consumers.clone().into(),
            relays: [(name.clone(), unit.relay.clone())].into(),
            audits: [(name.clone(), unit.runtime.audit_log.clone())].into(),
            sagas: unit.desk().into_iter().collect(),
            projections: unit.projections().into_iter().collect(),
            peers: Arc::default(),
            ..parts.clone()
        };
        // Beyond loopback nobody may steer it without a token, or a certificate: a service's token can be overheard there.
        let secure = &self.shared.secure;
        let is_guarded = secure.is_secured()
            || parts.token.is_some()
            || listener.local_addr().is_ok_and(|at| at.ip().is_loopback());
        let mut router = Router::new().fallback_service(unit.router.clone());
        if is_guarded {
            let mut admin = trunkline_console::router(parts);
            if secure.signs() {
                admin = secure::for_console(admin, unit.gate.clone());
            }
            router = router.nest(PEER_PATH, admin);
        } else {
            tracing::warn!(
                service = %name, "without `admin.token` the console of another process can't look into it"
            );
        }
        router
    }

    /// Opens the doors.
    pub(super) fn serve(
        mut self,
        front: Option<Front>,
        listening: Listening,
        parts: Parts,
        health: Arc<PlatformHealth>,
    ) -> Result<Running> {
        let Listening {
            admin,
            services,
            sockets,
        } = listening;
        let address = |listener: &TcpListener| {
            listener
                .local_addr()
                .map_err(|error| Error::internal("a listener has an address").with_source(error))
        };
        let admin_address = address(&admin)?;
        let mut doors = JoinSet::new();
        let gateway_stop = CancellationToken::new();
        let addresses = front.as_ref().map(Front::addresses);
        let (gateway_address, gateway_tls_address) = addresses.unwrap_or_default();
        let mut service_addresses = BTreeMap::new();
        for door in self.service_doors(services, &parts, &health)? {
            service_addresses.insert(door.name, address(&door.listener)?);
            let stop = gateway_stop.clone();
            doors.spawn(async move {
                let (listener, router, stop) = (door.listener, door.router, stop.cancelled_owned());
                match door.tls {
                    Some(tls) => server::serve_tls(listener, router, tls, stop).await,
                    None => server::serve(listener, router, stop).await,
                }
            });
        }
        let mut admin_door = JoinSet::new();
        let admin_stop = self.admin_stop.clone();
        let stop = admin_stop.clone();
        let token = parts.token.clone();
        let mut router = trunkline_console::router(parts);
        let gateway = front.as_ref().map(Front::gateway);
        if let Some(front) = front {
            router = front.beside(router, token);
            front.follow(&mut self.jobs, &self.stop);
            front.serve(&mut doors, &gateway_stop);
        }
        admin_door.spawn(async move { server::serve(admin, router, stop.cancelled_owned()).await });
        health.ready.store(true, Ordering::Release);
        let giver = self.up(sockets, gateway);
        Ok(Running {
            up: self,
            gateway_address,
            gateway_tls_address,
            admin_address,
            service_addresses,
            doors,
            gateway_stop,
            admin_door,
            admin_stop,
            health,
            announced: None,
            giver,
        })
    }

    /// Those from whom this process took over may end, and the next may take over from it.
    fn up(&self, sockets: Sockets, gateway: Option<Gateway>) -> Giver {
        let config = &self.shared.config;
        let leads = gateway.is_some().then_some(GATEWAY);
        let services = self.units.iter().map(|unit| &*unit.runtime.name);
        let parts: Vec<&str> = leads.into_iter().chain(services).collect();
        sockets.up(&config.data, &parts, gateway)
    }

    /// Ends what runs: consumers first, so that nothing new comes up, then what was published is sent, and the trail
    /// notes it.
    pub(super) async fn down(mut self) {
        let limit = Duration::from_secs(self.shared.config.shutdown_seconds);
        self.stop.cancel();
        let ended = async { while self.jobs.join_next().await.is_some() {} };
        if timeout(limit, ended).await.is_err() {
            tracing::warn!("jobs were still running at the limit; they were undone and run again");
            self.jobs.shutdown().await;
        }
        let (trail, others): (Vec<_>, Vec<_>) = self
            .consumers
            .drain(..)
            .partition(|consumer| &**consumer.group() == GROUP);
        drain(others, limit).await;
        join_all(self.units.iter().map(|unit| unit.lower(limit))).await;
        drain(trail, limit).await;
        if let Some(store) = self.platform_store {
            store.close().await;
        }
        if let Err(error) = self.shared.transport.close().await {
            tracing::warn!(error = %report(&error), "the bus did not close well");
        }
        if let Some(otlp) = self.otlp {
            otlp.flush(limit).await;
        }
    }
}

/// An address of a service, and what answers there.
pub(super) struct Door {
    name: ByteString,
    listener: TcpListener,
    router: Router,
    tls: Option<server::TlsServer>,
}

async fn drain(consumers: Vec<Consumer>, limit: Duration) {
    let drained = consumers.iter().map(|consumer| consumer.drain(limit));
    for error in join_all(drained)
        .await
        .into_iter()
        .filter_map(std::result::Result::err)
    {
        tracing::warn!(error = %report(&error), "a subscription did not drain");
    }
}

/// A platform that runs. Dropped, it stops at once, as if the process were killed; [`Running::shutdown`] ends it well.
pub struct Running {
    up: Up,
    gateway_address: Option<SocketAddr>,
    gateway_tls_address: Option<SocketAddr>,
    admin_address: SocketAddr,
    service_addresses: BTreeMap<ByteString, SocketAddr>,
    doors: JoinSet<()>,
    gateway_stop: CancellationToken,
    admin_door: JoinSet<()>,
    admin_stop: CancellationToken,
    health: Arc<PlatformHealth>,
    announced: Option<Announced>,
    giver: Giver,
}

impl Running {
    /// Registers what listens here: its doors are open now.
    pub(super) async fn announce(mut self, announcements: Announcements) -> Self {
        let (health, env) = (&self.health.services, &self.up.shared.env);
        self.announced = Some(announcements.make(health, env).await);
        self
    }

    /// Where the gateway listens, if there is one.
    pub fn gateway_address(&self) -> Option<SocketAddr> {
        self.gateway_address
    }

    /// Where the gateway listens for TLS, if it does.
    pub fn gateway_tls_address(&self) -> Option<SocketAddr> {
        self.gateway_tls_address
    }

    /// The gateway's URL; empty where there is none.
    pub fn gateway_url(&self) -> String {
        let address = self.gateway_address;
        address.map_or_else(String::new, |at| format!("http://{at}"))
    }

    /// The admin API's URL.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_address)
    }

    /// Where the admin API listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Where a service listens for other processes, if it does.
    pub fn service_address(&self, service: &str) -> Option<SocketAddr> {
        self.service_addresses.get(service).copied()
    }

    /// The certificate that a service, `gateway` or `console` of this process shows others; none without `[tls]`.
    pub fn certificates(&self, name: &str) -> Option<Certificates> {
        self.up.shared.secure.certificates(name)
    }

    /// The network that its services are on.
    pub fn network(&self) -> &Network {
        &self.up.shared.network
    }

    /// The events of the platform from now on, as they are recorded. Who is too slow misses some, and is told so.
    pub fn events(&self) -> broadcast::Receiver<Envelope> {
        self.up.feed.subscribe()
    }

    /// Waits until another process has taken over what runs here, and is up: this one is to end.
    pub async fn taken_over(&self) {
        self.giver.taken_over.cancelled().await;
    }

    /// Runs until the process is asked to stop (SIGINT, SIGTERM) or another has taken over, then shuts down. Asked a second time,
    /// the process ends at once, with exit code 130; nothing that was accepted is lost by that.
    ///
    /// # Errors
    /// `Internal` when signals can't be waited for.
    pub async fn until_stopped(self) -> Result<()> {
        tokio::select! {
            asked = stop_requested() => asked?,
            () = self.taken_over() => {}
        }
        tokio::select! {
            biased;
            again = stop_requested() => {
                again?;
                std::process::exit(130);
            }
            () = self.shutdown() => Ok(()),
        }
    }

    /// Ends everything in order: no new requests, those under way end; no new events, those being handled end;
    /// what was published is sent. Each step is bounded by `shutdown_seconds`; what does not end by then is kept
    /// for the next start.
    pub async fn shutdown(mut self) {
        self.health.ready.store(false, Ordering::Release);
        self.giver.end().await;
        // First, so that fewer come while the doors close.
        if let Some(announced) = self.announced.take() {
            announced.withdraw().await;
        }
        self.gateway_stop.cancel();
        // A client's connection would be waited for: it is let go.
        let units = self.up.units.iter();
        join_all(units.map(|unit| unit.runtime.sockets.close())).await;
        while self.doors.join_next().await.is_some() {}
        self.up.down().await;
        self.admin_stop.cancel();
        while self.admin_door.join_next().await.is_some() {}
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("gateway", &self.gateway_address)
            .field("admin", &self.admin_address)
            .finish_non_exhaustive()
    }
}
