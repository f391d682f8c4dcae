//! The consumer runtime, driven through its public interface over the transport in memory.
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

mod dead_letters;
mod faults;
mod foreign;
mod lanes;
mod lifecycle;
mod members;
mod memory;
mod order;
mod poisoned;
mod replay;
mod retry;
mod split;
mod support;
mod telemetry;
