//! Outboxes: what waits to be sent, and what can't be.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use trunkline_core::{ByteString, Error, ErrorKind, Timestamp};
use trunkline_store::StuckEvent;

use crate::extract::Answer;
use crate::{EventView, Parts};

/// The most stuck events that are listed for one service.
const STUCK_MAX: usize = 100;

#[derive(Debug, Serialize)]
pub(crate) struct Outboxes {
    outboxes: Vec<Outbox>,
}

#[derive(Debug, Serialize)]
struct Outbox {
    service: ByteString,
    pending: u64,
    scheduled: u64,
    held: u64,
    lag_seconds: f64,
    last_error: Option<String>,
    stuck: Vec<Stuck>,
}

#[derive(Debug, Serialize)]
struct Stuck {
    event_id: ByteString,
    key: ByteString,
    /// None when its bytes can't be read.
    event: Option<EventView>,
    error: String,
    stuck_at: Timestamp,
    held: u64,
}

pub(crate) async fn list(State(parts): State<Parts>) -> Answer<Json<Outboxes>> {
    let mut outboxes = Vec::with_capacity(parts.relays.len());
    for (service, relay) in parts.relays.iter() {
        let status = relay.status().await?;
        outboxes.push(Outbox {
            service: service.clone(),
            pending: status.pending,
            scheduled: status.scheduled,
            held: status.held,
            lag_seconds: status.lag.as_secs_f64(),
            last_error: status.last_error,
            stuck: relay
                .stuck(STUCK_MAX)
                .await?
                .into_iter()
                .map(stuck)
                .collect(),
        });
    }
    Ok(Json(Outboxes { outboxes }))
}

fn stuck(event: StuckEvent) -> Stuck {
    Stuck {
        event: event.envelope.as_ref().map(EventView::of),
        event_id: event.event_id,
        key: event.key,
        error: event.error,
        stuck_at: event.stuck_at,
        held: event.held,
    }
}

pub(crate) async fn retry(
    State(parts): State<Parts>,
    Path(event_id): Path<String>,
) -> Answer<Json<serde_json::Value>> {
    steer(&parts, &event_id, false).await
}

pub(crate) async fn discard(
    State(parts): State<Parts>,
    Path(event_id): Path<String>,
) -> Answer<Json<serde_json::Value>> {
    steer(&parts, &event_id, true).await
}

async fn steer(parts: &Parts, event_id: &str, discard: bool) -> Answer<Json<serde_json::Value>> {
    for (service, relay) in parts.relays.iter() {
        let done = if discard {
            relay.discard_stuck(event_id).await
        } else {
            relay.retry_stuck(event_id).await
        };
        match done {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {
                return Ok(Json(
                    serde_json::json!({ "service": service, "event_id": event_id }),
                ));
            }
        }
    }
    Err(Error::not_found(
        "stuck_event_unknown",
        "no outbox has a stuck event with this id",
    )
    .with("event_id", event_id)
    .into())
}
