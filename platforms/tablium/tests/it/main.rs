//! The board-game site, seen from outside.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod accounts;
mod bad_input;
mod kit;
#[cfg(all(feature = "redis", feature = "rabbitmq"))]
mod nodes;
mod page;
mod play;
mod sockets;
mod topology;
mod world;
