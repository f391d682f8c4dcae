//! RabbitMQ as a transport: topic exchanges, confirms, manual acknowledgements.
//!
//! ```no_run
//! # async fn start() -> trunkline_core::Result<()> {
//! use trunkline_core::Env;
//! use trunkline_rabbitmq::{RabbitConfig, RabbitMq};
//!
//! let config = RabbitConfig::from_url("amqp://user:password@localhost:5672/shop?prefix=shop.")?;
//! let transport = RabbitMq::connect(config, Env::system()).await?;
//! # drop(transport);
//! # Ok(())
//! # }
//! ```
//!
//! # What is what on the server
//! - A topic is a durable topic exchange `{prefix}{topic}`. Its number of partitions is told by the queue
//!   `{prefix}{topic}/shape`, whose bound and length it is; it is filled when the queues of the first declaration's
//!   groups are there.
//! - An event goes to its exchange with the routing key `{partition}.{type}`, such as `3.order.created`; the partition is
//!   [`trunkline_bus::partition_of`] its key. A lane is a topic of its own.
//! - A group has a durable queue `{prefix}{group}/{topic}/{partition}` for each partition, bound with `{partition}.#`.
//!   One member at a time reads it (`x-single-active-consumer`). A member that gets events of more queues than its share
//!   lets go of some, and the next member in line becomes the active one.
//! - A reader without a group has a queue of its own that goes with it; it sees what is published from then on.
//!
//! # What survives what
//! Events are persistent and confirmed by the server when the queues of all declared groups have them on disk; nothing is
//! kept for a group that was neither declared nor ever joined, nor after a group has settled it. An event that waits for
//! its retry waits in the member's memory, unsettled at the server, so it outlives the member, though its pause
//! does not. A member's death is seen by its connection's end, or else within twice `heartbeat_s`.
//!
//! # What RabbitMQ can't do
//! Replay, and retention: `TopicSpec.retention` is not applied, a queue keeps what its group has not settled (a policy of
//! the server can bound it). A pause longer than 10 minutes is shortened to that, for the server closes a
//! channel with a delivery that is unsettled for its `consumer_timeout`, 30 minutes: that ends the subscription, and
//! what was out comes again. [`Subscription::lag`](trunkline_bus::Subscription::lag) counts what waits at the server
//! and what this member has; what other members have out is not told by AMQP. TLS is not built in.
//! A subscription takes a connection, and a channel for each partition: at most 2,047.
//!
//! # Without Trunkline
//! CloudEvents' AMQP binding: attributes are headers `cloudEvents:id` and so on (`cloudEvents_id` is read, too), the
//! data's content type is the property `content_type`, the trace is the header `traceparent`, and the properties
//! `message_id`, `type`, `timestamp` (seconds) and `correlation_id` repeat what they are named after. A reader binds a
//! queue of its own with `#`, or `*.order.created`. A writer publishes to the exchange with a routing key that begins with a
//! partition, any as long as a key always takes the same one: what begins otherwise reaches no group. A message that is no
//! event is delivered as an unreadable one, and becomes a dead letter with its reason.

mod amqp;
mod config;
mod error;
mod event;
mod lane;
mod member;
mod publish;
mod pump;
mod subscribe;
mod topics;
pub mod topology;
mod transport;

pub use config::RabbitConfig;
pub use transport::RabbitMq;
