//! A platform's topics from a file: what would be made, what is there, what is in conflict.
//!
//! ```no_run
//! # async fn apply(kafka: trunkline_kafka::Kafka, text: &str) -> trunkline_core::Result<()> {
//! use trunkline_kafka::topology::{Options, apply, plan, read};
//!
//! let topology = read(text)?;
//! let plan = plan(&kafka, &topology, &Options::default()).await?;
//! println!("{plan}");
//! apply(&kafka, &plan).await?;
//! # Ok(())
//! # }
//! ```

mod plan;
mod read;
mod tree;

use bytestring::ByteString;

pub use self::plan::{Outcome, Plan, Step, apply, plan};
pub use self::read::read;

/// What a file declares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Topology {
    /// The topics, in the order of the file.
    pub topics: Vec<Topic>,
    /// The consumer groups, in the order of the file.
    pub groups: Vec<Group>,
}

/// A topic of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Topic {
    /// Where it stands, from 1.
    pub line: usize,
    /// Its name, without the prefix of the cluster's configuration.
    pub name: ByteString,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many brokers keep it; none for what the cluster is set to.
    pub replication: Option<u16>,
    /// `retention.ms`: -1 for ever, none for what the cluster is set to.
    pub retention_ms: Option<i64>,
    /// `retention.bytes` of each partition: -1 without bound, none for what the cluster is set to.
    pub retention_bytes: Option<i64>,
}

/// A consumer group of the file. Kafka makes groups when they are joined: one starts at the earliest event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Where it stands, from 1.
    pub line: usize,
    /// Its name, without the prefix of the cluster's configuration.
    pub name: ByteString,
    /// The topics that it reads.
    pub topics: Vec<ByteString>,
}

/// How a plan is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// How many brokers keep each topic, whatever the file says: `--replication 1` on a cluster of one.
    pub replication: Option<u16>,
}

#[cfg(test)]
mod tests;
