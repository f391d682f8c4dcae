//! The suite itself, tested: engines with a bug each, and whether it finds them.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod bugs;
mod desk;
mod planted;
