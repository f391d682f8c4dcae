//! One round: writes whose order among them does not matter, or is the order in which a round works.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use sqlx::{AnyConnection, AssertSqlSafe};
use trunkline_core::{Error, Result};
use trunkline_saga::{Instance, Went, Which, Write, Written};
use uuid::Uuid;

use super::bulk::{Binding, Bulk, bytes, ids};
use super::{hand, rows, tell};
use crate::error::{conflicted, sql_error};

static START: LazyLock<Bulk> = LazyLock::new(|| {
    let before = format!(
        "INSERT INTO trunkline_saga ({}, messages) SELECT v.*, 0 FROM ",
        rows::INSTANCE
    );
    Bulk::new(
        &before,
        16,
        "AS v WHERE v.column1 IS NOT NULL ON CONFLICT DO NOTHING RETURNING id",
    )
});

// The instance has to be there, so that what was forgotten gets no entries that nobody ever forgets.
pub(super) static ENTRY: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "INSERT INTO trunkline_saga_entry (saga_id, seq, body) \
         SELECT v.column1, v.column2, v.column3 FROM ",
        3,
        "AS v WHERE EXISTS (SELECT 1 FROM trunkline_saga AS s WHERE s.id = v.column1) \
         ON CONFLICT DO NOTHING",
    )
});

/// Without a state only the status changes, whoever says so.
static CHANGE: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "UPDATE trunkline_saga AS s SET state = COALESCE(v.column3, s.state), \
         status = COALESCE(v.column4, s.status), output = COALESCE(v.column5, s.output), \
         error = COALESCE(v.column6, s.error), \
         wake_at = CASE WHEN v.column3 IS NULL THEN s.wake_at ELSE v.column7 END, \
         owner = CASE WHEN v.column8 = 1 THEN NULL ELSE s.owner END, changed_at = v.column10 FROM ",
        10,
        "AS v WHERE s.id = v.column1 AND (v.column3 IS NULL OR s.owner = v.column2) \
         AND (v.column9 IS NULL OR s.messages <= v.column9) RETURNING id",
    )
});

/// What is done to an instance within a round, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Start,
    Entries,
    Row,
    Tell,
}

/// A batch as rounds: what one of them does part by part comes to the same as doing it write by write.
pub(super) fn split(batch: &[Write]) -> Vec<&[Write]> {
    let mut rounds = Vec::new();
    let mut seen = Seen::default();
    let mut begun = 0;
    for (at, write) in batch.iter().enumerate() {
        if at > begun && !seen.takes(write) {
            rounds.extend(batch.get(begun..at));
            begun = at;
            seen = Seen::default();
        }
        seen.add(write);
    }
    rounds.extend(batch.get(begun..));
    rounds
}

/// What a round has in it.
#[derive(Debug, Default)]
struct Seen {
    parts: HashMap<Uuid, Part>,
    /// Somebody whose id is not known is told something, or a hand is in it.
    closed: bool,
}

impl Seen {
    fn takes(&self, write: &Write) -> bool {
        let seen = |id: &Uuid| self.parts.get(id).copied();
        match write {
            Write::Start(instance) => !self.closed && seen(&instance.id).is_none(),
            Write::Went(went) if changes_row(went) => {
                !self.closed && seen(&went.id) < Some(Part::Row)
            }
            Write::Went(went) => !self.closed && seen(&went.id) <= Some(Part::Entries),
            Write::Tell(..) => true,
            Write::Mend(_) | Write::Prune(..) => false,
        }
    }

    fn add(&mut self, write: &Write) {
        match write {
            Write::Start(instance) => self.parts.insert(instance.id, Part::Start),
            Write::Went(went) => {
                let told = went
                    .change
                    .as_ref()
                    .and_then(|change| change.tell_parent.as_ref());
                if let Some((parent, _)) = told {
                    self.parts.insert(*parent, Part::Tell);
                }
                let part = if changes_row(went) {
                    Part::Row
                } else {
                    Part::Entries
                };
                self.parts.insert(went.id, part)
            }
            Write::Tell(Which::Id(id), _) => self.parts.insert(*id, Part::Tell),
            Write::Tell(Which::Key(..), _) | Write::Mend(_) | Write::Prune(..) => {
                self.closed = true;
                None
            }
        };
    }
}

fn changes_row(went: &Went) -> bool {
    went.change.is_some() || went.status.is_some() || went.entries.is_empty()
}

/// Whether one statement writes all of it: a start, or an entry.
pub(super) fn is_one_statement(batch: &[Write]) -> bool {
    match batch {
        [Write::Start(_)] => true,
        [Write::Went(went)] => went.entries.len() == 1 && !changes_row(went),
        _ => false,
    }
}

/// Writes a round; nothing when an entry's place was taken, and then whatever was written has to be undone.
pub(super) async fn apply(
    conn: &mut AnyConnection,
    round: &[Write],
    now: i64,
) -> Result<Option<Vec<Written>>> {
    if let [write @ (Write::Mend(_) | Write::Prune(..))] = round {
        let written = hand::apply(conn, write, now).await?;
        return Ok(written.map(|written| vec![written]));
    }
    let started = start(conn, round).await?;
    let changed = change(conn, round, now).await?;
    let mut entries = Vec::new();
    for write in round {
        if let Write::Went(went) = write
            && (!changes_row(went) || changed.contains(&went.id))
        {
            entries.extend(went.entries.iter().map(|entry| (went.id, entry)));
        }
    }
    if !add_entries(conn, &entries).await? {
        return Ok(None);
    }
    let mut answers = Vec::with_capacity(round.len());
    for write in round {
        answers.push(match write {
            Write::Start(instance) if !started.contains(&instance.id) => {
                Written::Exists(Box::new(existing(conn, instance).await?))
            }
            Write::Went(went) if changes_row(went) && !changed.contains(&went.id) => Written::Lost,
            Write::Went(went) => {
                let told = went
                    .change
                    .as_ref()
                    .and_then(|change| change.tell_parent.as_ref());
                if let Some((parent, message)) = told {
                    tell::parent(conn, *parent, message, now).await?;
                }
                Written::Done
            }
            Write::Tell(which, message) => tell::tell(conn, which, message, now).await?,
            _ => Written::Done,
        });
    }
    Ok(Some(answers))
}

/// Adds entries; whether each found its place.
pub(super) async fn add_entries(
    conn: &mut AnyConnection,
    entries: &[(Uuid, &trunkline_saga::Entry)],
) -> Result<bool> {
    let added = ENTRY.run(conn, entries, |query, row| {
        let Some((id, entry)) = row else {
            return Ok(none_bytes(query).bind(None::<i64>).bind(None::<String>));
        };
        let seq = i64::try_from(entry.seq).map_err(|error| {
            Error::invalid("saga_seq_invalid", "an entry's place is out of range")
                .with_source(error)
        })?;
        Ok(query.bind(bytes(*id)).bind(seq).bind(rows::json(entry)?))
    });
    let wanted = u64::try_from(entries.len()).unwrap_or(u64::MAX);
    Ok(added.await? == wanted)
}

async fn start(conn: &mut AnyConnection, round: &[Write]) -> Result<HashSet<Uuid>> {
    let mut starts: Vec<&Instance> = round
        .iter()
        .filter_map(|write| match write {
            Write::Start(instance) => Some(&**instance),
            _ => None,
        })
        .collect();
    // Everybody waits for others in one order, so that no two wait for each other.
    starts.sort_by(|a, b| (&a.saga, &a.key).cmp(&(&b.saga, &b.key)));
    let begun = START.fetch(conn, &starts, |query, row| {
        bind_instance(query, row.copied())
    });
    Ok(ids(&begun.await?)?.into_iter().collect())
}

fn bind_instance(query: Binding, row: Option<&Instance>) -> Result<Binding> {
    let text = |text: Option<&trunkline_core::ByteString>| text.map(rows::written);
    let data = |data: Option<&trunkline_saga::Data>| data.map(|data| data.text().to_owned());
    let error = row.and_then(|one| one.error.as_ref()).map(rows::json);
    Ok(query
        .bind(row.map(|one| bytes(one.id)))
        .bind(text(row.map(|one| &one.saga)))
        .bind(text(row.map(|one| &one.key)))
        .bind(row.map(|one| i64::from(one.version)))
        .bind(row.map(|one| one.state.name()))
        .bind(data(row.map(|one| &one.input)))
        .bind(data(row.map(|one| &one.context)))
        .bind(text(row.map(|one| &one.correlation_id)))
        .bind(data(row.and_then(|one| one.status.as_ref())))
        .bind(data(row.and_then(|one| one.output.as_ref())))
        .bind(error.transpose()?)
        .bind(row.map(|one| one.started_at.as_microsecond()))
        .bind(row.map(|one| one.changed_at.as_microsecond()))
        .bind(
            row.and_then(|one| one.wake_at)
                .map(|at| at.as_microsecond()),
        )
        .bind(text(row.and_then(|one| one.owner.as_ref())))
        .bind(row.and_then(|one| one.parent).map(bytes)))
}

async fn change(conn: &mut AnyConnection, round: &[Write], now: i64) -> Result<HashSet<Uuid>> {
    let mut changes: Vec<&Went> = round
        .iter()
        .filter_map(|write| match write {
            Write::Went(went) if changes_row(went) => Some(went),
            _ => None,
        })
        .collect();
    changes.sort_by_key(|went| went.id);
    let changed = CHANGE.fetch(conn, &changes, |query, row| {
        bind_change(query, row.copied(), now)
    });
    Ok(ids(&changed.await?)?.into_iter().collect())
}

fn bind_change(query: Binding, row: Option<&Went>, now: i64) -> Result<Binding> {
    let change = row.and_then(|went| went.change.as_ref());
    let data = |data: Option<&trunkline_saga::Data>| data.map(|data| data.text().to_owned());
    let error = change
        .and_then(|change| change.error.as_ref())
        .map(rows::json);
    let messages = change.and_then(|change| change.messages);
    Ok(query
        .bind(row.map(|went| bytes(went.id)))
        .bind(row.map(|went| rows::written(&went.owner)))
        .bind(change.map(|change| change.state.name()))
        .bind(data(row.and_then(|went| went.status.as_ref())))
        .bind(data(change.and_then(|change| change.output.as_ref())))
        .bind(error.transpose()?)
        .bind(
            change
                .and_then(|change| change.wake_at)
                .map(|at| at.as_microsecond()),
        )
        .bind(change.map(|change| i64::from(change.release)))
        .bind(messages.map(|messages| i64::try_from(messages).unwrap_or(i64::MAX)))
        .bind(now))
}

fn none_bytes(query: Binding) -> Binding {
    query.bind(None::<Vec<u8>>)
}

/// The one that a start found there.
async fn existing(conn: &mut AnyConnection, instance: &Instance) -> Result<Instance> {
    let sql = format!(
        "SELECT {} FROM trunkline_saga WHERE (saga = $1 AND key = $2) OR id = $3 \
         ORDER BY CASE WHEN id = $3 THEN 1 ELSE 0 END LIMIT 1",
        rows::INSTANCE
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(rows::written(&instance.saga))
        .bind(rows::written(&instance.key))
        .bind(bytes(instance.id))
        .fetch_optional(conn)
        .await
        .map_err(sql_error)?;
    match row {
        Some(row) => rows::instance(&row),
        // Whoever had the key was forgotten a moment ago.
        None => Err(conflicted()),
    }
}
