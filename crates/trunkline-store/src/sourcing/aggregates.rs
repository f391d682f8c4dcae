//! Reading aggregates: as they are, as they were, and event by event.

use std::fmt;
use std::marker::PhantomData;

use bytestring::ByteString;
use jiff::Timestamp;
use trunkline_core::{Error, Result};

use super::replay::{self, Until};
use super::{Aggregate, Recorded, checked_id, checked_name};
use crate::Store;

/// Events that a page of [`Aggregates::events`] has at most.
const PAGE_MAX: usize = 1_000;

/// An instance of an aggregate at a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded<A> {
    id: ByteString,
    state: A,
    version: u64,
    changed_at: Option<Timestamp>,
    snapshot: u64,
}

impl<A: Aggregate> Loaded<A> {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            state: A::default(),
            version: 0,
            changed_at: None,
            snapshot: 0,
        }
    }

    pub(super) fn of_snapshot(id: &str, state: A, (version, at): (u64, Timestamp)) -> Self {
        Self {
            id: id.into(),
            state,
            version,
            changed_at: Some(at),
            snapshot: version,
        }
    }

    /// Its id.
    pub fn id(&self) -> &ByteString {
        &self.id
    }

    /// Its state.
    pub fn state(&self) -> &A {
        &self.state
    }

    /// The number of its last event; 0 when nothing has happened yet.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When its last event was appended.
    pub fn changed_at(&self) -> Option<Timestamp> {
        self.changed_at
    }

    /// Gives the state away.
    pub fn into_state(self) -> A {
        self.state
    }

    /// The caller has checked that it is the next.
    pub(super) fn apply(&mut self, recorded: &Recorded<A::Event>) {
        self.state.apply(&recorded.event);
        self.version = recorded.version;
        self.changed_at = Some(recorded.at);
    }

    /// Whether enough has happened since the last snapshot that was seen.
    pub(super) fn wants_snapshot(&self) -> bool {
        let since = self.version.saturating_sub(self.snapshot);
        A::SNAPSHOT_EVERY > 0 && since >= u64::from(A::SNAPSHOT_EVERY)
    }

    pub(super) fn note_snapshot(&mut self) {
        self.snapshot = self.version;
    }
}

/// The instances of one aggregate in a store, as far as is committed.
pub struct Aggregates<A> {
    store: Store,
    of: PhantomData<fn() -> A>,
}

impl<A> Clone for Aggregates<A> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            of: PhantomData,
        }
    }
}

impl<A: Aggregate> fmt::Debug for Aggregates<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aggregates")
            .field("kind", &A::KIND)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The instances of an aggregate, to read; [`Tx::append`](crate::Tx::append) changes them.
    pub fn aggregates<A: Aggregate>(&self) -> Aggregates<A> {
        Aggregates {
            store: self.clone(),
            of: PhantomData,
        }
    }
}

impl<A: Aggregate> Aggregates<A> {
    /// An instance as it is; at version 0 when nothing has happened to it.
    ///
    /// # Errors
    /// `Corrupt` for a stream with a gap (`stream_gap`) or an event that no longer decodes
    /// (`stored_event_undecodable`, `stored_event_upcast_failed`); `Unsupported` for an event that this code does not
    /// know (`stored_event_unknown`, `stored_event_version_unknown`). As [`Store::read`] besides.
    pub async fn load(&self, id: &str) -> Result<Loaded<A>> {
        self.until(id, Until::NOW).await
    }

    /// An instance as it was at a version.
    ///
    /// # Errors
    /// `NotFound` (`version_not_found`) when it has not come to that version; as [`Aggregates::load`].
    pub async fn at_version(&self, id: &str, version: u64) -> Result<Loaded<A>> {
        let at = Timestamp::MAX;
        let loaded = self.until(id, Until { version, at }).await?;
        if loaded.version() == version {
            return Ok(loaded);
        }
        let text = "the aggregate has not come to this version";
        Err(Error::not_found("version_not_found", text)
            .with("aggregate", A::KIND)
            .with("id", id)
            .with("version", version)
            .with("newest", loaded.version()))
    }

    /// An instance as it was at a moment, with what was appended by then.
    ///
    /// # Errors
    /// As [`Aggregates::load`].
    pub async fn as_of(&self, id: &str, at: Timestamp) -> Result<Loaded<A>> {
        let version = u64::MAX;
        self.until(id, Until { version, at }).await
    }

    /// The events of an instance after a version, in order; at most `limit`, and 1,000.
    ///
    /// # Errors
    /// As [`Aggregates::load`].
    pub async fn events(
        &self,
        id: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded<A::Event>>> {
        checked_name(A::KIND)?;
        checked_id(id)?;
        let limit = i64::try_from(limit.min(PAGE_MAX)).unwrap_or(i64::MAX);
        let mut reader = self.store.read().await?;
        let page = replay::page(reader.conn(), (A::KIND, id), after, (Until::NOW, limit)).await?;
        let mut events = Vec::with_capacity(page.len());
        let mut version = after;
        for stored in page {
            replay::check_next(A::KIND, version, &stored)?;
            version = stored.version;
            events.push(stored.decode::<A>()?);
        }
        Ok(events)
    }

    async fn until(&self, id: &str, until: Until) -> Result<Loaded<A>> {
        let mut reader = self.store.read().await?;
        replay::load(reader.conn(), id, until).await
    }
}
