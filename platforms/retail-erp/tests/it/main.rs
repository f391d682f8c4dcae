//! The ERP, seen from outside.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

#[cfg(feature = "redis")]
mod apart;
mod bad_input;
mod devices;
mod erp;
mod mqtt;
mod orders;
mod rpc;
mod sagas;
mod selling;
mod shops;
mod stock;
#[cfg(feature = "redis")]
mod strangers;
mod together;
mod vending;
mod wire;
