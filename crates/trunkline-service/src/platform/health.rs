//! How services and the whole platform are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures::future::{BoxFuture, join_all};
use http::StatusCode;
use trunkline_bus::{Consumer, SubscriptionState};
use trunkline_console::HealthSource;
use trunkline_core::{ByteString, Env, Error, Result};
use trunkline_store::{Relay, Store};
use trunkline_telemetry::{Check, Health, HealthReport};

use crate::Service;
use crate::runtime::Runtime;

/// The check that the seed names so.
const EVENT_BUS: &str = "eventBus";

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
}

/// Looks at what a service subscribes to as well, once it does.
pub(super) fn watch(health: &Health, relay: Relay, consumers: Vec<Consumer>) {
    health.register(EVENT_BUS, Arc::new(BusCheck { relay, consumers }));
}

/// Whether a service can answer calls: its store and its own checks say so. Without the bus it can: what it publishes
/// waits in the outbox.
pub(super) async fn can_answer(health: &Health) -> bool {
    let report = health.report().await;
    let mut checks = report.checks.iter();
    checks.all(|(name, said)| &**name == EVENT_BUS || said == "ok")
}

/// A service's own checks with those that each service has; named as the storefront seed names them.
pub(super) fn of_service(service: &Service, runtime: &Runtime, relay: &Relay) -> Health {
    let health = Health::new(
        service.name.clone(),
        service.version.clone(),
        runtime.env.clone(),
    );
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
