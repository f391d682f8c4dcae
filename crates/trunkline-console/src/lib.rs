//! The admin API: health, metrics, topology, the trail of events, flows, sagas, projections, dead letters, subscriptions,
//! outboxes and audit logs of a running platform.
//!
//! It only shows and steers what the other crates do. [`router`] makes it from [`Parts`]; whoever serves it
//! binds it to loopback, or gives it a token.

mod audit;
mod auth;
mod dead_letters;
mod events;
mod extract;
mod flows;
mod follow;
mod health;
mod openapi;
mod outbox;
mod peers;
mod projections;
mod sagas;
mod subscriptions;
mod view;

use std::fmt;
use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Extension, Router};
use bytestring::ByteString;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trunkline_bus::Consumer;
use trunkline_core::{Env, Error, Result};
use trunkline_saga::Flow;
use trunkline_security::AdminToken;
use trunkline_store::{AuditLog, Projections, Relay, Trail};

pub use peers::{PEER_PATH, Peer};
pub use sagas::{Hand, SagaDesk};
pub use view::EventView;

/// Who did something by hand, where nobody says.
const SOMEBODY: &str = "admin";

/// What the admin API shows and steers.
#[derive(Clone)]
pub struct Parts {
    /// The platform's name.
    pub platform: ByteString,
    /// The health of the whole.
    pub health: Arc<dyn HealthSource>,
    /// Writes the metrics in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The declared topology.
    pub topology: Arc<serde_json::Value>,
    /// The trail of events, in the process that keeps it.
    pub trail: Option<Trail>,
    /// Changes when the trail has grown.
    pub recorded: watch::Receiver<u64>,
    /// Who follows the trail is let go.
    pub stop: CancellationToken,
    /// The declared flows.
    pub flows: Arc<[Flow]>,
    /// The subscriptions that run here.
    pub consumers: Arc<[Consumer]>,
    /// The relays that run here, each with its service.
    pub relays: Arc<[(ByteString, Relay)]>,
    /// The audit logs that are kept here, each with its service.
    pub audits: Arc<[(ByteString, AuditLog)]>,
    /// The sagas that run here, each service's.
    pub sagas: Arc<[(ByteString, Arc<dyn SagaDesk>)]>,
    /// The projections that run here, each service's.
    pub projections: Arc<[(ByteString, Projections)]>,
    /// The services that run in other processes.
    pub peers: Arc<[Peer]>,
    /// Who may ask, and what the peers are asked with; anybody who can connect, without.
    pub token: Option<AdminToken>,
    /// The clock.
    pub env: Env,
}

/// Tells how the platform is.
pub trait HealthSource: Send + Sync {
    /// Whether all is well, and the report as JSON.
    fn report(&self) -> BoxFuture<'_, (bool, serde_json::Value)>;

    /// Whether it takes requests: started, and not shutting down.
    fn is_ready(&self) -> bool;
}

impl Parts {
    /// The trail.
    ///
    /// # Errors
    /// `NotFound` where another process keeps it.
    pub(crate) fn trail(&self) -> Result<&Trail> {
        self.trail.as_ref().ok_or_else(|| {
            let text = "the trail is kept in the process that runs `gateway`; ask its admin API";
            Error::not_found("trail_elsewhere", text)
        })
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("platform", &self.platform)
            .finish_non_exhaustive()
    }
}

/// The routes of the admin API.
pub fn router(parts: Parts) -> Router {
    let guarded = Router::new()
        .route("/health", get(health::report))
        .route("/metrics", get(health::metrics))
        .route("/api/v1/topology", get(health::topology))
        .route("/api/v1/events", get(events::list))
        .route("/api/v1/flows", get(flows::list))
        .route("/api/v1/flows/{id}", get(flows::show))
        .route("/api/v1/dead-letters", get(dead_letters::list))
        .route("/api/v1/dead-letters/replay", post(dead_letters::replay))
        .route(
            "/api/v1/dead-letters/discard",
            post(dead_letters::discard_many),
        )
        .route("/api/v1/dead-letters/{id}", get(dead_letters::show))
        .route("/api/v1/dead-letters/{id}/edit", post(dead_letters::edit))
        .route(
            "/api/v1/dead-letters/{id}/discard",
            post(dead_letters::discard),
        )
        .route("/api/v1/sagas", get(sagas::list))
        .route("/api/v1/sagas/{service}/{id}", get(sagas::show))
        .route("/api/v1/sagas/{service}/{id}/{action}", post(sagas::steer))
        .route("/api/v1/projections", get(projections::list))
        .route(
            "/api/v1/projections/{service}/{name}/rebuild",
            post(projections::rebuild),
        )
        .route("/api/v1/subscriptions", get(subscriptions::list))
        .route(
            "/api/v1/subscriptions/{group}/pause",
            post(subscriptions::pause),
        )
        .route(
            "/api/v1/subscriptions/{group}/resume",
            post(subscriptions::resume),
        )
        .route("/api/v1/outbox", get(outbox::list))
        .route("/api/v1/outbox/{event_id}/retry", post(outbox::retry))
        .route("/api/v1/outbox/{event_id}/discard", post(outbox::discard))
        .route("/api/v1/audit", get(audit::list))
        .route("/api/v1/audit/check", get(audit::check))
        .route("/openapi.json", get(openapi::document))
        .layer(Extension(follow::Followers::default()))
        .layer(axum::middleware::from_fn_with_state(
            parts.clone(),
            peers::ask,
        ))
        .layer(axum::middleware::from_fn_with_state(
            parts.clone(),
            auth::check,
        ));
    // A probe has no token, and these two tell nothing but yes or no.
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .merge(guarded)
        .fallback(|| async { extract::Refused(no_such_route()) })
        .method_not_allowed_fallback(|| async { extract::Refused(wrong_method()) })
        .with_state(parts)
}

fn no_such_route() -> Error {
    Error::not_found(
        "route_unknown",
        "the admin API has no such route; /openapi.json lists them",
    )
}

fn wrong_method() -> Error {
    Error::new(
        trunkline_core::ErrorKind::Unsupported,
        "method_not_allowed",
        "this route does not take this method; /openapi.json lists them",
    )
}
