//! The gateway over real connections, with raw sockets where a client library would not send such a thing.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod admin;
mod config;
mod cors;
mod differential;
mod files;
mod grpc;
mod grpc_web;
mod h2;
mod identity;
mod kit;
mod limits;
mod odd;
mod parking;
mod plugins;
mod reload;
mod routing;
mod shutdown;
mod streaming;
mod targets;
mod tls;
mod upstream_faults;
mod upstream_tls;
mod upstreams;
mod websocket;
