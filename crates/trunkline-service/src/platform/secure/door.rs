//! The door of a service: who calls, and may they?

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use futures::future::BoxFuture;
use http::HeaderMap;
use trunkline_call::server::{Admission, Incoming, Peer};
use trunkline_call::{headers, problem};
use trunkline_core::{ByteString, Result};
use trunkline_security::{Guard, SERVICE_TOKEN, Shown};

use super::keys::JWKS_PATH;
use crate::topology::ADMIN;

/// What every service tells of itself to any other.
const OPEN: [&str; 5] = [
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /openapi.json",
    "GET /asyncapi.json",
];
/// A longer id of a flow is not noted.
const ID_BYTES_MAX: usize = 128;
const OPEN_GRPC: [&str; 2] = ["grpc.health.", "grpc.reflection."];

/// Who stands at the door of a service. Cheap to clone.
#[derive(Clone)]
pub(in crate::platform) struct Gate {
    guard: Guard,
    /// Whoever calls from another process proves who it is.
    signs: bool,
}

impl Gate {
    pub(super) fn new(guard: Guard, signs: bool) -> Self {
        Self { guard, signs }
    }
}

impl Admission for Gate {
    fn admit_caller(&self, caller: &ByteString, call: &Incoming<'_>) -> Result<()> {
        if is_open(call.operation) {
            return Ok(());
        }
        let flow = Some(call.correlation_id);
        self.guard.check_named(caller, call.operation, flow)
    }

    fn admit_stranger<'a>(&'a self, call: Incoming<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if is_open(call.operation) {
                return Ok(());
            }
            if self.signs {
                return self.guard.check(shown(&call)).await.map(drop);
            }
            // Who it says it is. That stops mistakes, and nobody who means harm.
            let caller = text(call.headers, headers::CALLER.as_str()).unwrap_or_default();
            let flow = Some(call.correlation_id);
            self.guard.check_named(caller, call.operation, flow)
        })
    }
}

fn is_open(operation: &str) -> bool {
    let is_keys = || operation.strip_prefix("GET ") == Some(JWKS_PATH);
    OPEN.contains(&operation)
        || OPEN_GRPC.iter().any(|open| operation.starts_with(open))
        || is_keys()
}

fn shown<'a>(call: &Incoming<'a>) -> Shown<'a> {
    Shown {
        token: call
            .headers
            .get(SERVICE_TOKEN)
            .map(|token| token.as_bytes()),
        certificate: call.peer.map(Peer::service),
        operation: call.operation,
        once: false,
        correlation_id: Some(call.correlation_id),
    }
}

/// Lets the console of the platform alone at what a service answers it.
pub(in crate::platform) fn for_console(router: Router, gate: Gate) -> Router {
    router.layer(from_fn_with_state(gate, admit_console))
}

async fn admit_console(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let asked = (request.headers(), request.extensions().get::<Peer>());
    let shown = Shown {
        token: asked.0.get(SERVICE_TOKEN).map(|token| token.as_bytes()),
        certificate: asked.1.map(Peer::service),
        operation: ADMIN,
        once: false,
        correlation_id: text(asked.0, headers::CORRELATION_ID.as_str())
            .filter(|id| id.len() <= ID_BYTES_MAX),
    };
    match gate.guard.check(shown).await {
        Ok(_) => next.run(request).await,
        Err(refused) => problem::response(&refused, None),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
