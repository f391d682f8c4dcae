//! Subscriptions: how they stand, pause and resume.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use trunkline_bus::SubscriptionStatus;

use crate::Parts;
use crate::dead_letters::chosen;
use crate::extract::Answer;

#[derive(Debug, Serialize)]
pub(crate) struct Subscriptions {
    subscriptions: Vec<SubscriptionStatus>,
}

pub(crate) async fn list(State(parts): State<Parts>) -> Answer<Json<Subscriptions>> {
    let mut subscriptions = Vec::with_capacity(parts.consumers.len());
    for consumer in parts.consumers.iter() {
        subscriptions.push(consumer.status().await?);
    }
    subscriptions.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(Json(Subscriptions { subscriptions }))
}

pub(crate) async fn pause(
    State(parts): State<Parts>,
    Path(group): Path<String>,
) -> Answer<Json<Subscriptions>> {
    steer(&parts, &group, true).await
}

pub(crate) async fn resume(
    State(parts): State<Parts>,
    Path(group): Path<String>,
) -> Answer<Json<Subscriptions>> {
    steer(&parts, &group, false).await
}

async fn steer(parts: &Parts, group: &str, pause: bool) -> Answer<Json<Subscriptions>> {
    let mut subscriptions = Vec::new();
    for consumer in chosen(parts, Some(group))? {
        if pause {
            consumer.pause().await?;
        } else {
            consumer.resume().await?;
        }
        subscriptions.push(consumer.status().await?);
    }
    Ok(Json(Subscriptions { subscriptions }))
}
