//! The trail of events.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use trunkline_core::{ByteString, Error, Timestamp};
use trunkline_store::{EventQuery, TrailEntry};

use crate::extract::{Answer, Params};
use crate::follow::{self, Followers};
use crate::{EventView, Parts};

/// The most events of one answer.
const LIMIT_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    id: Option<ByteString>,
    correlation_id: Option<ByteString>,
    #[serde(rename = "type")]
    event_type: Option<ByteString>,
    business_key: Option<ByteString>,
    since: Option<Timestamp>,
    after: Option<u64>,
    limit: Option<usize>,
    #[serde(default)]
    newest_first: bool,
    #[serde(default)]
    follow: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Page {
    events: Vec<Entry>,
    /// The cursor for the next page (`after`); none when this is the last.
    next: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    position: u64,
    recorded_at: Timestamp,
    business_keys: Vec<ByteString>,
    #[serde(flatten)]
    event: EventView,
}

/// How many are listed when nobody says.
pub(crate) const LIMIT: usize = 100;

/// The limit that a query string names.
pub(crate) fn limit_in(query: Option<&str>) -> Option<usize> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == "limit")?.1.parse().ok()
}

pub(crate) fn limit(given: Option<usize>) -> Result<usize, Error> {
    match given.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(Error::invalid(
            "limit_invalid",
            "expected `limit` between 1 and 1000",
        )),
    }
}

pub(crate) async fn list(
    State(parts): State<Parts>,
    Extension(followers): Extension<Followers>,
    headers: HeaderMap,
    Params(filter): Params<Filter>,
) -> Answer<Response> {
    let follows = filter.follow || follow::is_accepted(&headers);
    if follows && (filter.newest_first || filter.limit.is_some()) {
        let text = "expected neither `limit` nor `newest_first` of whoever follows";
        return Err(Error::invalid("follow_invalid", text).into());
    }
    let limit = limit(filter.limit)?;
    let query = EventQuery {
        id: filter.id,
        correlation_id: filter.correlation_id,
        event_type: filter.event_type,
        business_key: filter.business_key,
        since: filter.since,
        after: filter.after,
        newest_first: filter.newest_first,
        limit,
    };
    if follows {
        return Ok(follow::answer(&parts, &followers, &headers, query).await?);
    }
    let found = parts.trail()?.query(&query).await?;
    let next = found
        .last()
        .filter(|_| found.len() == limit)
        .map(|entry| entry.position);
    Ok(Json(Page {
        events: found.into_iter().map(entry).collect(),
        next,
    })
    .into_response())
}

pub(crate) fn entry(found: TrailEntry) -> Entry {
    Entry {
        position: found.position,
        recorded_at: found.recorded_at,
        business_keys: found.business_keys,
        event: EventView::of(&found.envelope),
    }
}
