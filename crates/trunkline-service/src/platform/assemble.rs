//! Bringing a platform up, step by step; what was begun is ended when a later step fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::broadcast;
use trunkline_bus::{Consumer, ConsumerConfig, ConsumerPorts};
use trunkline_call::{Network, Responses};
use trunkline_console::{Parts, Peer};
use trunkline_core::{ByteString, Env, Error, EventDecl, Result};
use trunkline_saga::Flow;
use trunkline_security::AdminToken;
use trunkline_store::{Store, Trail};
use trunkline_telemetry::{Otlp, SpanSink, Telemetry, prometheus};

use super::development::Development;
use super::discovery::{Announcements, Finder};
use super::front::{Declared, Prepared};
use super::handover::Sockets;
use super::health::PlatformHealth;
use super::running::{Running, Up};
use super::secure::Secure;
use super::unit::{Shared, Unit};
use super::{PLATFORM, Platform, engine, events_of, folder, topics};
use crate::alerts::Alerts;
use crate::config::place::{CONSOLE, GATEWAY};
use crate::trail::{GROUP, Keep, Recorder};
use crate::{Config, Service, reload, sealing, topology, trail};

/// How many events a watcher may fall behind before it misses some.
const FEED_MAX: usize = 1_024;

pub(super) async fn start(platform: Platform, config: Config) -> Result<Running> {
    let metrics = prometheus::install()?;
    let token = admin_token(&config)?;
    let sealer = sealing::open(&config, &platform.services, &platform.env)?;
    let lock = folder::claim(&config.data, &config.run, engine::is_shared(&config))?;
    let config = Arc::new(config);
    let (secure, development) = Secure::open(&config, &platform)?;
    // The addresses first: one that is in use is found before anything is touched.
    let gateway = platform.gateway.filter(|_| config.runs(GATEWAY));
    let (front, listening) = listen(gateway, &platform.services, &config).await?;
    let announcements = announcements(&config, &listening.services)?;
    let (telemetry, otlp) = telemetry_of(&platform.sinks, &platform.env, &config)?;
    let events = events_of(&platform.services);
    let transport = engine::open(&config, &topics::names(&events), &platform.env).await?;
    let topics = topics::all(&platform.services, &events, &config);
    transport.declare(&topics).await?;
    let topology = topology::describe(&platform.name, &platform.services, &platform.flows);
    let network = Network::new(telemetry.clone(), platform.env.clone());
    network.set_policies(reload::policies(&config, &platform.services)?);
    let webhook = config.alerts.webhook.as_deref();
    let alerts = Alerts::new(platform.hooks, webhook, &network)?;
    let shared = Shared {
        platform: platform.name.clone(),
        network,
        transport,
        telemetry,
        alerts,
        sealer,
        probe: platform.probe,
        secure,
        env: platform.env.clone(),
        config,
    };
    let mut up = Up::new(shared.clone(), otlp, lock);
    attend(&mut up, development)?;
    let flows: Arc<[Flow]> = platform.flows.into();
    let raised = raise(&mut up, platform.services, &flows, &events).await;
    let made = raised.and_then(|raised| {
        let front = front.map(|front| front.make(&shared)).transpose()?;
        Ok((raised, front))
    });
    let ((trail, peers), front) = match made {
        Ok(made) => made,
        Err(error) => {
            up.down().await;
            return Err(error);
        }
    };
    let env = platform.env;
    let health = Arc::new(health_of(&up, &platform.name, platform.version, &env));
    let parts = Parts {
        platform: platform.name,
        health: health.clone(),
        metrics: Arc::new(move || metrics.render()),
        topology: Arc::new(topology),
        trail,
        recorded: up.recorded.subscribe(),
        stop: up.admin_stop.clone(),
        flows,
        consumers: up.consumers.clone().into(),
        relays: up.relays(),
        audits: up.audits(),
        sagas: up.sagas(),
        projections: up.projections(),
        peers,
        token,
        env,
    };
    let running = up.serve(front, listening, parts, health)?;
    Ok(running.announce(announcements).await)
}

fn health_of(up: &Up, name: &ByteString, version: ByteString, env: &Env) -> PlatformHealth {
    PlatformHealth {
        name: name.clone(),
        version,
        services: up.units.iter().map(|unit| unit.health.clone()).collect(),
        ready: AtomicBool::new(false),
        env: env.clone(),
    }
}

/// Looks after certificates and keys, and reads again at SIGHUP how services are called.
fn attend(up: &mut Up, development: Option<Development>) -> Result<()> {
    let Shared {
        config,
        network,
        secure,
        ..
    } = up.shared.clone();
    secure.wire(&network, &mut up.jobs, &up.stop);
    if let Some(development) = development {
        up.jobs.spawn(development.keep(up.stop.clone()));
    }
    let work = reload::follow(reload::hangups()?, config, network, up.stop.clone());
    up.jobs.spawn(work);
    Ok(())
}

/// The sockets of this process, taken over if the configuration says so.
async fn sockets(config: &Config, services: &[Service]) -> Result<Sockets> {
    if config.take_over {
        engine::check_beside(config)?;
    }
    let names = services.iter().map(|service| &*service.name);
    let parts: Vec<&str> = [GATEWAY].into_iter().chain(names).collect();
    let here: Vec<&str> = parts.into_iter().filter(|part| config.runs(part)).collect();
    Sockets::of(config, &here).await
}

/// Where this process listens, beside its gateway.
pub(super) struct Listening {
    pub(super) admin: TcpListener,
    /// A place for each service that other processes call here.
    pub(super) services: Vec<(ByteString, TcpListener)>,
    pub(super) sockets: Sockets,
}

/// Listens on every address, or takes it over.
async fn listen(
    gateway: Option<Declared>,
    services: &[Service],
    config: &Config,
) -> Result<(Option<Prepared>, Listening)> {
    let mut sockets = sockets(config, services).await?;
    let front = Prepared::open(gateway, services, config, &mut sockets).await?;
    let address = config.admin.address;
    let listening = Listening {
        admin: sockets.listen("admin", address, "admin").await?,
        services: service_doors(config, services, &mut sockets).await?,
        sockets,
    };
    Ok((front, listening))
}

/// A place to listen for each service that other processes call here.
async fn service_doors(
    config: &Config,
    services: &[Service],
    sockets: &mut Sockets,
) -> Result<Vec<(ByteString, TcpListener)>> {
    let mut doors = Vec::new();
    if config.signs()
        && config.runs(GATEWAY)
        && let Some(address) = config.listen_of(GATEWAY)?
    {
        let listener = sockets
            .listen("gateway-keys", address, "gateway's keys")
            .await?;
        doors.push((ByteString::from_static(GATEWAY), listener));
    }
    for service in services.iter().filter(|service| config.runs(&service.name)) {
        if let Some(address) = config.listen_of(&service.name)? {
            let name = format!("service/{}", service.name);
            let listener = sockets.listen(&name, address, "service").await?;
            doors.push((service.name.clone(), listener));
        } else if config.is_partial() && config.discovery.register.is_some() {
            let text =
                "expected `listen`: the service is to be registered, and others come to it there";
            return Err(Error::invalid("service_place_unknown", text)
                .with("section", format!("service.{}", service.name)));
        }
    }
    Ok(doors)
}

/// What is registered of the services that listen here.
fn announcements(config: &Config, doors: &[(ByteString, TcpListener)]) -> Result<Announcements> {
    let places = doors.iter().map(|(name, listener)| {
        let at = listener.local_addr();
        at.map(|at| (name, at))
            .map_err(|error| Error::internal("a listener has an address").with_source(error))
    });
    let places: Vec<_> = places.collect::<Result<_>>()?;
    Announcements::of(config, places.into_iter())
}

/// Telemetry with the platform's own sinks, and the collector if one is configured.
fn telemetry_of(
    sinks: &[Arc<dyn SpanSink>],
    env: &Env,
    config: &Config,
) -> Result<(Telemetry, Option<Otlp>)> {
    let mut telemetry = Telemetry::new(env.clone());
    let otlp = config.telemetry.otlp.as_deref().map(Otlp::to).transpose()?;
    if let Some(otlp) = &otlp {
        telemetry = telemetry.with_sink(Arc::new(otlp.clone()));
    }
    for sink in sinks {
        telemetry = telemetry.with_sink(sink.clone());
    }
    Ok((telemetry, otlp))
}

/// Brings the services up, then lets events flow. Gives the trail, if it is kept here, and who runs elsewhere.
async fn raise(
    up: &mut Up,
    services: Vec<Service>,
    flows: &Arc<[Flow]>,
    events: &[EventDecl],
) -> Result<(Option<Trail>, Arc<[Peer]>)> {
    let shared = up.shared.clone();
    let keeps_trail = shared.config.runs(GATEWAY);
    let (mut peers, mut finder) = (Vec::new(), Finder::default());
    for service in services {
        let name = service.name.clone();
        if shared.config.runs(&name) {
            up.units
                .push(Box::pin(Unit::raise(service, &shared)).await?);
        } else if finder.put((&name, service.responses), &shared.config, &shared.network)? {
            // Whoever looks wants to know how it is now.
            let channel = shared.network.channel(CONSOLE, name.clone()).bare();
            peers.push(Peer {
                service: name,
                channel,
            });
        }
    }
    if !keeps_trail {
        peers.clear();
        if shared.config.signs() {
            // Those who are called here fetch its keys there.
            let gateway = (&ByteString::from_static(GATEWAY), Responses::Plain);
            finder.put(gateway, &shared.config, &shared.network)?;
        }
    }
    // The trail first, so that it misses nothing of what a watcher wants to see.
    let trail = match keeps_trail {
        true => Some(keep_trail(up, flows, events).await?),
        false => None,
    };
    for unit in &up.units {
        unit.begin().await?;
    }
    for unit in &mut up.units {
        unit.consume(&shared).await?;
    }
    let consumers = up.units.iter().flat_map(|unit| unit.consumers.clone());
    up.consumers.extend(consumers);
    for unit in &mut up.units {
        unit.work(&shared.alerts, &mut up.jobs, &up.stop).await?;
    }
    Ok((trail, peers.into()))
}

async fn keep_trail(up: &mut Up, flows: &Arc<[Flow]>, events: &[EventDecl]) -> Result<Trail> {
    let shared = up.shared.clone();
    let url = shared.config.url(&shared.config.store, PLATFORM);
    let store = shared.alerts.open(&url, PLATFORM, &shared.env).await?;
    let trail = Trail::open(store.clone()).await?;
    up.platform_store = Some(store.clone());
    if let Some(sender) = shared.alerts.sender(&store) {
        up.jobs.spawn(sender.run(up.stop.clone()));
    }
    let recorder = Recorder {
        trail: trail.clone(),
        flows: flows.clone(),
        feed: up.feed.clone(),
        keep: Keep {
            age_max: Duration::from_secs(shared.config.trail_days.saturating_mul(86_400)),
            events_max: shared.config.trail_events_max,
        },
        recorded: up.recorded.clone(),
    };
    if !events.is_empty() {
        up.consumers
            .push(record(recorder, store, events, &shared).await?);
    }
    Ok(trail)
}

async fn record(
    recorder: Recorder,
    store: Store,
    events: &[EventDecl],
    shared: &Shared,
) -> Result<Consumer> {
    let mut config = ConsumerConfig::new(GROUP);
    config.service = ByteString::from_static(PLATFORM);
    config.batch_max = 256;
    config.in_flight_max = 1_024;
    // Batches one after the other, so that the trail has events in the order of each topic.
    config.handlers_max = 1;
    config.retry.attempts_max = 10;
    config.blameless = trail::is_away;
    for name in topics::names(events) {
        config = config.topic(name, &topics::LANES);
    }
    let ports = ConsumerPorts {
        transport: shared.transport.clone(),
        handler: Arc::new(recorder),
        lot: shared.alerts.over(store.parking_lot()),
        telemetry: Telemetry::disabled(shared.env.clone()),
        env: shared.env.clone(),
    };
    Consumer::start(config, ports).await
}

fn admin_token(config: &Config) -> Result<Option<AdminToken>> {
    let token = config
        .admin
        .token
        .as_ref()
        .map(AdminToken::new)
        .transpose()?;
    if token.is_none() && !config.admin.address.ip().is_loopback() {
        return Err(Error::invalid(
            "admin_token_missing",
            "the admin address is beyond loopback: expected `admin.token`, or an address such as 127.0.0.1:9900",
        )
        .with("address", config.admin.address));
    }
    Ok(token)
}

/// Listens at an address that nobody else has.
///
/// # Errors
/// `Unavailable` (`address_unusable`) when that can't be.
pub(super) async fn bind(address: SocketAddr, what: &'static str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
        let text = if in_use {
            format!("the {what}'s address is in use; stop what listens there or choose another")
        } else {
            format!("the {what}'s address can't be listened on")
        };
        Error::unavailable("address_unusable", text)
            .with("address", address)
            .with_source(error)
    })
}

pub(super) fn feed() -> broadcast::Sender<trunkline_core::Envelope> {
    broadcast::Sender::new(FEED_MAX)
}
