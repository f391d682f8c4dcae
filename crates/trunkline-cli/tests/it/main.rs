//! The command against an admin API of the shapes that `trunkline-console` has, and against a platform that runs.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod alone;
mod apply;
mod certs;
mod commands;
mod conform;
mod failures;
mod gateway;
mod kit;
mod platform;
mod projections;
mod sagas;
