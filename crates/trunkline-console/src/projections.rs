//! Projections: how they stand, and building one anew.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_core::{ByteString, Error, Result};
use trunkline_security::{AuditEntry, AuditOutcome, AuditSink as _};
use trunkline_store::{ProjectionStatus, Projections};

use crate::extract::{Answer, Body};
use crate::{Parts, SOMEBODY};

#[derive(Debug, Serialize)]
pub(crate) struct Page {
    projections: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    service: ByteString,
    name: String,
    /// The version of the code that made the tables that are read; none while the first are built.
    version: Option<u32>,
    /// How many events they show.
    position: u64,
    /// How many events that are stored they do not show yet.
    behind: u64,
    /// How many events tables that are built anew show, if there are such.
    rebuilding: Option<u64>,
    error: Option<String>,
}

impl Row {
    fn of(service: &ByteString, status: ProjectionStatus) -> Self {
        Self {
            service: service.clone(),
            name: status.name,
            version: status.version,
            position: status.position,
            behind: status.behind,
            rebuilding: status.rebuilding,
            error: status.error,
        }
    }
}

pub(crate) async fn list(State(parts): State<Parts>) -> Answer<Json<Page>> {
    let mut rows = Vec::new();
    for (service, projections) in parts.projections.iter() {
        let all = projections.status().await?;
        rows.extend(all.into_iter().map(|status| Row::of(service, status)));
    }
    Ok(Json(Page { projections: rows }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Wanted {
    by: Option<String>,
}

/// Begins to build one anew, beside the tables that are read, and notes who wanted it in its service's audit log.
pub(crate) async fn rebuild(
    State(parts): State<Parts>,
    Path((service, name)): Path<(ByteString, String)>,
    Body(wanted): Body<Wanted>,
) -> Answer<Json<Value>> {
    let done = of_service(&parts, &service)?.rebuild(&name).await;
    let outcome = match &done {
        Ok(()) => AuditOutcome::Done,
        Err(_) => AuditOutcome::Failed,
    };
    let by = wanted.by.as_deref().unwrap_or(SOMEBODY);
    let object = format!("projection {name}");
    let mut entry = AuditEntry::new(by, "projection.rebuild", object, outcome, &parts.env);
    if let Err(error) = &done {
        entry = entry.because(format!("{}: {error}", error.code()));
    }
    if let Some((_, log)) = parts.audits.iter().find(|(name, _)| *name == service) {
        log.append(&[entry]).await?;
    }
    done?;
    Ok(Json(
        json!({ "service": service, "name": name, "done": "rebuild" }),
    ))
}

fn of_service<'a>(parts: &'a Parts, service: &str) -> Result<&'a Projections> {
    let found = parts.projections.iter().find(|(name, _)| *name == service);
    let (_, projections) = found.ok_or_else(|| {
        let known: Vec<&str> = parts.projections.iter().map(|(name, _)| &**name).collect();
        let text = "no service of this name has projections here";
        Error::not_found("projection_service_unknown", text)
            .with("service", service)
            .with("has", known.join(", "))
    })?;
    Ok(projections)
}
