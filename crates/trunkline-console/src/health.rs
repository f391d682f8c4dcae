//! Health, metrics and topology.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::Parts;

fn status(well: bool) -> StatusCode {
    if well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

pub(crate) async fn report(State(parts): State<Parts>) -> Response {
    let (well, report) = parts.health.report().await;
    (status(well), Json(report)).into_response()
}

pub(crate) async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "alive" }))
}

pub(crate) async fn ready(State(parts): State<Parts>) -> Response {
    let ready = parts.health.is_ready();
    let word = if ready { "ready" } else { "not_ready" };
    (status(ready), Json(serde_json::json!({ "status": word }))).into_response()
}

pub(crate) async fn metrics(State(parts): State<Parts>) -> Response {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        (parts.metrics)(),
    )
        .into_response()
}

pub(crate) async fn topology(State(parts): State<Parts>) -> Json<serde_json::Value> {
    Json((*parts.topology).clone())
}
