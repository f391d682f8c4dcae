//! Calls between services: one [`Channel`], in process or over the network.
//!
//! A [`Network`] knows where each service is: a router in this process, or an address. A [`Channel`] calls one
//! target on behalf of one service, as a `tower::Service` over HTTP requests; a [`Client`] is what handlers use.
//! [`server::layer`] is the other end, the same for both ways: only what would cross a wire crosses.

mod channel;
mod client;
mod connect;
mod dispatch;
#[cfg(feature = "grpc")]
pub mod grpc;
mod guard;
pub mod headers;
mod load;
mod network;
pub mod problem;
pub mod server;
mod stall;
#[cfg(test)]
mod tests;

pub use axum::body::Body;
pub use channel::Channel;
pub use client::{Client, RequestBuilder};
#[cfg(feature = "tls")]
pub use connect::tls::{ChainVerifier, TlsClient};
pub use network::{Network, Responses};
pub use problem::Problem;
pub use stall::Stall;
