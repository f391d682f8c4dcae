//! The log as a whole: restarts, old events, retention, damage, crashes, a full disk.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod corruption;
mod crash;
mod full;
mod restart;
mod retention;
mod support;
