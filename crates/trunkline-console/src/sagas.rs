//! Sagas: list, show, and a person's hand on one.

mod steps;
mod view;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use trunkline_core::{ByteString, Error, Result};
use trunkline_saga::{Data, Engine, Host, Instance, Query, Record, State, Which};
use trunkline_security::{AuditEntry, AuditOutcome, AuditSink as _};
use uuid::Uuid;

use crate::events::limit;
use crate::extract::{Answer, Body, Params};
use crate::{Parts, SOMEBODY, events};

pub(crate) use view::{Row, Shown};

/// The sagas of one service, as the admin API shows and steers them.
pub trait SagaDesk: Send + Sync {
    /// Instances, the newest first.
    fn list<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Vec<Instance>>>;

    /// One instance with all that it did.
    fn show(&self, id: Uuid) -> BoxFuture<'_, Result<Record>>;

    /// A person's hand on one.
    fn steer<'a>(&'a self, id: Uuid, hand: &'a Hand) -> BoxFuture<'a, Result<()>>;
}

/// What a person does with an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hand {
    /// Lets it go on.
    Retry,
    /// Cancels it, for this reason.
    Cancel(String),
    /// Has it undone after its end, for this reason.
    Revoke(String),
    /// Lets it go on from this step.
    RetryFrom(String),
    /// Moves it to this version of its code.
    Migrate(u32),
    /// Says what this step gave, and who says so.
    Skip(String, Data, String),
    /// Sends a signal of this id and name.
    Signal(Uuid, String, Data),
}

impl<H: Host> SagaDesk for Engine<H> {
    fn list<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Vec<Instance>>> {
        Self::list(self, query).boxed()
    }

    fn show(&self, id: Uuid) -> BoxFuture<'_, Result<Record>> {
        async move { Self::show(self, &Which::Id(id)).await }.boxed()
    }

    fn steer<'a>(&'a self, id: Uuid, hand: &'a Hand) -> BoxFuture<'a, Result<()>> {
        let which = Which::Id(id);
        async move {
            match hand {
                Hand::Retry => self.retry(&which).await,
                Hand::Cancel(why) => self.cancel(&which, why).await,
                Hand::Revoke(why) => self.revoke(&which, why).await,
                Hand::RetryFrom(step) => self.retry_from(&which, step).await,
                Hand::Migrate(version) => self.migrate(&which, *version).await,
                Hand::Skip(step, output, by) => self.skip(&which, step, (output.clone(), by)).await,
                Hand::Signal(id, name, data) => {
                    self.signal(which, id.to_string(), (name.as_str(), data))
                        .await
                }
            }
        }
        .boxed()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    service: Option<ByteString>,
    saga: Option<ByteString>,
    state: Option<String>,
    correlation_id: Option<ByteString>,
    key: Option<ByteString>,
    older_than: Option<String>,
    after: Option<Uuid>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Page {
    sagas: Vec<Row>,
    /// The cursor for the next page (`after`); none when this is the last.
    next: Option<Uuid>,
}

pub(crate) async fn list(
    Shared(parts): Shared<Parts>,
    Params(filter): Params<Filter>,
) -> Answer<Json<Page>> {
    let limit = limit(filter.limit)?;
    let query = Query {
        id: None,
        saga: filter.saga,
        state: filter.state.as_deref().map(state).transpose()?,
        correlation_id: filter.correlation_id,
        key: filter.key,
        parent: None,
        started_before: match filter.older_than.as_deref() {
            None => None,
            Some(age) => Some(parts.env.now().saturating_sub(older_than(age)?).map_err(
                |error| {
                    Error::invalid("query_invalid", "`older_than` is too long").with_source(error)
                },
            )?),
        },
        after: filter.after,
        max: u32::try_from(limit).unwrap_or(u32::MAX),
    };
    let mut rows = Vec::new();
    for (service, desk) in parts.sagas.iter() {
        if filter
            .service
            .as_ref()
            .is_none_or(|wanted| wanted == service)
        {
            let found = desk.list(&query).await?;
            rows.extend(found.iter().map(|one| Row::of(service, one)));
        }
    }
    // Ids are UUID v7: their order is that of the starts, across services too.
    rows.sort_by_key(|row| std::cmp::Reverse(row.id));
    rows.truncate(limit);
    let next = rows
        .last()
        .filter(|_| rows.len() == limit)
        .map(|row| row.id);
    Ok(Json(Page { sagas: rows, next }))
}

fn state(name: &str) -> Result<State> {
    State::named(name).ok_or_else(|| {
        let known: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
        let expected = format!("expected `state` to be one of {}", known.join(", "));
        Error::invalid("state_invalid", expected).with("found", name)
    })
}

fn older_than(age: &str) -> Result<SignedDuration> {
    let age: Option<SignedDuration> = age.parse().ok();
    age.filter(|age| !age.is_negative()).ok_or_else(|| {
        Error::invalid(
            "query_invalid",
            "expected `older_than` to be a time such as 90s, 15m or 2h",
        )
    })
}

pub(crate) async fn show(
    Shared(parts): Shared<Parts>,
    Path((service, id)): Path<(ByteString, String)>,
) -> Answer<Json<Shown>> {
    let (desk, id) = desk(&parts, &service, &id)?;
    let record = desk.show(id).await?;
    Ok(Json(Shown::of(&service, record)))
}

/// The values that a hand may need; each takes its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Wanted {
    why: Option<String>,
    step: Option<String>,
    output: Option<Box<RawValue>>,
    by: Option<String>,
    name: Option<String>,
    data: Option<Box<RawValue>>,
    version: Option<u32>,
}

impl Wanted {
    fn hand(&self, action: &str, parts: &Parts) -> Result<Hand> {
        let missing = |name| {
            let text = format!("expected `{name}` in the body");
            Error::invalid("body_invalid", text).with("action", action)
        };
        let why = || self.why.clone().unwrap_or_else(|| "by hand".to_owned());
        let step = || self.step.clone().ok_or_else(|| missing("step"));
        let data = |value: &Option<Box<RawValue>>| match value {
            None => Ok(Data::null()),
            Some(value) => Data::parse(value.get().to_owned()),
        };
        Ok(match action {
            "retry" => Hand::Retry,
            "cancel" => Hand::Cancel(why()),
            "revoke" => Hand::Revoke(why()),
            "retry-from" => Hand::RetryFrom(step()?),
            "migrate" => Hand::Migrate(self.version.ok_or_else(|| missing("version"))?),
            "skip" => Hand::Skip(step()?, data(&self.output)?, self.by().to_owned()),
            "signal" => {
                let name = self.name.clone().ok_or_else(|| missing("name"))?;
                Hand::Signal(parts.env.id(), name, data(&self.data)?)
            }
            _ => {
                let text = "expected retry, cancel, skip, retry-from, migrate, revoke or signal";
                return Err(Error::not_found("saga_action_unknown", text).with("action", action));
            }
        })
    }

    fn by(&self) -> &str {
        self.by.as_deref().unwrap_or(SOMEBODY)
    }
}

/// Steers an instance, and notes that in its service's audit log, however it ended.
pub(crate) async fn steer(
    Shared(parts): Shared<Parts>,
    Path((service, id, action)): Path<(ByteString, String, String)>,
    Body(wanted): Body<Wanted>,
) -> Answer<Json<Value>> {
    let (desk, id) = desk(&parts, &service, &id)?;
    let hand = wanted.hand(&action, &parts)?;
    let instance = desk.show(id).await?.instance;
    let done = desk.steer(id, &hand).await;
    let outcome = match &done {
        Ok(()) => AuditOutcome::Done,
        Err(_) => AuditOutcome::Failed,
    };
    let object = format!("saga {} {} {id}", instance.saga, instance.key);
    let mut entry = AuditEntry::new(
        wanted.by(),
        format!("saga.{action}"),
        object,
        outcome,
        &parts.env,
    )
    .in_flow(instance.correlation_id);
    let said = [&wanted.step, &wanted.name, &wanted.why];
    let mut why: Vec<String> = said.into_iter().flatten().cloned().collect();
    why.extend(
        done.as_ref()
            .err()
            .map(|error| format!("{}: {error}", error.code())),
    );
    if !why.is_empty() {
        entry = entry.because(why.join("; "));
    }
    if let Some((_, log)) = parts.audits.iter().find(|(name, _)| *name == service) {
        log.append(&[entry]).await?;
    }
    done?;
    Ok(Json(
        json!({ "service": service, "id": id, "done": action }),
    ))
}

fn desk(parts: &Parts, service: &str, id: &str) -> Result<(Arc<dyn SagaDesk>, Uuid)> {
    let id = id.parse().map_err(|_| {
        Error::invalid("saga_id_invalid", "expected the id of an instance, a UUID")
            .with("found", id)
    })?;
    let found = parts.sagas.iter().find(|(name, _)| *name == service);
    let (_, desk) = found.ok_or_else(|| {
        let known: Vec<&str> = parts.sagas.iter().map(|(name, _)| &**name).collect();
        Error::not_found(
            "saga_service_unknown",
            "no service of this name has sagas here",
        )
        .with("service", service)
        .with("has", known.join(", "))
    })?;
    Ok((desk.clone(), id))
}

/// Cuts a merged list to a page, the newest first; the id that the next one begins after.
pub(crate) fn page(all: &mut Vec<Value>, limit: Option<usize>) -> Value {
    let limit = limit.unwrap_or(events::LIMIT);
    all.reverse();
    let full = all.len() >= limit;
    all.truncate(limit);
    let last = all.last().filter(|_| full);
    last.and_then(|row| row.get("id"))
        .cloned()
        .unwrap_or(Value::Null)
}
