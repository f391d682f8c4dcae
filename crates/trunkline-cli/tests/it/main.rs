//! The command against an admin API of the shapes that `trunkline-console` has, and against a platform that runs.

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

mod commands;
mod failures;
mod kit;
mod platform;
