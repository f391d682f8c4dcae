//! Events as they are stored: a name, a version and data as JSON.

use bytestring::ByteString;
use jiff::Timestamp;
use serde_json::{Map, Value};
use sqlx::Row;
use sqlx::any::AnyRow;
use trunkline_core::{Error, ErrorKind, Result};

use super::{Aggregate, EventType, Recorded, STORED_EVENT_BYTES_MAX, count};
use crate::error::sql_error;
use crate::jobs::timestamp;
use crate::text;

/// The columns that [`Stored::read`] reads.
pub(super) const COLUMNS: &str = "stream, version, name, name_version, data, recorded_at, position";

/// An event, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encoded {
    pub(super) name: &'static str,
    pub(super) version: i64,
    /// None for a variant without data.
    pub(super) data: Option<String>,
}

/// A row of the table of events.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) id: ByteString,
    pub(super) version: u64,
    pub(super) name: String,
    pub(super) name_version: i64,
    pub(super) data: Option<String>,
    pub(super) at: Timestamp,
    /// None until its place among all events of its kind is known.
    pub(super) position: Option<i64>,
}

impl Stored {
    pub(super) fn read(row: &AnyRow) -> Result<Self> {
        let read = || {
            Ok(Self {
                id: text::read(row.try_get(0)?),
                version: count(row.try_get(1)?),
                name: row.try_get(2)?,
                name_version: row.try_get(3)?,
                data: row.try_get(4)?,
                at: timestamp(row, 5)?,
                position: row.try_get(6)?,
            })
        };
        read().map_err(sql_error)
    }

    /// What happened, in the form that the code knows now.
    pub(super) fn decode<A: Aggregate>(self) -> Result<Recorded<A::Event>> {
        let event = decode::<A>(&self.name, self.name_version, self.data.as_deref());
        let event = event.map_err(|error| self.locate(error, A::KIND))?;
        Ok(Recorded {
            id: self.id,
            version: self.version,
            at: self.at,
            event,
        })
    }

    /// Says where in the store something is wrong.
    pub(super) fn locate(&self, error: Error, kind: &'static str) -> Error {
        error
            .with("aggregate", kind)
            .with("id", &self.id)
            .with("version", self.version)
            .with("event", &self.name)
    }
}

/// What is stored of an event.
pub(super) fn encode<A: Aggregate>(event: &A::Event) -> Result<Encoded> {
    let value = serde_json::to_value(event)
        .map_err(|error| Error::internal("an event can't be written as JSON").with_source(error))?;
    let (name, data) = match value {
        Value::String(name) => (name, None),
        Value::Object(map) if map.len() == 1 => {
            let (name, data) = map.into_iter().next().unwrap_or_default();
            (name, Some(data))
        }
        _ => return Err(shape::<A>()),
    };
    if data == Some(Value::Null) {
        return Err(shape::<A>());
    }
    let known = declared::<A>(&name).ok_or_else(|| {
        let text = "the aggregate does not declare this event: add it to EVENTS";
        Error::internal(text)
            .with("aggregate", A::KIND)
            .with("event", &name)
    })?;
    let data = data.map(|data| data.to_string());
    let bytes = data.as_ref().map_or(0, String::len);
    if bytes > STORED_EVENT_BYTES_MAX {
        let text = "an event of an aggregate is too large";
        return Err(Error::new(ErrorKind::TooLarge, "event_too_large", text)
            .with("event", &name)
            .with("bytes", bytes)
            .with("bytes_max", STORED_EVENT_BYTES_MAX));
    }
    Ok(Encoded {
        name: known.name,
        version: i64::try_from(known.version()).unwrap_or(i64::MAX),
        data,
    })
}

/// Reads an event of any version that the code knows.
pub(super) fn decode<A: Aggregate>(
    name: &str,
    version: i64,
    data: Option<&str>,
) -> Result<A::Event> {
    let known = declared::<A>(name).ok_or_else(|| {
        let text = "an event of a sort that this code does not know is stored";
        Error::new(ErrorKind::Unsupported, "stored_event_unknown", text)
    })?;
    let value = match data {
        None => Value::Null,
        Some(data) => serde_json::from_str(data).map_err(undecodable)?,
    };
    let value = upcast(known, version, value)?;
    let whole = match value {
        Value::Null => Value::String(known.name.to_owned()),
        data => Value::Object(Map::from_iter([(known.name.to_owned(), data)])),
    };
    serde_json::from_value(whole).map_err(undecodable)
}

fn upcast(known: &EventType, version: i64, mut value: Value) -> Result<Value> {
    let newest = known.version();
    let at = usize::try_from(version).unwrap_or(0);
    let Some(steps) = at.checked_sub(1).and_then(|at| known.upcasts.get(at..)) else {
        let text = "an event of a version that this code does not know is stored";
        let code = "stored_event_version_unknown";
        return Err(Error::new(ErrorKind::Unsupported, code, text)
            .with("found", version)
            .with("newest_readable", newest));
    };
    for step in steps {
        value = step(value).map_err(|error| {
            let text = "an older event can't be read as a newer version";
            Error::new(ErrorKind::Corrupt, "stored_event_upcast_failed", text)
                .with("from", version)
                .with_source(error)
        })?;
    }
    Ok(value)
}

fn declared<A: Aggregate>(name: &str) -> Option<&'static EventType> {
    A::EVENTS.iter().find(|known| known.name == name)
}

fn undecodable(error: serde_json::Error) -> Error {
    let text = "a stored event is not what this code expects of it";
    Error::new(ErrorKind::Corrupt, "stored_event_undecodable", text).with_source(error)
}

fn shape<A: Aggregate>() -> Error {
    let text = "expected an event to be a variant of an enum, as serde writes it by default, and its data not null";
    Error::internal(text).with("aggregate", A::KIND)
}
