//! What keeps projections going: after each commit of this process, and now and then for those of others.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe, Row};
use trunkline_core::{Error, ErrorKind, Result, report};

use super::codec::{COLUMNS, Stored};
use super::generation::{self, Generation};
use super::projection::{Declared, Projected, Projection, Target};
use super::{count, number, position};
use crate::error::sql_error;
use crate::{Store, text};

/// Events that one transaction applies.
const BATCH: u64 = 200;

/// A process that dies after its commit tells nobody of it: what is left is looked for this often. What failed is
/// tried again then, too.
const SWEEP: Duration = Duration::from_secs(10);

const BEHIND: &str = "SELECT COUNT(*) FROM trunkline_event \
    WHERE kind = $1 AND (position IS NULL OR position > $2)";

/// The projections of a service. Cheap to clone.
///
/// # Guarantees
/// Every replica may run them at once: the row of a projection is locked while events are applied, and its position
/// commits together with what they change.
#[derive(Clone)]
pub struct Projections {
    store: Store,
    all: Vec<Arc<dyn Projected>>,
}

/// How a projection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionStatus {
    /// Its name.
    pub name: String,
    /// The version of the code that made the tables that are read; none while the first are built.
    pub version: Option<u32>,
    /// How many events they show.
    pub position: u64,
    /// How many events that are stored they do not show yet.
    pub behind: u64,
    /// How many events tables that are built anew show, if there are such.
    pub rebuilding: Option<u64>,
    /// Why it goes no further, if so.
    pub error: Option<String>,
}

impl Projections {
    /// None yet.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            all: Vec::new(),
        }
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, projection: impl Projection) -> Self {
        self.all.push(Arc::new(projection));
        self
    }

    /// The store that they are in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Makes the tables. One that has none to be read yet is built to the end first, so that nobody reads half of it; one
    /// whose version was raised is begun, and [`Projections::run`] builds it while the old tables are read.
    ///
    /// # Errors
    /// `InvalidInput` for a wrong name or one that comes twice; what an event's `apply` says in a first build; those
    /// of any transaction.
    pub async fn prepare(&self) -> Result<()> {
        for (place, projected) in self.all.iter().enumerate() {
            let declared = projected.declared();
            declared.check()?;
            let twin = |other: &Arc<dyn Projected>| other.declared().name == declared.name;
            if self.all.iter().skip(place + 1).any(twin) {
                let text = "two projections have the same name";
                return Err(
                    Error::invalid("projection_twice", text).with("projection", declared.name)
                );
            }
            self.begin(&declared, false).await?;
            if !self.list(declared.name).await?.iter().any(|one| one.live) {
                self.advance(projected.as_ref()).await?;
            }
        }
        Ok(())
    }

    /// Applies what is committed, until there is nothing left, and turns readers to tables that are built.
    ///
    /// # Errors
    /// The first of what `apply` or the store says, after all projections had their turn.
    pub async fn catch_up(&self) -> Result<()> {
        let mut outcome = Ok(());
        for projected in &self.all {
            let done = self.advance(projected.as_ref()).await;
            outcome = outcome.and(done);
        }
        outcome
    }

    /// Keeps them going until `stop`. A projection whose event fails waits there, says so in its status, and is tried again.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let work = async {
            let mut appended = self.store.appended().subscribe();
            loop {
                appended.mark_unchanged();
                if let Err(error) = self.catch_up().await {
                    let service = &**self.store.service();
                    tracing::warn!(service, error = %report(&error), "a projection does not go on");
                }
                // The sender lives as long as the store, which is held here.
                let _timed_out = tokio::time::timeout(SWEEP, appended.changed()).await;
            }
        };
        tokio::select! {
            biased;
            () = stop => {}
            () = work => {}
        }
    }

    /// Begins to build one from nothing, beside the tables that are read; [`Projections::run`] goes on with it. One that
    /// is being built begins again.
    ///
    /// # Errors
    /// `NotFound` for an unknown name; those of any transaction.
    pub async fn rebuild(&self, name: &str) -> Result<()> {
        let known = self.all.iter().map(|one| one.declared());
        let declared = known.into_iter().find(|one| one.name == name);
        let declared = declared.ok_or_else(|| {
            Error::not_found("projection_unknown", "no such projection is declared")
                .with("projection", name)
        })?;
        self.begin(&declared, true).await?;
        self.store.appended().send_replace(());
        Ok(())
    }

    /// How each of them stands.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn status(&self) -> Result<Vec<ProjectionStatus>> {
        let mut all = Vec::with_capacity(self.all.len());
        for projected in &self.all {
            let declared = projected.declared();
            let generations = self.list(declared.name).await?;
            all.push(self.status_of(&declared, &generations).await?);
        }
        Ok(all)
    }

    async fn status_of(
        &self,
        declared: &Declared,
        generations: &[Generation],
    ) -> Result<ProjectionStatus> {
        let live = generations.iter().find(|one| one.live);
        let built = generations.iter().find(|one| !one.live);
        let at = live.map_or(0, |live| live.position);
        let mut reader = self.store.read().await?;
        let behind = sqlx::query(BEHIND)
            .bind(declared.kind)
            .bind(at)
            .fetch_one(reader.conn())
            .await
            .and_then(|row| row.try_get(0))
            .map_err(sql_error)?;
        Ok(ProjectionStatus {
            name: declared.name.to_owned(),
            version: live.and_then(|live| u32::try_from(live.version).ok()),
            position: count(at),
            behind: count(behind),
            rebuilding: built.map(|built| count(built.position)),
            error: generations.iter().find_map(|one| one.error.clone()),
        })
    }

    async fn list(&self, name: &str) -> Result<Vec<Generation>> {
        let mut reader = self.store.read().await?;
        generation::list(reader.conn(), name).await
    }

    /// Begins new tables where there are none of this version, or where they are wanted. What a newer version made is
    /// left alone: this is an old replica, while others are updated.
    async fn begin(&self, declared: &Declared, wanted: bool) -> Result<()> {
        let version = declared.version;
        let stands = |all: &[Generation]| {
            let newest = all.iter().map(|one| one.version).max();
            newest.is_some_and(|newest| newest > version || (newest == version && !wanted))
        };
        if stands(&self.list(declared.name).await?) {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        let all = generation::list(tx.conn(), declared.name).await?;
        if stands(&all) {
            return Ok(());
        }
        for unfinished in all.iter().filter(|one| !one.live) {
            generation::abandon(&mut tx, declared.name, unfinished).await?;
        }
        generation::begin(&mut tx, declared).await?;
        tx.commit().await
    }

    /// Brings one as far as there are events. Tables that fail don't keep others of it from going on.
    async fn advance(&self, projected: &dyn Projected) -> Result<()> {
        let declared = projected.declared();
        loop {
            let placed = position::place(&self.store, declared.kind).await?;
            let (mut moved, mut outcome) = (placed, Ok(()));
            for one in self.list(declared.name).await? {
                if one.version != declared.version {
                    continue;
                }
                match self.step(projected, &one).await {
                    Ok(applied) => {
                        moved += applied;
                        let at_the_end = placed < position::PLACED_MAX && applied < BATCH;
                        if !one.live && at_the_end && self.swap(declared.name, &one).await? {
                            moved += 1;
                        }
                    }
                    Err(error) => {
                        self.note(declared.name, &one, &error).await;
                        outcome = Err(error);
                    }
                }
            }
            if moved == 0 {
                return outcome;
            }
        }
    }

    /// Applies the next events in one transaction. Says how many.
    async fn step(&self, projected: &dyn Projected, to: &Generation) -> Result<u64> {
        let declared = projected.declared();
        let mut reader = self.store.read().await?;
        // Mostly there is nothing to do, and no writer has to be asked for that.
        if after(reader.conn(), declared.kind, (to.position, 1))
            .await?
            .is_empty()
        {
            return Ok(0);
        }
        drop(reader);
        // Should it be lost with the machine, the events are still there.
        let mut tx = self.store.begin_relaxed().await?;
        let Some(at) = generation::lock(tx.conn(), declared.name, to).await? else {
            return Ok(0);
        };
        let events = after(tx.conn(), declared.kind, (at, BATCH)).await?;
        let applied = u64::try_from(events.len()).unwrap_or(u64::MAX);
        let mut target = Target::new(tx.conn(), declared.tables, to.generation);
        let done = projected.apply(events, &mut target).await;
        done.map_err(|error| error.with("projection", declared.name))?;
        let to_position = at.saturating_add(number(applied));
        generation::advance(&mut tx, (declared.name, to.generation), to_position).await?;
        tx.commit().await?;
        Ok(applied)
    }

    async fn swap(&self, name: &str, new: &Generation) -> Result<bool> {
        let mut tx = self.store.begin().await?;
        if !generation::swap(&mut tx, name, new).await? {
            return Ok(false);
        }
        tx.commit().await?;
        tracing::info!(
            service = &**self.store.service(),
            projection = name,
            "a projection is built"
        );
        Ok(true)
    }

    /// Keeps why it goes no further, for whoever looks. What can't be written is still in the log.
    async fn note(&self, name: &str, one: &Generation, error: &Error) {
        let why = report(error).to_string();
        if one.error.as_deref() == Some(&*why) {
            return;
        }
        let written = async {
            let mut tx = self.store.begin_relaxed().await?;
            generation::fail(&mut tx, (name, one.generation), &text::write(&why)).await?;
            tx.commit().await
        };
        if let Err(error) = written.await {
            tracing::debug!(projection = name, %error, "why a projection failed was not written down");
        }
    }
}

/// The events of a kind after a position, in the one order.
async fn after(
    conn: &mut AnyConnection,
    kind: &'static str,
    (position, limit): (i64, u64),
) -> Result<Vec<Stored>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM trunkline_event WHERE kind = $1 AND position > $2 \
         ORDER BY position LIMIT $3"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(kind)
        .bind(position)
        .bind(number(limit))
        .fetch_all(conn)
        .await
        .map_err(sql_error)?;
    let events: Vec<Stored> = rows.iter().map(Stored::read).collect::<Result<_>>()?;
    for (expected, event) in (position.saturating_add(1)..).zip(&events) {
        if event.position != Some(expected) {
            let text = "an event is missing in the order of its kind";
            let error = Error::new(ErrorKind::Corrupt, "position_gap", text);
            return Err(event.locate(error.with("expected", expected), kind));
        }
    }
    Ok(events)
}

impl fmt::Debug for Projections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.all.iter().map(|one| one.declared().name);
        f.debug_list().entries(names).finish()
    }
}
