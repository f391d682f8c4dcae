//! The trail as it grows, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trunkline_core::{Error, ErrorKind, Result, report};
use trunkline_store::{EventQuery, Trail, TrailEntry};

use crate::Parts;
use crate::events::entry;

/// So many may follow at once.
const FOLLOWERS_MAX: usize = 64;
/// Events are read in pages of this size: what a follower holds in memory.
const PAGE: usize = 64;
/// A follower who was up to date and is now further behind is let go: what it has not read may not be kept for long.
const BEHIND_MAX: u64 = 10_000;
/// After so much silence a comment is sent, so that both ends know that the other is there, and the trail is looked at
/// once more: another process may have recorded something.
const SILENCE_MAX: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Places for followers.
#[derive(Clone)]
pub(crate) struct Followers(Arc<Semaphore>);

impl Default for Followers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FOLLOWERS_MAX)))
    }
}

/// Whether a request asks for a stream by what it accepts.
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|kinds| kinds.contains("text/event-stream"))
}

/// Answers with events as they are recorded: those after the position that was asked for or last seen, or from now on.
pub(crate) async fn answer(
    parts: &Parts,
    followers: &Followers,
    headers: &HeaderMap,
    mut query: EventQuery,
) -> Result<Response> {
    let place = followers.0.clone().try_acquire_owned().map_err(|_| {
        let text = "as many as can follow the events do so already";
        Error::new(ErrorKind::Overloaded, "followers_max", text)
            .with_retry_after(Duration::from_secs(5))
    })?;
    let seen = headers
        .get(LAST_EVENT_ID)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    query.after = seen.or(query.after);
    query.limit = PAGE;
    let mut follow = Follow {
        trail: parts.trail()?.clone(),
        recorded: parts.recorded.clone(),
        stop: parts.stop.clone(),
        behind_max: BEHIND_MAX,
        ready: VecDeque::new(),
        is_live: false,
        is_over: false,
        query,
        _place: Some(place),
    };
    if follow.query.after.is_none() && follow.query.since.is_none() {
        follow.begin_now().await?;
    }
    let events = stream::unfold(follow, |mut follow| async move {
        let said = follow.next().await?;
        Some((Ok::<_, Infallible>(told(said)), follow))
    });
    Ok(Sse::new(events).into_response())
}

fn told(said: Said) -> Event {
    match said {
        Said::Alive => Event::default().comment("alive"),
        Said::Behind(after) => {
            let data = serde_json::json!({ "code": "follower_behind", "after": after });
            Event::default().event("behind").data(data.to_string())
        }
        Said::Recorded(found) => {
            let position = found.position.to_string();
            let text = serde_json::to_string(&entry(*found)).unwrap_or_default();
            // Data is as it came; between the values of JSON a line's end is a space.
            let text = text.replace(['\r', '\n'], " ");
            Event::default().id(position).data(text)
        }
    }
}

/// What a follower is told.
#[derive(Debug)]
enum Said {
    Recorded(Box<TrailEntry>),
    Alive,
    /// It fell behind, and may go on after this position.
    Behind(u64),
}

/// One who follows.
///
/// The trail itself is read, page by page, and a notice of its growth only wakes: who is slow misses nothing, and costs
/// no memory.
struct Follow {
    trail: Trail,
    query: EventQuery,
    recorded: watch::Receiver<u64>,
    stop: CancellationToken,
    behind_max: u64,
    ready: VecDeque<TrailEntry>,
    /// It has been up to date once.
    is_live: bool,
    is_over: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Follow {
    async fn begin_now(&mut self) -> Result<()> {
        self.query.after = Some(self.newest().await?);
        self.is_live = true;
        Ok(())
    }

    /// The position of the newest event of all.
    async fn newest(&self) -> Result<u64> {
        let query = EventQuery {
            newest_first: true,
            limit: 1,
            ..EventQuery::default()
        };
        let newest = self.trail.query(&query).await?;
        Ok(newest.first().map_or(0, |entry| entry.position))
    }

    async fn next(&mut self) -> Option<Said> {
        while !self.is_over {
            if let Some(found) = self.ready.pop_front() {
                self.query.after = Some(found.position);
                return Some(Said::Recorded(Box::new(found)));
            }
            match self.look().await {
                Ok(None) => {}
                Ok(said) => return said,
                Err(error) => {
                    tracing::warn!(error = %report(&error), "a follower of the events was let go");
                    return None;
                }
            }
        }
        None
    }

    /// Reads what is new, or waits until there is something.
    async fn look(&mut self) -> Result<Option<Said>> {
        // Before the reading, so that what comes meanwhile wakes.
        self.recorded.borrow_and_update();
        let newest = self.newest().await?;
        let after = self.query.after.unwrap_or(0);
        if self.is_live && newest.saturating_sub(after) > self.behind_max {
            self.is_over = true;
            return Ok(Some(Said::Behind(after)));
        }
        self.ready.extend(self.trail.query(&self.query).await?);
        if !self.ready.is_empty() {
            return Ok(None);
        }
        // Nothing up to there is of interest.
        self.query.after = Some(newest.max(after));
        self.is_live = true;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => self.is_over = true,
            changed = timeout(SILENCE_MAX, self.recorded.changed()) => match changed {
                Ok(Ok(())) => {}
                Ok(Err(_)) => self.is_over = true,
                Err(_) => return Ok(Some(Said::Alive)),
            },
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
