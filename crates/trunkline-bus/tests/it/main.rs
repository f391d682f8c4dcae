//! The consumer runtime, driven through its public interface over the transport in memory.
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

mod dead_letters;
mod faults;
mod lanes;
mod lifecycle;
mod memory;
mod order;
mod poisoned;
mod replay;
mod retry;
mod support;
mod telemetry;
