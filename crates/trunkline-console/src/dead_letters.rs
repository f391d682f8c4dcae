//! Dead letters: list, show, edit, replay, discard.

use axum::Json;
use axum::extract::{Path, State};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use trunkline_bus::{Consumer, DeadLetter, DeadLetterQuery, ReplayReport, ReplayRequest};
use trunkline_core::{ByteString, Error, Result};

use crate::Parts;
use crate::events;
use crate::extract::{Answer, Body, Params};
use crate::view::LetterView;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Filter {
    group: Option<ByteString>,
    key: Option<ByteString>,
    #[serde(rename = "type")]
    event_type: Option<ByteString>,
    after: Option<ByteString>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Page {
    dead_letters: Vec<LetterView>,
    /// The cursor for the next page (`after`); none when this is the last.
    next: Option<ByteString>,
}

pub(crate) async fn list(
    State(parts): State<Parts>,
    Params(filter): Params<Filter>,
) -> Answer<Json<Page>> {
    let limit = events::limit(filter.limit)?;
    let query = DeadLetterQuery {
        group: None,
        key: filter.key,
        event_type: filter.event_type,
        id: None,
        after: filter.after,
        limit,
    };
    let mut letters = Vec::new();
    for consumer in chosen(&parts, filter.group.as_deref())? {
        letters.extend(consumer.dead_letters(query.clone()).await?);
    }
    // Ids are UUID v7: their order is the order of parking, across groups too.
    letters.sort_by(|a, b| a.id.cmp(&b.id));
    letters.truncate(limit);
    let next = letters
        .last()
        .filter(|_| letters.len() == limit)
        .map(|letter| letter.id.clone());
    Ok(Json(Page {
        dead_letters: letters.into_iter().map(LetterView::of).collect(),
        next,
    }))
}

pub(crate) async fn show(
    State(parts): State<Parts>,
    Path(id): Path<ByteString>,
) -> Answer<Json<LetterView>> {
    let (_, letter) = find(&parts, &id).await?;
    Ok(Json(LetterView::of(letter)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Replay {
    group: Option<ByteString>,
    key: Option<ByteString>,
    #[serde(rename = "type")]
    event_type: Option<ByteString>,
    id: Option<ByteString>,
    rate_per_second: Option<u32>,
    dry_run: bool,
    force: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Replayed {
    groups: Vec<GroupReport>,
}

#[derive(Debug, Serialize)]
struct GroupReport {
    group: ByteString,
    #[serde(flatten)]
    report: ReplayReport,
}

/// Replays the letters that match. A client that goes away interrupts it after the letter at hand.
pub(crate) async fn replay(
    State(parts): State<Parts>,
    Body(wanted): Body<Replay>,
) -> Answer<Json<Replayed>> {
    if wanted.rate_per_second == Some(0) {
        return Err(Error::invalid("rate_invalid", "expected `rate_per_second` above 0").into());
    }
    let consumers = match &wanted.id {
        Some(id) => vec![find(&parts, id).await?.0],
        None => chosen(&parts, wanted.group.as_deref())?,
    };
    let request = ReplayRequest {
        key: wanted.key,
        event_type: wanted.event_type,
        id: wanted.id,
        rate_per_second: wanted.rate_per_second,
        dry_run: wanted.dry_run,
        force: wanted.force,
    };
    let mut groups = Vec::new();
    for consumer in consumers {
        let report = consumer.replay(request.clone()).await?;
        groups.push(GroupReport {
            group: consumer.group().clone(),
            report,
        });
    }
    groups.retain(|group| group.report.keys > 0 || group.report.refused > 0);
    Ok(Json(Replayed { groups }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    data: Box<RawValue>,
}

pub(crate) async fn edit(
    State(parts): State<Parts>,
    Path(id): Path<ByteString>,
    Body(edit): Body<Edit>,
) -> Answer<Json<LetterView>> {
    let (consumer, _) = find(&parts, &id).await?;
    let data = Bytes::copy_from_slice(edit.data.get().as_bytes());
    Ok(Json(LetterView::of(consumer.edit(&id, data).await?)))
}

#[derive(Debug, Serialize)]
pub(crate) struct Discarded {
    discarded: usize,
}

pub(crate) async fn discard(
    State(parts): State<Parts>,
    Path(id): Path<ByteString>,
) -> Answer<Json<Discarded>> {
    let (consumer, _) = find(&parts, &id).await?;
    let query = DeadLetterQuery {
        id: Some(id),
        ..DeadLetterQuery::default()
    };
    Ok(Json(Discarded {
        discarded: consumer.discard(query).await?,
    }))
}

/// Discards what matches a group and a key or type: never everything by an empty body.
pub(crate) async fn discard_many(
    State(parts): State<Parts>,
    Body(filter): Body<Filter>,
) -> Answer<Json<Discarded>> {
    if filter.key.is_none() && filter.event_type.is_none() {
        return Err(
            Error::invalid("filter_missing", "expected `key` or `type` in the body").into(),
        );
    }
    let mut discarded = 0;
    for consumer in chosen(&parts, filter.group.as_deref())? {
        let query = DeadLetterQuery {
            key: filter.key.clone(),
            event_type: filter.event_type.clone(),
            ..DeadLetterQuery::default()
        };
        discarded += consumer.discard(query).await?;
    }
    Ok(Json(Discarded { discarded }))
}

/// All consumers, or that of a group.
pub(crate) fn chosen(parts: &Parts, group: Option<&str>) -> Result<Vec<Consumer>> {
    let Some(group) = group else {
        return Ok(parts.consumers.to_vec());
    };
    let mut known = Vec::new();
    for consumer in parts.consumers.iter() {
        let name = consumer.group();
        if *name == group {
            return Ok(vec![consumer.clone()]);
        }
        known.push(name.to_string());
    }
    Err(
        Error::not_found("group_unknown", "no subscription of this group runs here")
            .with("group", group)
            .with("running", known.join(", ")),
    )
}

async fn find(parts: &Parts, id: &ByteString) -> Result<(Consumer, DeadLetter)> {
    let query = DeadLetterQuery {
        id: Some(id.clone()),
        ..DeadLetterQuery::default()
    };
    for consumer in parts.consumers.iter() {
        if let Some(letter) = consumer
            .dead_letters(query.clone())
            .await?
            .into_iter()
            .next()
        {
            return Ok((consumer.clone(), letter));
        }
    }
    Err(Error::not_found("dead_letter_unknown", "no dead letter has this id").with("id", id))
}
