//! The state from what is stored: the latest snapshot that fits, and the events after it.

use jiff::Timestamp;
use sqlx::{AnyConnection, AssertSqlSafe};
use trunkline_core::{Error, ErrorKind, Result};

use super::codec::{COLUMNS, Stored};
use super::{Aggregate, Loaded, checked_id, checked_name, number, snapshot};
use crate::error::sql_error;
use crate::text;

/// Events read at once.
const PAGE: i64 = 500;

/// How far to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    pub(super) version: u64,
    pub(super) at: Timestamp,
}

impl Until {
    /// As far as there is something.
    pub(super) const NOW: Self = Self {
        version: u64::MAX,
        at: Timestamp::MAX,
    };
}

/// Loads an instance as it was.
pub(super) async fn load<A: Aggregate>(
    conn: &mut AnyConnection,
    id: &str,
    until: Until,
) -> Result<Loaded<A>> {
    checked_name(A::KIND)?;
    checked_id(id)?;
    let mut loaded = match snapshot::latest::<A>(conn, id, until).await? {
        Some(loaded) => loaded,
        None => Loaded::new(id),
    };
    loop {
        let page = page(conn, (A::KIND, id), loaded.version(), (until, PAGE)).await?;
        let full = number(page.len().try_into().unwrap_or(u64::MAX)) == PAGE;
        for stored in page {
            check_next(A::KIND, loaded.version(), &stored)?;
            loaded.apply(&stored.decode::<A>()?);
        }
        if !full {
            return Ok(loaded);
        }
    }
}

/// The events after a version, in order.
pub(super) async fn page(
    conn: &mut AnyConnection,
    (kind, id): (&str, &str),
    after: u64,
    (until, limit): (Until, i64),
) -> Result<Vec<Stored>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM trunkline_event WHERE kind = $1 AND stream = $2 AND version > $3 \
         AND version <= $4 AND recorded_at <= $5 ORDER BY version LIMIT $6"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(kind)
        .bind(text::write(id).into_owned())
        .bind(number(after))
        .bind(number(until.version))
        .bind(until.at.as_microsecond())
        .bind(limit)
        .fetch_all(conn)
        .await
        .map_err(sql_error)?;
    rows.iter().map(Stored::read).collect()
}

/// The versions of a stream have no gaps: one that is found says that something was removed.
pub(super) fn check_next(kind: &'static str, after: u64, stored: &Stored) -> Result<()> {
    let expected = after.saturating_add(1);
    if stored.version == expected {
        return Ok(());
    }
    let text = "an event of a stream is missing";
    let error = Error::new(ErrorKind::Corrupt, "stream_gap", text).with("expected", expected);
    Err(stored.locate(error, kind))
}
