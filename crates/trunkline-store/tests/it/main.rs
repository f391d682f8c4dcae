//! The store, on SQLite and on a real PostgreSQL alike.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::too_many_lines,
    clippy::too_many_arguments,
    clippy::disallowed_methods,
    clippy::large_futures,
    clippy::let_underscore_must_use,
    clippy::print_stdout,
    clippy::redundant_clone,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(clippy::print_stdout, reason = "the storm says how hard it blew")]

mod common;
mod idempotency;
mod inbox;
mod jobs;
mod migrations;
mod moody;
mod parking;
mod places;
mod relay;
mod restore;
mod storm;
mod trail;
mod transactions;
