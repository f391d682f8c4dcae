//! Events, ids, errors, schemas and the environment: everything that needs no I/O.
//!
//! An [`Envelope`] is what travels: CloudEvents 1.0 attributes around the bytes of a payload. An
//! [`Event<T>`](struct@Event) is what a handler sees: the same, with its payload decoded. [`Error`] says of every
//! failure whether trying again is safe. [`Env`] is the one place that knows the time and makes ids.

// The derive macro names this crate by its full name, in its own tests too.
#[cfg(test)]
extern crate self as trunkline_core;

pub mod cloudevents;
mod context;
mod decl;
mod dialect;
mod env;
mod envelope;
mod error;
mod event;
mod key;
mod message;
mod money;
pub mod schema;
#[cfg(test)]
mod testing;
mod trace;
mod wire;

pub use bytestring::ByteString;
pub use context::Context;
pub use decl::EventDecl;
pub use dialect::{Arrival, Dialect};
pub use env::{Clock, Env};
pub use envelope::{Envelope, Kind, Priority, Version};
pub use error::{Error, ErrorKind, Result, Retry, report};
pub use event::{Event, EventData, Upcast};
pub use jiff::Timestamp;
pub use key::IntoKey;
pub use message::{Form, Message, MessageTexts};
pub use money::Money;
pub use schema::Registry as SchemaRegistry;
pub use trace::TraceContext;
pub use trunkline_macros::Event;
