//! The store, seen from outside.

mod accounts;
mod bad_input;
mod browsing;
mod crash;
mod http;
mod newcomer;
mod orders;
mod payments;
mod store;
