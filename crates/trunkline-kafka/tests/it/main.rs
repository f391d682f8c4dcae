//! Kafka as a whole: errors, foreign messages and clients, members that come and go, topics from a file.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod errors;
mod foreign;
mod members;
mod mock;
mod python;
mod support;
mod topology;
