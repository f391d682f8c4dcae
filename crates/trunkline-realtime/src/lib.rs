//! Realtime: events to and from browsers, by the protocol of Socket.IO.
//!
//! A [`Realtime`] is a list of [`Namespace`]s; its [router](Realtime::router) answers under `/socket.io/`, over WebSocket and over
//! polling for those who can't have that. A client connects to a namespace, which may ask who it is, and then sends events to its
//! handlers and gets those that are sent to it or to the rooms that it is in. The official clients (protocol 5) work with it.
//!
//! # Guarantees
//! Events of one client are handled one by one, in the order in which they were sent. What is sent to a room is written once, however many are
//! in it. A client that does not read what it is sent is disconnected at a bound, and not waited for. One that comes back within the
//! [recovery](Namespace::recovers) is in the rooms in which it was, and gets what it missed there.

mod backbone;
mod client;
mod emit;
mod engine;
mod namespace;
mod others;
mod packet;
mod presence;
mod queue;
mod realtime;
mod recovery;
mod rooms;
mod socket;
mod stage;

pub use backbone::{Backbone, Offset};
pub use client::Handshake;
pub use emit::{Emit, Once};
pub use namespace::{Member, Namespace, Rate};
pub use packet::Args;
pub use presence::Presence;
pub use realtime::{Limits, Of, Realtime};
pub use socket::Socket;
pub use stage::Stage;
