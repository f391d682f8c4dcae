//! Event-sourced aggregates: what happened is stored, and the state is what follows from it.
//!
//! An [`Aggregate`] is a state and the events that change it. Those of one instance are its stream, with the versions
//! 1, 2, 3 and so on. [`Tx::append`](crate::Tx::append) adds to a stream, [`Aggregates`] reads it, also as it was, and a
//! [`Projection`] makes tables of all streams of a kind.

mod aggregates;
mod append;
mod codec;
mod generation;
mod position;
mod projection;
mod projector;
mod replay;
mod snapshot;

use bytestring::ByteString;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use trunkline_core::{Error, Result};

pub use aggregates::{Aggregates, Loaded};
pub use projection::{Projection, Target};
pub use projector::{ProjectionStatus, Projections};

/// Events that one append may add; more is `TooLarge`.
pub const APPEND_EVENTS_MAX: usize = 1_000;

/// Bytes of one event's data, as JSON; more is `TooLarge`.
pub const STORED_EVENT_BYTES_MAX: usize = 256 << 10;

/// Bytes of the id of a stream.
const ID_BYTES_MAX: usize = 256;

/// A state, and the events that change it.
///
/// # Guarantees
/// The state at a version is what [`Aggregate::apply`] makes of the events up to it, in order, beginning with the
/// default. So `apply` decides nothing and reads no clock: what is refused is refused before its event is appended.
pub trait Aggregate: Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// An enum as serde writes it by default, each variant an event: `{"moved": {"from": "e2"}}`, or `"resigned"` for a
    /// variant without data.
    type Event: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The name of the aggregate, such as `game`: lower-case letters, digits and `_`, at most 40.
    const KIND: &'static str;

    /// The names of all events, as serde writes the variants, with what reads their older forms.
    const EVENTS: &'static [EventType];

    /// The form and meaning of the state. Raised when either changes, so that snapshots of the old one are passed over.
    const STATE_VERSION: u32 = 1;

    /// A snapshot is stored after this many events, in the same commit; 0 stores none.
    const SNAPSHOT_EVERY: u32 = 100;

    /// What an event changes.
    fn apply(&mut self, event: &Self::Event);
}

/// Turns the data of an event from one version to the next; null where a variant has no data.
pub type EventUpcast = fn(Value) -> Result<Value>;

/// One sort of event of an aggregate. Its version is 1 and one more for each step.
#[derive(Debug, Clone, Copy)]
pub struct EventType {
    /// The name that is stored.
    pub name: &'static str,
    /// The step from version 1 to 2, from 2 to 3, and so on.
    pub upcasts: &'static [EventUpcast],
}

impl EventType {
    /// An event that has always had this form.
    pub const fn new(name: &'static str) -> Self {
        Self { name, upcasts: &[] }
    }

    /// An event whose older forms are read by these steps.
    pub const fn upcast(name: &'static str, upcasts: &'static [EventUpcast]) -> Self {
        Self { name, upcasts }
    }

    /// The version in which it is stored now.
    pub const fn version(&self) -> usize {
        self.upcasts.len() + 1
    }
}

/// An event of a stream, as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded<E> {
    /// The instance that it belongs to.
    pub id: ByteString,
    /// Its number in the stream, from 1.
    pub version: u64,
    /// When it was appended; never before the event ahead of it.
    pub at: Timestamp,
    /// What happened.
    pub event: E,
}

/// A name that becomes a part of keys and tables.
fn checked_name(name: &'static str) -> Result<&'static str> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && name.len() <= 40 && name.chars().all(fits) {
        return Ok(name);
    }
    let expected = "expected 1 to 40 lower-case letters, digits and _, beginning with a letter";
    Err(Error::invalid("sourcing_name_invalid", expected).with("name", name))
}

fn checked_id(id: &str) -> Result<&str> {
    // PostgreSQL keeps no NUL in a text, and an id goes into the tables of projections as it is.
    if !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.contains('\0') {
        return Ok(id);
    }
    let expected = "expected the id of an aggregate to have 1 to 256 bytes, and no NUL among them";
    Err(Error::invalid("aggregate_id_invalid", expected).with("bytes", id.len()))
}

/// A version or position as a number of the database. None comes near its end.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What [`number`] wrote.
fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
