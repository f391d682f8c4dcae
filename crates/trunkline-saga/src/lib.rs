//! Sagas. By choreography, a [`Flow`] declares which events follow which, within which time, and where it
//! ends; from the events found so far it tells the whole [`Story`], what is still expected, and what it
//! is stuck on. A flow only describes: services react to events, and nothing here drives them.
//!
//! ```
//! use std::time::Duration;
//! use trunkline_saga::Flow;
//!
//! let flow = Flow::named("order", "order_id")
//!     .starts_with("order.created")
//!     .after("order.created", Duration::from_secs(60), &["payment.success", "payment.failed"])
//!     .after("payment.success", Duration::from_secs(10), &["order.confirmed"])
//!     .after("payment.failed", Duration::from_secs(10), &["order.failed"])
//!     .succeeds_on("order.confirmed")
//!     .fails_on("order.failed");
//! assert!(flow.check().is_ok());
//! ```

mod data;
mod definition;
mod drive;
mod engine;
mod flow;
mod host;
mod journal;
mod live;
mod memory;
mod policy;
mod probe;
mod saga;
mod story;
#[cfg(test)]
mod tests;
mod writer;

pub use data::{DATA_BYTES_MAX, Data};
pub use definition::Definition;
pub use engine::{Begin, Engine, Settings};
pub use flow::{Expectation, Flow, FlowError};
pub use host::{At, Committed, Host, Plain};
pub use journal::{
    Body, Change, Claim, Claimed, Durable, Entry, Fault, Instance, Journal, KEY_BYTES_MAX,
    LISTED_BYTES_MAX, MESSAGES_MAX, Mend, Message, Query, Record, State, Wait, Went, Which, Write,
    Written,
};
pub use live::ENTRIES_MAX;
pub use memory::MemoryJournal;
pub use policy::{ATTEMPT_WITHIN, Retries, STEP, UNDO};
pub use probe::{Fate, Probe};
pub use saga::{BRANCHES_MAX, Saga, Step};
pub use story::{Awaited, FlowState, Obstacle, ObstacleKind, Story, Told};
