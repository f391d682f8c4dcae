//! The server, driven by the official JavaScript client and by hand.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod bad_input;
mod nodes;
mod official;
mod plain;
mod server;
