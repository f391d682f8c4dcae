//! Calls from outside: faults of real servers over TCP, storms of retries, and a simulation of many runs.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod changes;
mod faults;
mod half;
mod sick;
mod simulation;
mod storm;
