//! The audit logs of the services: who did what, what was refused, and whether the log is what was written.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use trunkline_core::{ByteString, Error, Timestamp};
use trunkline_store::{AuditQuery, AuditRecord};

use crate::Parts;
use crate::events::limit;
use crate::extract::{Answer, Params};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    service: Option<ByteString>,
    actor: Option<String>,
    action: Option<String>,
    outcome: Option<String>,
    correlation_id: Option<ByteString>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Page {
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    service: ByteString,
    position: u64,
    id: ByteString,
    at: Timestamp,
    actor: String,
    action: String,
    object: String,
    outcome: &'static str,
    reason: Option<String>,
    correlation_id: Option<ByteString>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Checks {
    logs: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    service: ByteString,
    /// How many entries are as they were written.
    entries: u64,
    broken: Option<Break>,
}

#[derive(Debug, Serialize)]
struct Break {
    position: u64,
    what: &'static str,
}

/// The newest entries that match, the newest last.
pub(crate) async fn list(
    State(parts): State<Parts>,
    Params(filter): Params<Filter>,
) -> Answer<Json<Page>> {
    let limit = limit(filter.limit)?;
    let outcome = filter.outcome.as_deref().map(|name| {
        let expected = "expected `outcome` to be done, refused or failed";
        let unknown = || Error::invalid("outcome_invalid", expected).with("found", name);
        trunkline_store::AuditOutcome::named(name).ok_or_else(unknown)
    });
    let query = AuditQuery {
        actor: filter.actor,
        action: filter.action,
        outcome: outcome.transpose()?,
        correlation_id: filter.correlation_id,
        since: filter.since,
        until: filter.until,
        newest_first: true,
        limit,
        ..AuditQuery::default()
    };
    let mut entries = Vec::new();
    for (service, log) in parts.audits.iter() {
        if filter
            .service
            .as_ref()
            .is_none_or(|wanted| wanted == service)
        {
            let found = log.query(&query).await?;
            entries.extend(found.into_iter().map(|record| entry(service, record)));
        }
    }
    entries.sort_by_key(|entry| entry.at);
    entries.drain(..entries.len().saturating_sub(limit));
    Ok(Json(Page { entries }))
}

fn entry(service: &ByteString, record: AuditRecord) -> Entry {
    let AuditRecord {
        position, entry, ..
    } = record;
    Entry {
        service: service.clone(),
        position,
        id: entry.id,
        at: entry.at,
        actor: entry.actor,
        action: entry.action,
        object: entry.object,
        outcome: entry.outcome.name(),
        reason: entry.reason,
        correlation_id: entry.correlation_id,
    }
}

/// Reads every log from its beginning, and says where one is not what was written.
pub(crate) async fn check(State(parts): State<Parts>) -> Answer<Json<Checks>> {
    let mut logs = Vec::with_capacity(parts.audits.len());
    for (service, log) in parts.audits.iter() {
        let checked = log.verify(None).await?;
        logs.push(Check {
            service: service.clone(),
            entries: checked.entries,
            broken: checked.broken.map(|broken| Break {
                position: broken.position,
                what: broken.what,
            }),
        });
    }
    Ok(Json(Checks { logs }))
}
