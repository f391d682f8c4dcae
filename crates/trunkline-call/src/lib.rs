//! Calls between services: one [`Channel`], in process or over the network.
//!
//! A [`Network`] knows where each service is: a router in this process, or an address. A [`Channel`] calls one
//! target on behalf of one service, as a `tower::Service` over HTTP requests; a [`Client`] is what handlers use.
//! On the way it passes the layers of [`layer`], as the policies of [`policy`] say.
//! Where the instances of a service are is found by a [`discovery`], and which of them gets a call by [`balance`];
//! [`providers`] chooses among those who offer the same, whatever they are reached by.
//! [`server::layer`] is the other end, the same for both ways: only what would cross a wire crosses.

pub mod balance;
mod channel;
mod client;
mod connect;
pub mod discovery;
mod dispatch;
#[cfg(feature = "grpc")]
pub mod grpc;
mod guard;
pub mod headers;
pub mod layer;
mod line;
mod load;
mod network;
pub mod policy;
pub mod problem;
pub mod providers;
pub mod server;
mod stall;
pub mod stream;
#[cfg(test)]
mod tests;

pub use axum::body::Body;
pub use channel::Channel;
pub use client::{Answer, CallKeys, Client, RequestBuilder};
pub use connect::http1::RequestHead;
#[cfg(feature = "tls")]
pub use connect::tls::TlsClient;
#[cfg(feature = "tls")]
pub use connect::wire::WireTls;
pub use connect::wire::{Speaks, Stage, Unanswered, Wire, WireBody, WireConfig};
pub use layer::CallOptions;
pub use line::CallEvent;
pub use network::{Network, Remote, Responses};
pub use problem::Problem;
pub use stall::Stall;
