//! The ERP, seen from outside.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod bad_input;
mod devices;
mod erp;
mod orders;
mod sagas;
mod shops;
mod stock;
mod vending;
mod wire;
