//! Instances, entries and messages as rows.

use std::sync::LazyLock;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::any::AnyRow;
use trunkline_core::{ByteString, Error, ErrorKind, Result};
use trunkline_saga::{Data, Entry, Instance, LISTED_BYTES_MAX, Message, State};
use uuid::Uuid;

use crate::error::{corrupt, sql_error};
use crate::text;

/// The columns of an instance, in the order in which [`instance`] reads them.
pub(super) const INSTANCE: &str = "id, saga, key, version, state, input, context, correlation_id, \
    status, output, error, started_at, changed_at, wake_at, owner, parent";

/// The same without what it was given and gave, as a list has it.
pub(super) static LISTED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "id, saga, key, version, state, 'null', 'null', correlation_id, \
         CASE WHEN octet_length(status) <= {LISTED_BYTES_MAX} THEN status END, NULL, error, \
         started_at, changed_at, wake_at, owner, parent"
    )
});

/// An instance from a row of [`INSTANCE`] or [`LISTED`].
pub(super) fn instance(row: &AnyRow) -> Result<Instance> {
    let state: String = get(row, 4)?;
    Ok(Instance {
        id: id(row, 0)?,
        saga: text::read(get(row, 1)?),
        key: text::read(get(row, 2)?),
        version: u32::try_from(get::<i64>(row, 3)?).map_err(unreadable)?,
        state: State::named(&state).ok_or_else(|| {
            corrupt("the state of a saga is none that this version knows").with("state", state)
        })?,
        input: Data::parse(get(row, 5)?).map_err(unreadable)?,
        context: Data::parse(get(row, 6)?).map_err(unreadable)?,
        correlation_id: text::read(get(row, 7)?),
        status: data(row, 8)?,
        output: data(row, 9)?,
        error: get::<Option<String>>(row, 10)?
            .map(|error| from_json(&error))
            .transpose()?,
        started_at: time(get(row, 11)?)?,
        changed_at: time(get(row, 12)?)?,
        wake_at: get::<Option<i64>>(row, 13)?.map(time).transpose()?,
        owner: get::<Option<String>>(row, 14)?.map(text::read),
        parent: get::<Option<Vec<u8>>>(row, 15)?
            .map(|bytes| Uuid::from_slice(&bytes).map_err(unreadable))
            .transpose()?,
    })
}

/// An entry from the only column of a row.
pub(super) fn entry(row: &AnyRow) -> Result<Entry> {
    from_json(&get::<String>(row, 0)?)
}

/// A message from its id, name, data and time.
pub(super) fn message(row: &AnyRow) -> Result<Message> {
    Ok(Message {
        id: text::read(get(row, 0)?),
        name: text::read(get(row, 1)?),
        data: Data::parse(get(row, 2)?).map_err(unreadable)?,
        at: time(get(row, 3)?)?,
    })
}

/// An id from a column.
pub(super) fn id(row: &AnyRow, column: usize) -> Result<Uuid> {
    Uuid::from_slice(&get::<Vec<u8>>(row, column)?).map_err(unreadable)
}

pub(super) fn get<'r, T>(row: &'r AnyRow, column: usize) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Any> + sqlx::Type<sqlx::Any>,
{
    row.try_get(column).map_err(sql_error)
}

/// A text as it is stored.
pub(super) fn written(text: &ByteString) -> String {
    text::write(text).into_owned()
}

/// What a column of JSON holds.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| {
        Error::new(
            ErrorKind::InvalidInput,
            "saga_data_invalid",
            "an entry can't be written as JSON",
        )
        .with_source(error)
    })
}

fn data(row: &AnyRow, column: usize) -> Result<Option<Data>> {
    get::<Option<String>>(row, column)?
        .map(|text| Data::parse(text).map_err(unreadable))
        .transpose()
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(unreadable)
}

fn time(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(unreadable)
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    corrupt("a row of the sagas' journal can't be read").with_source(error)
}
