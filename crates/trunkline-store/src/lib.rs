//! The service's own store: transactions, outbox, inbox, idempotency keys, dead letters, the event trail,
//! sealed values, the audit log, and event-sourced aggregates with their projections.
//!
//! One [`Store`] per service, over SQLite or PostgreSQL; the service's code is the same for both. What a
//! handler does in one [`Tx`] takes effect together or not at all: its rows, the inbox row of the event
//! that it handles, and the events that it publishes, which the [`Relay`] sends after the commit.
//!
//! Statements are begun with [`sql`], or written for sqlx's `Any` driver: `$1` placeholders, columns of type BIGINT, INTEGER,
//! DOUBLE PRECISION and TEXT (and BYTEA or BLOB), `SUM` cast to BIGINT.

mod alerts;
mod audit;
mod config;
mod error;
mod idempotency;
mod inbox;
mod jobs;
mod migrate;
mod outbox;
mod owner;
mod parking;
mod postgres;
mod relay;
mod saga;
mod sealed;
mod sourcing;
mod sqlite;
mod statement;
mod store;
mod tables;
mod text;
mod trail;
mod tx;

pub use trunkline_security::AuditOutcome;

pub use alerts::{Alert, Alerts};
pub use audit::{AuditBreak, AuditCheck, AuditHead, AuditLog, AuditQuery, AuditRecord};
pub use config::StoreConfig;
pub use error::{is_away, sql_error};
pub use idempotency::{Begin, Idempotency, StoredResponse, body_hash};
pub use jobs::{Job, JobRun, Jobs};
pub use migrate::Migration;
pub use parking::Recoveries;
pub use relay::{Relay, RelayStatus, StuckEvent};
pub use saga::{Sagas, Standing};
pub use sealed::{Resealed, Sealed, SealedColumn, reseal};
pub use sourcing::{
    APPEND_EVENTS_MAX, Aggregate, Aggregates, EventType, EventUpcast, Loaded, Projection,
    ProjectionStatus, Projections, Recorded, STORED_EVENT_BYTES_MAX, Target,
};
pub use sqlite::SyncProbe;
pub use sqlx;
pub use sqlx::AnyConnection as Conn;
pub use statement::{SqlRow, SqlValue, Statement, sql};
pub use store::{Engine, Reader, Store};
pub use trail::{EventQuery, Trail, TrailEntry};
pub use tx::Tx;
