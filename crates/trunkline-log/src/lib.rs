//! The embedded durable log and its transport.
//!
//! One journal of segment files carries all topics, so that one `fdatasync` covers whatever arrived
//! meanwhile. [`Log`] is a [`Transport`](trunkline_bus::Transport): with the default
//! [`Durability::Always`] a publish returns when the events are on the disk.
//!
//! ```no_run
//! use trunkline_core::Env;
//! use trunkline_log::{Log, LogConfig};
//!
//! # fn main() -> trunkline_core::Result<()> {
//! let config = LogConfig::from_url("log:data/bus?durability=always")?;
//! let log = Log::open(config, Env::system())?;
//! # Ok(())
//! # }
//! ```

mod catalog;
mod config;
mod cursor;
mod disk;
mod error;
mod format;
mod group;
mod index;
mod journal;
mod keeper;
mod meta;
mod partition;
mod publish;
mod read;
mod recovery;
mod scan;
mod shared;
mod subscribe;
mod transport;
mod writer;

pub use config::{Durability, LogConfig, Repair};
pub use recovery::Recovery;
pub use transport::Log;
