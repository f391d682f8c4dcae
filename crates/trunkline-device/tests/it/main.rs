//! The device gateway from outside: a platform of one service, mosquitto, and devices that aren't ours.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod commands;
mod crash;
mod identity;
mod machine;
mod presence;
mod reports;
mod sample;
