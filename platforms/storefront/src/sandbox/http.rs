//! The sandbox's routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use trunkline::{Error, ErrorKind};

use super::ledger::{Answer, Ledger};
use super::{Charge, ChargeRequest};

/// How long a connection without an answer is held open.
const SILENCE: Duration = Duration::from_secs(60);

pub(super) fn router(ledger: Arc<Ledger>) -> Router {
    Router::new()
        .route("/v1/charges", post(charge).get(all))
        .route("/v1/charges/{key}", get(find))
        .route("/v1/charges/{key}/void", post(void))
        .with_state(ledger)
}

async fn charge(
    State(ledger): State<Arc<Ledger>>,
    headers: HeaderMap,
    Json(request): Json<ChargeRequest>,
) -> Result<Json<Charge>, Refusal> {
    let key = headers
        .get("idempotency-key")
        .and_then(|key| key.to_str().ok())
        .unwrap_or_default();
    if key.is_empty() {
        return Err(Refusal(StatusCode::BAD_REQUEST, "idempotency_key_missing"));
    }
    match ledger.charge(key, request)? {
        Answer::Now(charge) => Ok(Json(charge)),
        Answer::After(pause) => {
            tokio::time::sleep(pause).await;
            ledger
                .get(key)
                .map(Json)
                .ok_or(Refusal(StatusCode::NOT_FOUND, "charge_unknown"))
        }
        Answer::Never => {
            tokio::time::sleep(SILENCE).await;
            Err(Refusal(StatusCode::GATEWAY_TIMEOUT, "no_answer"))
        }
        Answer::Fail => Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, "flaky")),
    }
}

async fn find(
    State(ledger): State<Arc<Ledger>>,
    Path(key): Path<String>,
) -> Result<Json<Charge>, Refusal> {
    ledger
        .get(&key)
        .map(Json)
        .ok_or(Refusal(StatusCode::NOT_FOUND, "charge_unknown"))
}

async fn void(
    State(ledger): State<Arc<Ledger>>,
    Path(key): Path<String>,
) -> Result<Json<Charge>, Refusal> {
    Ok(Json(ledger.void(&key)?))
}

async fn all(State(ledger): State<Arc<Ledger>>) -> Json<Vec<Charge>> {
    Json(ledger.all())
}

/// A refusal in the provider's own words; it is not a service of the platform.
struct Refusal(StatusCode, &'static str);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Conflict => Self(StatusCode::CONFLICT, "idempotency_mismatch"),
            _ => Self(StatusCode::SERVICE_UNAVAILABLE, "ledger_unusable"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}
