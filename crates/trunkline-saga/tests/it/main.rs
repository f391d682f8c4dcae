//! Sagas by orchestration, over a journal in memory.
#![expect(
    clippy::unwrap_used,
    reason = "a test that can't go on fails with where"
)]

mod bad;
mod crash;
mod hand;
mod journal;
mod news;
mod order;
mod parallel;
mod waits;
mod world;
