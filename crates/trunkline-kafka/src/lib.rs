//! Apache Kafka as a transport: keys, groups, partitions.

mod client;
mod config;
mod desk;
mod error;
mod offsets;
mod partition;
mod publish;
mod service;
mod subscribe;
mod topics;
pub mod topology;
mod transport;
mod wire;

pub use config::{Compression, KafkaConfig, Security};
pub use transport::{Kafka, connect};
