//! NATS JetStream as a transport.

mod config;
mod consumers;
mod cursor;
mod declare;
mod error;
mod keeper;
mod link;
mod member;
mod names;
mod percent;
mod publish;
mod record;
mod shared;
mod store;
mod subscribe;
mod transport;
mod wire;

pub use config::{Credentials, NatsConfig};
pub use transport::{Nats, connect};
