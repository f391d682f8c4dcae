//! Snapshots: the state at some versions, so that not all events are read again. The events are the truth; whatever a
//! snapshot says can be told from them.

use sqlx::{AnyConnection, Row};
use trunkline_core::{Error, ErrorKind, Result};

use super::replay::Until;
use super::{Aggregate, Loaded, count, number};
use crate::error::sql_error;
use crate::jobs::optional_timestamp;
use crate::text;

/// Bytes of a snapshot, as JSON. A larger state has none, and all its events are read.
const SNAPSHOT_BYTES_MAX: usize = 8 << 20;

const LATEST: &str = "SELECT snapshot.version, snapshot.state, event.recorded_at \
    FROM trunkline_snapshot AS snapshot LEFT JOIN trunkline_event AS event \
      ON event.kind = snapshot.kind AND event.stream = snapshot.stream \
      AND event.version = snapshot.version \
    WHERE snapshot.kind = $1 AND snapshot.stream = $2 AND snapshot.state_version = $3 \
      AND snapshot.version <= $4 AND snapshot.recorded_at <= $5 \
    ORDER BY snapshot.version DESC LIMIT 1";

const STORE: &str = "INSERT INTO trunkline_snapshot \
    (kind, stream, state_version, version, recorded_at, state) VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (kind, stream, state_version, version) DO NOTHING";

const DROP_OLDER: &str = "DELETE FROM trunkline_snapshot \
    WHERE kind = $1 AND stream = $2 AND state_version < $3";

/// The last snapshot up to there that this code can read.
pub(super) async fn latest<A: Aggregate>(
    conn: &mut AnyConnection,
    id: &str,
    until: Until,
) -> Result<Option<Loaded<A>>> {
    let row = sqlx::query(LATEST)
        .bind(A::KIND)
        .bind(text::write(id).into_owned())
        .bind(i64::from(A::STATE_VERSION))
        .bind(number(until.version))
        .bind(until.at.as_microsecond())
        .fetch_optional(conn)
        .await
        .map_err(sql_error)?;
    let Some(row) = row else { return Ok(None) };
    let version = count(row.try_get(0).map_err(sql_error)?);
    let state: String = row.try_get(1).map_err(sql_error)?;
    let Some(at) = optional_timestamp(&row, 2).map_err(sql_error)? else {
        let text = "a stream ends before the version of its snapshot";
        return Err(Error::new(ErrorKind::Corrupt, "stream_gap", text)
            .with("aggregate", A::KIND)
            .with("id", id)
            .with("expected", version));
    };
    match serde_json::from_str(&state) {
        Ok(state) => Ok(Some(Loaded::of_snapshot(id, state, (version, at)))),
        Err(error) => {
            // The state follows from the events all the same, only later.
            tracing::warn!(
                aggregate = A::KIND, id, version, %error,
                "a snapshot can't be read: the form of a state was changed and its STATE_VERSION was not"
            );
            Ok(None)
        }
    }
}

/// Stores the state as it is, and drops snapshots of older forms.
pub(super) async fn store<A: Aggregate>(
    conn: &mut AnyConnection,
    loaded: &mut Loaded<A>,
) -> Result<()> {
    let state = match serde_json::to_string(loaded.state()) {
        Ok(state) if state.len() <= SNAPSHOT_BYTES_MAX => state,
        Ok(state) => {
            let (id, bytes) = (&**loaded.id(), state.len());
            tracing::warn!(
                aggregate = A::KIND,
                id,
                bytes,
                "a state is too large for a snapshot"
            );
            return Ok(());
        }
        Err(error) => {
            let text = "the state of an aggregate can't be written as JSON";
            return Err(Error::internal(text)
                .with("aggregate", A::KIND)
                .with_source(error));
        }
    };
    let id = text::write(loaded.id()).into_owned();
    let at = loaded.changed_at().map_or(0, |at| at.as_microsecond());
    sqlx::query(STORE)
        .bind(A::KIND)
        .bind(id.as_str())
        .bind(i64::from(A::STATE_VERSION))
        .bind(number(loaded.version()))
        .bind(at)
        .bind(state)
        .execute(&mut *conn)
        .await
        .map_err(sql_error)?;
    sqlx::query(DROP_OLDER)
        .bind(A::KIND)
        .bind(id.as_str())
        .bind(i64::from(A::STATE_VERSION))
        .execute(conn)
        .await
        .map_err(sql_error)?;
    loaded.note_snapshot();
    Ok(())
}
