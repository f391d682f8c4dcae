//! The consumer runtime, driven through its public interface over the transport in memory.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod compile;
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
