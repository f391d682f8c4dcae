//! Sagas by orchestration, over a journal in memory.

mod bad;
mod crash;
mod hand;
mod order;
mod parallel;
mod waits;
mod world;
