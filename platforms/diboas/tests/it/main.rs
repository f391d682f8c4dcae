//! The finance platform, seen from outside.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod bad_input;
mod failover;
mod finance;
mod health;
mod kills;
mod kit;
mod letters;
#[cfg(feature = "redis")]
mod moves;
mod outside;
#[cfg(feature = "redis")]
mod phases;
#[cfg(feature = "redis")]
mod pods;
mod process;
#[cfg(feature = "redis")]
mod story;
mod transfers;
