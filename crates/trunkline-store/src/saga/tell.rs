//! Messages: what an instance is told.

use std::sync::LazyLock;

use sqlx::AnyConnection;
use trunkline_core::Result;
use trunkline_saga::{Body, MESSAGES_MAX, Message, State, Which, Written};
use uuid::Uuid;

use super::bulk::bytes;
use super::rows;
use crate::error::{corrupt, sql_error};

/// `{which}` comes first, so that its values are `$1` and `$2`. The row is changed before the message is added: whoever
/// tells one instance something waits here for its turn, and messages are numbered in the order of their commits.
fn count_text(which: &str) -> String {
    format!(
        "UPDATE trunkline_saga SET messages = messages + 1, \
         wake_at = CASE WHEN state = 'parked' THEN wake_at ELSE $3 END \
         WHERE {which} AND state NOT IN ('completed', 'failed', 'compensated') \
         AND messages < $4 AND NOT EXISTS (SELECT 1 FROM trunkline_saga_message AS m \
         WHERE m.saga_id = trunkline_saga.id AND m.id = $5) RETURNING id"
    )
}

// An id is bound twice, so that both have the same numbers.
static COUNT_BY_ID: LazyLock<String> = LazyLock::new(|| count_text("id = $1 AND id = $2"));
static COUNT_BY_KEY: LazyLock<String> = LazyLock::new(|| count_text("saga = $1 AND key = $2"));

const ADD: &str = "INSERT INTO trunkline_saga_message (saga_id, id, name, data, told_at) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";

const UNCOUNT: &str = "UPDATE trunkline_saga SET messages = messages - 1 WHERE id = $1";

const FIND_BY_ID: &str = "SELECT id, state FROM trunkline_saga WHERE id = $1 AND id = $2";

const FIND_BY_KEY: &str = "SELECT id, state FROM trunkline_saga WHERE saga = $1 AND key = $2";

const KNOWN: &str = "SELECT 1 FROM trunkline_saga_message WHERE saga_id = $1 AND id = $2";

/// Adds a message.
pub(super) async fn tell(
    conn: &mut AnyConnection,
    which: &Which,
    message: &Message,
    now: i64,
) -> Result<Written> {
    if add(conn, which, message, (now, MESSAGES_MAX)).await? {
        return Ok(Written::Done);
    }
    let (id, state) = match find(conn, which).await? {
        None => return Ok(Written::NotFound),
        Some(found) => found,
    };
    if is_known(conn, id, message).await? {
        return Ok(Written::Done);
    }
    if state.has_ended() {
        return Ok(Written::Ended);
    }
    // So many have come; those that it has read don't count.
    let come_max = MESSAGES_MAX.saturating_add(read(conn, id).await?);
    let added = add(conn, which, message, (now, come_max)).await?;
    Ok(if added { Written::Done } else { Written::Full })
}

/// Tells whoever waits for an instance's end. It is never too much for them: they started so many.
pub(super) async fn parent(
    conn: &mut AnyConnection,
    parent: Uuid,
    message: &Message,
    now: i64,
) -> Result<()> {
    add(conn, &Which::Id(parent), message, (now, usize::MAX)).await?;
    Ok(())
}

/// Adds a message to an instance that has not ended, does not know it, and was told fewer than so many.
async fn add(
    conn: &mut AnyConnection,
    which: &Which,
    message: &Message,
    (now, come_max): (i64, usize),
) -> Result<bool> {
    let query = match which {
        Which::Id(id) => sqlx::query(COUNT_BY_ID.as_str())
            .bind(bytes(*id))
            .bind(bytes(*id)),
        Which::Key(saga, key) => sqlx::query(COUNT_BY_KEY.as_str())
            .bind(rows::written(saga))
            .bind(rows::written(key)),
    };
    let counted = query
        .bind(now)
        .bind(i64::try_from(come_max).unwrap_or(i64::MAX))
        .bind(rows::written(&message.id))
        .fetch_optional(&mut *conn)
        .await
        .map_err(sql_error)?;
    let Some(row) = counted else { return Ok(false) };
    let id = rows::id(&row, 0)?;
    let added = sqlx::query(ADD)
        .bind(bytes(id))
        .bind(rows::written(&message.id))
        .bind(rows::written(&message.name))
        .bind(message.data.text())
        .bind(message.at.as_microsecond())
        .execute(&mut *conn)
        .await
        .map_err(sql_error)?;
    if added.rows_affected() == 0 {
        // Another transaction added it while this one waited for the row.
        let uncount = sqlx::query(UNCOUNT).bind(bytes(id)).execute(conn);
        uncount.await.map_err(sql_error)?;
    }
    Ok(true)
}

/// An instance's id and state.
pub(super) async fn find(conn: &mut AnyConnection, which: &Which) -> Result<Option<(Uuid, State)>> {
    let query = match which {
        Which::Id(id) => sqlx::query(FIND_BY_ID).bind(bytes(*id)).bind(bytes(*id)),
        Which::Key(saga, key) => sqlx::query(FIND_BY_KEY)
            .bind(rows::written(saga))
            .bind(rows::written(key)),
    };
    let Some(row) = query.fetch_optional(conn).await.map_err(sql_error)? else {
        return Ok(None);
    };
    let state: String = rows::get(&row, 1)?;
    let state = State::named(&state)
        .ok_or_else(|| corrupt("the state of a saga is none that this version knows"))?;
    Ok(Some((rows::id(&row, 0)?, state)))
}

async fn is_known(conn: &mut AnyConnection, id: Uuid, message: &Message) -> Result<bool> {
    let known = sqlx::query(KNOWN)
        .bind(bytes(id))
        .bind(rows::written(&message.id))
        .fetch_optional(conn)
        .await
        .map_err(sql_error)?;
    Ok(known.is_some())
}

/// How many messages an instance has read.
async fn read(conn: &mut AnyConnection, id: Uuid) -> Result<usize> {
    let entries = sqlx::query("SELECT body FROM trunkline_saga_entry WHERE saga_id = $1")
        .bind(bytes(id))
        .fetch_all(conn)
        .await
        .map_err(sql_error)?;
    let mut read = 0;
    for row in &entries {
        let body = rows::entry(row)?.body;
        read += usize::from(matches!(
            body,
            Body::Received { .. } | Body::Cancelled { .. }
        ));
    }
    Ok(read)
}
