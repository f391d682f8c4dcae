//! The store, on SQLite and on a real PostgreSQL alike.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(clippy::print_stdout, reason = "the storm says how hard it blew")]

mod alerts;
mod audit;
mod common;
mod idempotency;
mod inbox;
mod jobs;
mod migrations;
mod moody;
mod parking;
mod places;
mod relay;
mod replicas;
mod restore;
mod sagas;
mod sealed;
mod sourcing;
mod storm;
mod trail;
mod transactions;
