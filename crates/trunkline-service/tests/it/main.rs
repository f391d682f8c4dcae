//! The service crate from outside: a small platform of two services, driven as an author's would be.

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

mod admin;
mod alerts;
mod ask;
mod crash;
mod declared;
mod documents;
mod events;
mod http;
mod idempotency;
mod jobs;
mod lifecycle;
mod rehearsal;
mod roles;
mod sample;
mod scopes;
mod start;
mod traces;
