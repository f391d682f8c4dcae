//! How services and the whole platform are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures::future::{BoxFuture, join_all};
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::time::Instant;
use trunkline_bus::{Consumer, SubscriptionState};
use trunkline_console::HealthSource;
use trunkline_core::{ByteString, Env, Error, Result};
use trunkline_realtime::Backbone;
use trunkline_saga::Engine;
use trunkline_store::{Relay, Standing, Store};
use trunkline_telemetry::{Check, Health, HealthReport};

use crate::Service;
use crate::runtime::Runtime;
use crate::saga::SagaHost;

/// The check that the seed names so.
const EVENT_BUS: &str = "eventBus";
/// The check of what the nodes of a service share.
const BACKBONE: &str = "backbone";
/// The check of a service's sagas.
const SAGAS: &str = "sagas";
/// An instance that nobody takes up for longer is overdue.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_secs(30);

struct StoreCheck(Store);

impl Check for StoreCheck {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.0.check())
    }
}

/// The bus is well when what was published leaves, and what is subscribed to comes.
struct BusCheck {
    relay: Relay,
    consumers: Vec<Consumer>,
}

impl Check for BusCheck {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let outbox = self.relay.status().await?;
            if let Some(why) = outbox.last_error {
                return Err(Error::unavailable("outbox_blocked", "events can't be sent")
                    .with("waiting", outbox.pending)
                    .with("why", why));
            }
            for consumer in &self.consumers {
                let state = consumer.status().await?.state;
                if state == SubscriptionState::Reconnecting {
                    return Err(
                        Error::unavailable("bus_unreachable", "events can't be received")
                            .with("group", consumer.group()),
                    );
                }
            }
            Ok(())
        })
    }

    fn details(&self) -> BoxFuture<'_, Option<Value>> {
        Box::pin(async {
            let pending = self.relay.status().await.ok()?.pending;
            let (mut lag, mut parked_keys) = (Some(0), 0);
            for consumer in &self.consumers {
                let status = consumer.status().await.ok()?;
                lag = lag.zip(status.lag).map(|(sum, one)| sum + one);
                parked_keys += status.parked_keys;
            }
            Some(json!({ "outbox": pending, "lag": lag, "parked_keys": parked_keys }))
        })
    }
}

/// Sagas are well while those that are due are taken up. One that is parked waits for a person, and is no reason to call
/// nobody.
struct SagaCheck {
    runtime: Arc<Runtime>,
    engine: Engine<SagaHost>,
}

impl SagaCheck {
    async fn standing(&self) -> Result<Standing> {
        let now = self.runtime.env.now();
        let due = now.saturating_sub(OVERDUE_AFTER).unwrap_or(now);
        self.runtime.store.sagas().standing(due).await
    }
}

impl Check for SagaCheck {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let standing = self.standing().await?;
            if standing.overdue == 0 {
                return Ok(());
            }
            let text = "sagas that are due are not taken up";
            Err(Error::unavailable("sagas_overdue", text).with("overdue", standing.overdue))
        })
    }

    fn details(&self) -> BoxFuture<'_, Option<Value>> {
        Box::pin(async {
            let standing = self.standing().await.ok()?;
            let mut details = serde_json::to_value(standing).ok()?;
            if let Value::Object(all) = &mut details {
                all.insert("last_commit".to_owned(), json!(self.engine.last_commit()));
            }
            Some(details)
        })
    }
}

/// The nodes' log is well when it can be read.
struct BackboneCheck(Arc<dyn Backbone>);

impl Check for BackboneCheck {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.0.latest(1).await.map(drop) })
    }

    fn details(&self) -> BoxFuture<'_, Option<Value>> {
        Box::pin(async {
            let began = Instant::now();
            self.0.latest(1).await.ok()?;
            let latency = u64::try_from(began.elapsed().as_micros()).ok()?;
            Some(json!({ "latency_us": latency }))
        })
    }
}

/// Looks at what the nodes of a service share as well.
pub(super) fn watch_backbone(health: &Health, backbone: Arc<dyn Backbone>) {
    health.register(BACKBONE, Arc::new(BackboneCheck(backbone)));
}

/// Looks at a service's sagas as well.
pub(super) fn watch_sagas(health: &Health, runtime: &Arc<Runtime>, engine: &Engine<SagaHost>) {
    let (runtime, engine) = (runtime.clone(), engine.clone());
    health.register(SAGAS, Arc::new(SagaCheck { runtime, engine }));
}

/// Looks at what a service subscribes to as well, once it does.
pub(super) fn watch(health: &Health, relay: Relay, consumers: Vec<Consumer>) {
    health.register(EVENT_BUS, Arc::new(BusCheck { relay, consumers }));
}

/// Whether a service can answer calls: its store and its own checks say so. Without the bus it can: what it publishes
/// waits in the outbox; what is due of its sagas waits in the journal; and what is sent to other nodes waits for their log.
pub(super) async fn can_answer(health: &Health) -> bool {
    let report = health.report().await;
    let mut checks = report.checks.iter();
    checks.all(|(name, said)| [EVENT_BUS, SAGAS, BACKBONE].contains(&&**name) || said == "ok")
}

/// A service's own checks with those that each service has; named as the storefront seed names them.
pub(super) fn of_service(service: &Service, runtime: &Runtime, relay: &Relay) -> Health {
    let health = runtime.health.clone();
    health.register("database", Arc::new(StoreCheck(runtime.store.clone())));
    watch(&health, relay.clone(), Vec::new());
    for (name, check) in &service.checks {
        health.register(name.clone(), check.clone());
    }
    health
}

/// 200 when all is well, 503 when not.
pub(super) async fn answer(health: Health) -> Response {
    let report = health.report().await;
    let status = if report.is_healthy() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

/// The health of the platform: that of all its services.
pub(super) struct PlatformHealth {
    pub(super) name: ByteString,
    pub(super) version: ByteString,
    pub(super) services: Vec<Health>,
    pub(super) ready: AtomicBool,
    pub(super) env: Env,
}

impl PlatformHealth {
    /// The same of one service alone.
    pub(super) fn of(&self, service: Health) -> Self {
        Self {
            name: self.name.clone(),
            version: self.version.clone(),
            services: vec![service],
            ready: AtomicBool::new(true),
            env: self.env.clone(),
        }
    }
}

impl HealthSource for PlatformHealth {
    fn report(&self) -> BoxFuture<'_, (bool, serde_json::Value)> {
        Box::pin(async {
            let reports: Vec<HealthReport> =
                join_all(self.services.iter().map(Health::report)).await;
            let well = reports.iter().all(HealthReport::is_healthy);
            let report = serde_json::json!({
                "status": if well { "healthy" } else { "unhealthy" },
                "timestamp": self.env.now(),
                "platform": &*self.name,
                "version": &*self.version,
                "services": reports,
            });
            (well, report)
        })
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}
