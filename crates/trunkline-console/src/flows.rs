//! Where an instance of a flow stands, and which ones are stuck.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunkline_bus::DeadLetterQuery;
use trunkline_core::{ByteString, Envelope, Error, Result};
use trunkline_saga::{Flow, FlowState, Obstacle, ObstacleKind, Story};
use trunkline_store::EventQuery;

use crate::extract::{Answer, Params};
use crate::{Parts, events, peers};

/// The most events that one story is made of.
const STORY_EVENTS_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    flow: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Stories {
    flows: Vec<Story>,
    /// How far the trail may be behind: events not recorded yet.
    trail_lag: Option<u64>,
}

pub(crate) async fn show(
    State(parts): State<Parts>,
    Path(id): Path<String>,
) -> Answer<Json<Stories>> {
    let events = events_of(&parts, &id).await?;
    if events.is_empty() {
        return Err(Error::not_found(
            "flow_unknown",
            "no event has this correlation id or business key; it may be older than what is kept",
        )
        .with("id", id)
        .into());
    }
    let obstacles = obstacles(&parts).await?;
    let flows = parts
        .flows
        .iter()
        .filter(|flow| belongs(flow, &events))
        .map(|flow| flow.story(&events, &obstacles, parts.env.now()))
        .collect();
    Ok(Json(Stories {
        flows,
        trail_lag: trail_lag(&parts).await,
    }))
}

/// The newest instances of each flow, or those in one state.
pub(crate) async fn list(
    State(parts): State<Parts>,
    Params(filter): Params<Filter>,
) -> Answer<Json<Stories>> {
    let wanted = filter.state.as_deref().map(state_named).transpose()?;
    let limit = events::limit(filter.limit)?;
    if let Some(name) = &filter.flow
        && parts.flows.iter().all(|flow| flow.name() != name)
    {
        let known: Vec<_> = parts.flows.iter().map(Flow::name).collect();
        return Err(
            Error::invalid("flow_unknown", "no flow of this name is declared")
                .with("declared", known.join(", "))
                .into(),
        );
    }
    let obstacles = obstacles(&parts).await?;
    let mut stories = Vec::new();
    for flow in parts.flows.iter() {
        if filter
            .flow
            .as_deref()
            .is_some_and(|name| name != flow.name())
        {
            continue;
        }
        for start in starts(&parts, flow, limit).await? {
            let events = correlated(&parts, &start.correlation_id).await?;
            let story = flow.story(&events, &obstacles, parts.env.now());
            if wanted.is_none_or(|state| state == story.state) {
                stories.push(story);
            }
        }
    }
    stories.truncate(limit);
    Ok(Json(Stories {
        flows: stories,
        trail_lag: trail_lag(&parts).await,
    }))
}

fn state_named(name: &str) -> Result<FlowState> {
    match name {
        "unknown" => Ok(FlowState::Unknown),
        "running" => Ok(FlowState::Running),
        "stuck" => Ok(FlowState::Stuck),
        "succeeded" => Ok(FlowState::Succeeded),
        "failed" => Ok(FlowState::Failed),
        _ => Err(Error::invalid(
            "state_invalid",
            "expected `state` to be unknown, running, stuck, succeeded or failed",
        )),
    }
}

fn belongs(flow: &Flow, events: &[Envelope]) -> bool {
    let types = flow.event_types();
    events
        .iter()
        .any(|event| types.contains(&*event.event_type))
}

async fn starts(parts: &Parts, flow: &Flow, limit: usize) -> Result<Vec<Envelope>> {
    let query = EventQuery {
        event_type: flow.start().map(ByteString::from_static),
        newest_first: true,
        limit,
        ..EventQuery::default()
    };
    let found = parts.trail()?.query(&query).await?;
    Ok(found.into_iter().map(|entry| entry.envelope).collect())
}

async fn correlated(parts: &Parts, id: &ByteString) -> Result<Vec<Envelope>> {
    let query = EventQuery {
        correlation_id: Some(id.clone()),
        limit: STORY_EVENTS_MAX,
        ..EventQuery::default()
    };
    let found = parts.trail()?.query(&query).await?;
    Ok(found.into_iter().map(|entry| entry.envelope).collect())
}

/// The events of a correlation id; or those with a business key, and all that they are correlated with.
async fn events_of(parts: &Parts, id: &str) -> Result<Vec<Envelope>> {
    let direct = correlated(parts, &ByteString::from(id)).await?;
    if !direct.is_empty() {
        return Ok(direct);
    }
    let query = EventQuery {
        business_key: Some(id.into()),
        limit: STORY_EVENTS_MAX,
        ..EventQuery::default()
    };
    let keyed = parts.trail()?.query(&query).await?;
    let mut correlations: Vec<ByteString> = Vec::new();
    for entry in &keyed {
        if !correlations.contains(&entry.envelope.correlation_id) {
            correlations.push(entry.envelope.correlation_id.clone());
        }
    }
    let mut events: Vec<_> = keyed.into_iter().map(|entry| entry.envelope).collect();
    for correlation in correlations.iter().take(10) {
        events.extend(correlated(parts, correlation).await?);
    }
    Ok(events)
}

/// What is known to hold events up: dead letters and stuck outbox rows.
async fn obstacles(parts: &Parts) -> Result<Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    for consumer in parts.consumers.iter() {
        let query = DeadLetterQuery {
            limit: STORY_EVENTS_MAX,
            ..DeadLetterQuery::default()
        };
        for letter in consumer.dead_letters(query).await? {
            let waiting = || waits_behind(&letter.key);
            obstacles.push(Obstacle {
                event_id: letter.envelope.id.to_string(),
                kind: ObstacleKind::DeadLetter,
                at: letter.group.to_string(),
                reason: letter.error.clone().unwrap_or_else(waiting),
            });
        }
    }
    for (service, relay) in parts.relays.iter() {
        for stuck in relay.stuck(STORY_EVENTS_MAX).await? {
            obstacles.push(Obstacle {
                event_id: stuck.event_id.to_string(),
                kind: ObstacleKind::Outbox,
                at: service.to_string(),
                reason: stuck.error,
            });
        }
    }
    obstacles.extend(elsewhere(parts).await);
    Ok(obstacles)
}

fn waits_behind(key: &str) -> String {
    format!("waits behind an earlier dead letter of key {key}")
}

/// What holds events up in other processes, as far as they answer.
async fn elsewhere(parts: &Parts) -> Vec<Obstacle> {
    if parts.peers.is_empty() {
        return Vec::new();
    }
    let text = |value: &Value, at: &str| {
        let text = value.pointer(at).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let target = format!("/api/v1/dead-letters?limit={STORY_EVENTS_MAX}");
    let letters = peers::members(parts, &target, "dead_letters").await;
    let letters = letters.iter().map(|letter| Obstacle {
        event_id: text(letter, "/event/id"),
        kind: ObstacleKind::DeadLetter,
        at: text(letter, "/group"),
        reason: match text(letter, "/error") {
            why if why.is_empty() => waits_behind(&text(letter, "/key")),
            why => why,
        },
    });
    let outboxes = peers::members(parts, "/api/v1/outbox", "outboxes").await;
    let stuck = outboxes.iter().flat_map(|outbox| {
        let stuck = outbox.get("stuck").and_then(Value::as_array);
        stuck.into_iter().flatten().map(|event| Obstacle {
            event_id: text(event, "/event_id"),
            kind: ObstacleKind::Outbox,
            at: text(outbox, "/service"),
            reason: text(event, "/error"),
        })
    });
    letters.chain(stuck).collect()
}

async fn trail_lag(parts: &Parts) -> Option<u64> {
    for consumer in parts.consumers.iter() {
        if *consumer.group() == TRAIL_GROUP {
            return consumer.status().await.ok()?.lag;
        }
    }
    None
}

/// The group of the subscription that records the trail.
const TRAIL_GROUP: &str = "trunkline.trail";
