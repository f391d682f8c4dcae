//! Apache Kafka as a transport: keys, groups, partitions.
//!
//! ```no_run
//! # async fn connects() -> trunkline_core::Result<()> {
//! use trunkline_core::Env;
//! use trunkline_kafka::{KafkaConfig, connect};
//!
//! let config = KafkaConfig::from_url("kafka://shop:secret@kafka-1:9092,kafka-2:9092?prefix=shop.")?;
//! let transport = connect(config, Env::system()).await?;
//! # drop(transport);
//! # Ok(())
//! # }
//! ```
//!
//! # What becomes what
//! A topic is a Kafka topic of the same name behind the prefix; a topic's lanes are topics of their own, as
//! everywhere. Its partitions are Kafka's. A key's partition is murmur2 of it, as the Java client has it
//! (`partitioner=murmur2_random`), so that publishers in any language put a key into the same one; an event
//! without a key takes any. A group is a consumer group of the same name behind the prefix, by the classic
//! protocol with cooperative-sticky assignment: there the session is a setting of the client, and so is the
//! time in which others take over from a member that died ([`KafkaConfig::session`]). A reader without a group
//! is a consumer that assigns itself every partition and commits nothing.
//!
//! # What is durable when
//! Publishing is idempotent with `acks=all`: what was confirmed is with every in-sync replica. Kafka does not
//! sync to the disk by default; how many must have it is `min.insync.replicas` of the cluster. A batch is sent in
//! order and confirmed together. One that is not confirmed within [`KafkaConfig::limit`] takes the producer
//! down with it, with all that others have in it: nothing of it can arrive behind what is published later.
//!
//! A group's position in a partition is committed up to its lowest unfinished event, [`KafkaConfig::commit_delay`]
//! after the first settlement at the latest, at once by `flush`, and before the partition moves. What was settled
//! beyond it comes again after a member died. An event that is given back is kept in memory and comes again from
//! there, in order; it counts as in flight, and the committed position stays below it, so it outlives the process.
//! Groups need nothing at `declare`: one without a position starts with the earliest event. Kafka forgets the
//! positions of a group that nobody joins for `offsets.retention.minutes`, a week by default.
//!
//! # Members that come and go
//! A partition belongs to one member at a time. One that moves gives out nothing more; what has begun
//! ([`Receipt::begin`](trunkline_bus::Receipt::begin)) is waited for, at most [`KafkaConfig::handover`]; then its
//! position is committed and it goes. What was out and had not begun is void, and comes to the other. A dropped
//! subscription leaves its group at once.
//!
//! # When brokers are away
//! The client library reconnects by itself, with pauses of 50 ms to 1 s; nothing is lost or reordered, and what is
//! not confirmed is not accepted. A subscription that finds no broker for [`KafkaConfig::limit`] ends with
//! `Unavailable`, and is made again by the runtime.
//!
//! # What it can't do
//! TLS and SASL mechanisms other than `PLAIN` are not built in, nor is zstd: a topic that holds such batches ends
//! the subscription with `kafka_compression_unsupported`. A batch is not atomic. Kafka drops whole segments, so an event outlives its retention by up to
//! `segment.ms`; `retention_bytes` is shared out over the partitions. Times are the brokers', in whole milliseconds:
//! a start at a time gives what was appended within the same one too. The lag counts offsets that hold no event
//! (markers of transactions, what was compacted away), where a topic has such.
//!
//! # In other languages
//! CloudEvents' Kafka binding in binary mode: an attribute is a header `ce_` and its name (`ce_id`, `ce_source`,
//! `ce_type`, `ce_specversion`, `ce_time`, `ce_partitionkey` and the extensions), `datacontenttype` is the header
//! `content-type`, the value is the data, the key is the event's key. W3C trace context is in a plain header
//! `traceparent` too. Structured mode (`content-type: application/cloudevents+json`) is read always and written
//! with `form=cloudevents`; `form=storefront` and the other dialects put a platform's own JSON there. What is no
//! event comes as an envelope around its value, with the reason, to be parked.
//!
//! Topics can come from a file: see [`topology`].

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
