//! The gateway over real connections, with raw sockets where a client library would not send such a thing.

mod config;
mod cors;
mod identity;
mod kit;
mod limits;
mod odd;
mod routing;
mod shutdown;
mod streaming;
