//! The service crate from outside: a small platform of two services, driven as an author's would be.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod admin;
mod alerts;
mod alerts_kept;
mod ask;
mod audit;
mod browsers;
mod crash;
mod declared;
mod documents;
mod events;
mod finding;
mod front;
#[cfg(feature = "grpc")]
mod grpc;
mod health;
mod http;
mod idempotency;
mod jobs;
mod lifecycle;
#[cfg(feature = "redis")]
mod nodes;
mod policies;
mod processes;
mod recovery;
mod rehearsal;
mod roles;
mod sagas;
mod sample;
mod scopes;
mod sealed;
mod secure;
mod sourcing;
mod start;
mod traces;
