//! Appending to a stream, as a part of a transaction.

use std::sync::LazyLock;

use bytestring::ByteString;
use jiff::Timestamp;
use sqlx::{AnyConnection, Row};
use trunkline_core::{Error, ErrorKind, Result, Retry};

use super::codec::{self, Encoded};
use super::replay::{self, Until};
use super::{
    APPEND_EVENTS_MAX, Aggregate, Loaded, Recorded, checked_id, checked_name, count, number,
    snapshot,
};
use crate::error::sql_error;
use crate::jobs::timestamp;
use crate::{Tx, text};

/// Rows in one `INSERT`, the largest first. Fixed sizes, so that the statements stay prepared.
const CHUNKS: [usize; 3] = [64, 8, 1];

const HEAD: &str = "SELECT version, recorded_at FROM trunkline_event \
    WHERE kind = $1 AND stream = $2 ORDER BY version DESC LIMIT 1";

static INSERTS: LazyLock<[String; 3]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        let row = |n: usize| {
            let places = (1..=7).map(|place| format!("${}", n * 7 + place));
            format!("({})", places.collect::<Vec<_>>().join(", "))
        };
        let values = (0..rows).map(row).collect::<Vec<_>>().join(", ");
        // What is taken is not an error of the database, which would end the transaction on PostgreSQL.
        format!(
            "INSERT INTO trunkline_event (kind, stream, version, name, name_version, data, \
             recorded_at) VALUES {values} ON CONFLICT (kind, stream, version) DO NOTHING"
        )
    })
});

/// Where a stream ends.
struct Head {
    version: u64,
    at: Timestamp,
}

impl Tx {
    /// An instance of an aggregate as this transaction sees it; at version 0 when nothing has happened to it.
    ///
    /// # Errors
    /// As [`Aggregates::load`](crate::Aggregates::load).
    pub async fn load<A: Aggregate>(&mut self, id: &str) -> Result<Loaded<A>> {
        replay::load(self.conn(), id, Until::NOW).await
    }

    /// Appends events to an instance that was loaded, which then is what they make of it, and stores a snapshot when one is
    /// due. They take effect with this transaction; is it undone, the instance has to be loaded again.
    ///
    /// # Guarantees
    /// The events of a stream have the versions 1, 2, 3 and so on. Of two that append after the same version one is told
    /// `Conflict`, in whatever process they are: a unique index decides, and whoever comes second waits for the end of the
    /// first's transaction. After a `Conflict` the transaction goes on, and can load again.
    ///
    /// # Errors
    /// `Conflict` (`aggregate_changed`, with `expected` and `found`) when somebody was first; `TooLarge` above 1,000 events or
    /// 256 KiB in one of them; `Internal` for an event that could not be read again.
    pub async fn append<A: Aggregate>(
        &mut self,
        loaded: &mut Loaded<A>,
        events: &[A::Event],
    ) -> Result<()> {
        let at = (loaded.id().clone(), loaded.version());
        let recorded = add::<A>(self, at, events).await?;
        recorded.iter().for_each(|recorded| loaded.apply(recorded));
        if loaded.wants_snapshot() {
            snapshot::store(self.conn(), loaded).await?;
        }
        Ok(())
    }

    /// Appends events after a version that the caller knows, without the state, and says the version then. No snapshot is
    /// stored.
    ///
    /// # Errors
    /// As [`Tx::append`].
    pub async fn append_after<A: Aggregate>(
        &mut self,
        id: &str,
        expected: u64,
        events: &[A::Event],
    ) -> Result<u64> {
        let recorded = add::<A>(self, (id.into(), expected), events).await?;
        Ok(recorded.last().map_or(expected, |last| last.version))
    }
}

async fn add<A: Aggregate>(
    tx: &mut Tx,
    (id, expected): (ByteString, u64),
    events: &[A::Event],
) -> Result<Vec<Recorded<A::Event>>> {
    checked_name(A::KIND)?;
    checked_id(&id)?;
    if events.len() > APPEND_EVENTS_MAX {
        let text = "too many events are appended at once";
        return Err(Error::new(ErrorKind::TooLarge, "append_too_large", text)
            .with("events", events.len())
            .with("events_max", APPEND_EVENTS_MAX));
    }
    let encoded: Vec<Encoded> = events
        .iter()
        .map(codec::encode::<A>)
        .collect::<Result<_>>()?;
    let now = tx.store().env().now();
    let head = head(tx.conn(), A::KIND, &id).await?;
    if head.version != expected {
        return Err(changed(A::KIND, &id, (expected, head.version)));
    }
    // Clocks of processes differ, and a stream's times rise all the same.
    let at = Timestamp::from_microsecond(now.as_microsecond()).map_or(now, |now| now.max(head.at));
    let recorded = recorded::<A>(&id, (expected, at), &encoded)?;
    insert(tx.conn(), (A::KIND, &id), (expected, at), &encoded).await?;
    if !encoded.is_empty() {
        tx.note_append();
    }
    Ok(recorded)
}

/// The events as they will be read: what a replay makes of them is what is made of them now.
fn recorded<A: Aggregate>(
    id: &ByteString,
    (expected, at): (u64, Timestamp),
    encoded: &[Encoded],
) -> Result<Vec<Recorded<A::Event>>> {
    let read = |(version, event): (u64, &Encoded)| {
        let decoded = codec::decode::<A>(event.name, event.version, event.data.as_deref());
        let event = decoded.map_err(|error| {
            Error::internal("an event that is appended could not be read again")
                .with("aggregate", A::KIND)
                .with("event", event.name)
                .with_source(error)
        })?;
        let id = id.clone();
        Ok(Recorded {
            id,
            version,
            at,
            event,
        })
    };
    (expected.saturating_add(1)..)
        .zip(encoded)
        .map(read)
        .collect()
}

async fn head(conn: &mut AnyConnection, kind: &str, id: &str) -> Result<Head> {
    let row = sqlx::query(HEAD)
        .bind(kind)
        .bind(text::write(id).into_owned())
        .fetch_optional(conn)
        .await
        .map_err(sql_error)?;
    Ok(match row {
        None => Head {
            version: 0,
            at: Timestamp::MIN,
        },
        Some(row) => Head {
            version: count(row.try_get(0).map_err(sql_error)?),
            at: timestamp(&row, 1).map_err(sql_error)?,
        },
    })
}

async fn insert(
    conn: &mut AnyConnection,
    (kind, id): (&'static str, &str),
    (expected, at): (u64, Timestamp),
    events: &[Encoded],
) -> Result<()> {
    let mut version = expected;
    let mut left = events;
    while !left.is_empty() {
        // The first goes alone: who has its version has all that follow, for nobody else can see it and go on from there.
        let room = if version == expected { 1 } else { left.len() };
        let mut fitting = CHUNKS.iter().zip(&*INSERTS);
        let Some((size, sql)) = fitting.find(|(size, _)| **size <= room) else {
            break;
        };
        let (chunk, rest) = left.split_at(*size);
        let mut query = sqlx::query(sql.as_str());
        let before = version;
        for event in chunk {
            version = version.saturating_add(1);
            query = query
                .bind(kind)
                .bind(text::write(id).into_owned())
                .bind(number(version))
                .bind(event.name)
                .bind(event.version)
                .bind(event.data.clone())
                .bind(at.as_microsecond());
        }
        let done = query.execute(&mut *conn).await.map_err(sql_error)?;
        if done.rows_affected() != u64::try_from(*size).unwrap_or(u64::MAX) {
            let found = head(conn, kind, id).await?;
            return Err(changed(kind, id, (before, found.version)));
        }
        left = rest;
    }
    Ok(())
}

/// Transient: the work as a whole makes sense again, with the state as it is then.
fn changed(kind: &'static str, id: &str, (expected, found): (u64, u64)) -> Error {
    let text = "the aggregate has changed since it was loaded";
    Error::conflict("aggregate_changed", text)
        .with_retry(Retry::Transient)
        .with("aggregate", kind)
        .with("id", id)
        .with("expected", expected)
        .with("found", found)
}
