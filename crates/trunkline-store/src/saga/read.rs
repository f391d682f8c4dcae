//! Reading instances.

use sqlx::{AnyConnection, AssertSqlSafe};
use trunkline_core::Result;
use trunkline_saga::{Instance, Query, Record, Which};
use uuid::Uuid;

use super::bulk::bytes;
use super::rows;
use crate::Store;
use crate::error::sql_error;

/// How many instances a list has where nothing is said, and at most.
const LIST: (u32, u32) = (100, 1_000);

/// One instance with its entries and messages. They are read after its row: whatever came between is more, and whoever
/// goes on from less is told by the journal.
pub(super) async fn load(store: &Store, which: &Which) -> Result<Option<Record>> {
    let mut reader = store.read().await?;
    let one = match which {
        Which::Id(_) => "id = $1",
        Which::Key(..) => "saga = $1 AND key = $2",
    };
    let sql = format!("SELECT {} FROM trunkline_saga WHERE {one}", rows::INSTANCE);
    let query = sqlx::query(AssertSqlSafe(sql));
    let query = match which {
        Which::Id(id) => query.bind(bytes(*id)),
        Which::Key(saga, key) => query.bind(rows::written(saga)).bind(rows::written(key)),
    };
    let row = query
        .fetch_optional(reader.conn())
        .await
        .map_err(sql_error)?;
    let Some(row) = row else { return Ok(None) };
    let instance = rows::instance(&row)?;
    let entries =
        sqlx::query("SELECT body FROM trunkline_saga_entry WHERE saga_id = $1 ORDER BY seq")
            .bind(bytes(instance.id))
            .fetch_all(reader.conn())
            .await
            .map_err(sql_error)?;
    let messages = sqlx::query(
        "SELECT id, name, data, told_at FROM trunkline_saga_message WHERE saga_id = $1 ORDER BY seq",
    )
    .bind(bytes(instance.id))
    .fetch_all(reader.conn())
    .await
    .map_err(sql_error)?;
    // Whoever goes on from here acts on what it was told.
    store.settled().await?;
    Ok(Some(Record {
        instance,
        entries: entries.iter().map(rows::entry).collect::<Result<_>>()?,
        messages: messages.iter().map(rows::message).collect::<Result<_>>()?,
    }))
}

/// One instance, as it stands in the transaction of `conn`.
pub(super) async fn instance(conn: &mut AnyConnection, id: Uuid) -> Result<Option<Instance>> {
    let sql = format!(
        "SELECT {} FROM trunkline_saga WHERE id = $1",
        rows::INSTANCE
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(bytes(id))
        .fetch_optional(conn)
        .await
        .map_err(sql_error)?;
    row.as_ref().map(rows::instance).transpose()
}

/// A value of a condition.
enum Value {
    Text(String),
    Number(i64),
    Bytes(Vec<u8>),
}

/// Instances, the newest first.
pub(super) async fn list(store: &Store, query: &Query) -> Result<Vec<Instance>> {
    let (otherwise, most) = LIST;
    let max = match query.max {
        0 => otherwise,
        max => max.min(most),
    };
    let mut conditions = Vec::new();
    let mut values = Vec::new();
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(condition.replace('?', &format!("${}", values.len())));
    };
    if let Some(id) = query.id {
        add("id = ?", Value::Bytes(bytes(id)));
    }
    if let Some(saga) = &query.saga {
        add("saga = ?", Value::Text(rows::written(saga)));
    }
    if let Some(key) = &query.key {
        add("key = ?", Value::Text(rows::written(key)));
    }
    if let Some(flow) = &query.correlation_id {
        // The first finds it, the second is sure.
        let flow = rows::written(flow);
        add(
            "substr(correlation_id, 1, 100) = substr(?, 1, 100) AND correlation_id = ?",
            Value::Text(flow),
        );
    }
    if let Some(parent) = query.parent {
        add("parent = ?", Value::Bytes(bytes(parent)));
    }
    if let Some(before) = query.started_before {
        add("started_at < ?", Value::Number(before.as_microsecond()));
    }
    if let Some(after) = query.after {
        add("id < ?", Value::Bytes(bytes(after)));
    }
    // Written out, so that the index of those that have not completed is of use.
    let state = query.state.map(|state| format!("state = '{state}'"));
    conditions.extend(state);
    let found = match conditions.as_slice() {
        [] => "1 = 1".to_owned(),
        conditions => conditions.join(" AND "),
    };
    let sql = format!(
        "SELECT {} FROM trunkline_saga WHERE {found} ORDER BY id DESC LIMIT {max}",
        *rows::LISTED
    );
    let mut statement = sqlx::query(AssertSqlSafe(sql));
    for value in values {
        statement = match value {
            Value::Text(text) => statement.bind(text),
            Value::Number(number) => statement.bind(number),
            Value::Bytes(bytes) => statement.bind(bytes),
        };
    }
    let mut reader = store.read().await?;
    let found = statement
        .fetch_all(reader.conn())
        .await
        .map_err(sql_error)?;
    found.iter().map(rows::instance).collect()
}
