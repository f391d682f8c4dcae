//! Bringing a platform up, step by step; what was begun is ended when a later step fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::broadcast;
use trunkline_bus::memory::Memory;
use trunkline_bus::{Consumer, ConsumerConfig, ConsumerPorts, TopicSpec, Transport, lanes};
use trunkline_call::Network;
use trunkline_console::{AdminToken, Parts};
use trunkline_core::{ByteString, Env, Error, EventDecl, Priority, Result};
use trunkline_gateway::Gateway;
use trunkline_log::{Log, LogConfig};
use trunkline_saga::Flow;
use trunkline_store::{Store, Trail};
use trunkline_telemetry::{Otlp, Telemetry, prometheus};

use super::folder;
use super::health::PlatformHealth;
use super::running::{Running, Up};
use super::unit::{Shared, Unit};
use super::{PLATFORM, Platform};
use crate::alerts::Alerts;
use crate::trail::{GROUP, Keep, Recorder};
use crate::{Config, topology, trail};

/// How many events a watcher may fall behind before it misses some.
const FEED_MAX: usize = 1_024;

pub(super) async fn start(platform: Platform, config: Config) -> Result<Running> {
    let metrics = prometheus::install()?;
    let token = admin_token(&config)?;
    let lock = folder::claim(&config.data)?;
    // The addresses first: one that is in use is found before anything is touched.
    let gateway_at = match &platform.gateway {
        Some(_) => Some(listen(config.gateway.address, "gateway").await?),
        None => None,
    };
    let admin_at = listen(config.admin.address, "admin").await?;
    let config = Arc::new(config);
    let (telemetry, otlp) = telemetry_of(&platform, &config)?;
    let transport = open_bus(&config, &platform.env).await?;
    let events = platform.events();
    transport.declare(&topics_of(&events)).await?;
    let topology = topology::describe(&platform.name, &platform.services, &platform.flows);
    let network = Network::new(telemetry.clone(), platform.env.clone());
    let webhook = config.alerts.webhook.as_deref();
    let (alerts, sender) = Alerts::new(platform.on_dead_letter, webhook, &network)?;
    let shared = Shared {
        network,
        transport,
        telemetry,
        alerts,
        env: platform.env.clone(),
        config,
    };
    let mut up = Up::new(shared.clone(), otlp, lock);
    if let Some(sender) = sender {
        let work = sender.run(platform.env.clone(), up.stop.clone());
        up.jobs.spawn(work);
    }
    let flows: Arc<[Flow]> = platform.flows.into();
    let raised = raise(&mut up, platform.services, &flows, &events).await;
    let gateway = platform.gateway;
    let made = match raised {
        Ok(trail) => make_gateway(gateway, &shared).map(|gateway| (trail, gateway)),
        Err(error) => Err(error),
    };
    let (trail, gateway) = match made {
        Ok(made) => made,
        Err(error) => {
            up.down().await;
            return Err(error);
        }
    };
    let health = Arc::new(PlatformHealth {
        name: platform.name.clone(),
        version: platform.version,
        services: up.units.iter().map(|unit| unit.health.clone()).collect(),
        ready: AtomicBool::new(false),
        env: platform.env.clone(),
    });
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
        token,
        env: platform.env,
    };
    up.serve(gateway.zip(gateway_at), (parts, admin_at), health)
}

/// Telemetry with the platform's own sinks, and the collector if one is configured.
fn telemetry_of(platform: &Platform, config: &Config) -> Result<(Telemetry, Option<Otlp>)> {
    let mut telemetry = Telemetry::new(platform.env.clone());
    let otlp = config.telemetry.otlp.as_deref().map(Otlp::to).transpose()?;
    if let Some(otlp) = &otlp {
        telemetry = telemetry.with_sink(Arc::new(otlp.clone()));
    }
    for sink in &platform.sinks {
        telemetry = telemetry.with_sink(sink.clone());
    }
    Ok((telemetry, otlp))
}

/// Brings the services up, then lets events flow.
async fn raise(
    up: &mut Up,
    services: Vec<crate::Service>,
    flows: &Arc<[Flow]>,
    events: &[EventDecl],
) -> Result<Trail> {
    let shared = up.shared.clone();
    for service in services {
        // A service with an address of its own runs elsewhere; here it is only known.
        let section = shared.config.service.get(&*service.name);
        if let Some(url) = section.and_then(|section| section.get("url")) {
            let url = url.as_str().ok_or_else(|| {
                Error::invalid("config_invalid", "expected `url` to be a text")
                    .with("section", format!("service.{}", service.name))
            })?;
            shared
                .network
                .remote(service.name.clone(), url, service.responses)?;
        } else {
            up.units
                .push(Box::pin(Unit::raise(service, &shared)).await?);
        }
    }
    // The trail first, so that it misses nothing of what a watcher wants to see.
    let url = shared.config.url(&shared.config.store, PLATFORM);
    let store = Store::open(&url, PLATFORM, shared.env.clone()).await?;
    let trail = Trail::open(store.clone()).await?;
    up.platform_store = Some(store.clone());
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
    for unit in &up.units {
        unit.begin().await?;
    }
    for unit in &up.units {
        up.consumers.extend(unit.consume(&shared).await?);
    }
    for unit in &mut up.units {
        unit.work(&mut up.jobs, &up.stop).await?;
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
    for spec in topics_of_declared(events) {
        config = config.topic(
            spec.name,
            &[Priority::High, Priority::Medium, Priority::Low],
        );
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

fn topics_of_declared(events: &[EventDecl]) -> Vec<TopicSpec> {
    let mut names: Vec<&'static str> = events.iter().map(|decl| decl.topic).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| TopicSpec {
            name: ByteString::from_static(name),
            partitions: 1,
            retention: Some(Duration::from_secs(7 * 86_400)),
            retention_bytes: None,
            groups: Vec::new(),
        })
        .collect()
}

/// Every lane of every topic.
fn topics_of(events: &[EventDecl]) -> Vec<TopicSpec> {
    topics_of_declared(events).iter().flat_map(lanes).collect()
}

fn make_gateway(
    gateway: Option<(
        trunkline_gateway::Config,
        Option<trunkline_security::Verifier>,
    )>,
    shared: &Shared,
) -> Result<Option<Gateway>> {
    let Some((config, verifier)) = gateway else {
        return Ok(None);
    };
    let network = shared.network.clone();
    let channel_of = move |service: &str| network.channel("gateway", service);
    let telemetry = shared.telemetry.clone();
    Gateway::new(config, channel_of, verifier, telemetry, shared.env.clone()).map(Some)
}

async fn open_bus(config: &Config, env: &Env) -> Result<Arc<dyn Transport>> {
    let url = config.url(&config.bus, PLATFORM);
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("memory") => Ok(Arc::new(Memory::new(env.clone()))),
        Some("log") => {
            let (log, env) = (LogConfig::from_url(&url)?, env.clone());
            // It reads files for as long as it takes.
            let opened = tokio::task::spawn_blocking(move || Log::open(log, env)).await;
            let opened = opened
                .map_err(|error| Error::internal("the log did not open").with_source(error))?;
            Ok(Arc::new(opened?))
        }
        _ => Err(Error::invalid(
            "bus_unknown",
            "expected `bus` to be memory: or log:FOLDER; other engines come later",
        )
        .with("bus", &config.bus)),
    }
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

async fn listen(address: SocketAddr, what: &'static str) -> Result<TcpListener> {
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
