//! NATS JetStream as a transport.
//!
//! ```no_run
//! use trunkline_bus::Transport;
//! use trunkline_core::Env;
//! use trunkline_nats::{Nats, NatsConfig};
//!
//! # async fn example() -> trunkline_core::Result<()> {
//! let config = NatsConfig::from_url("nats://shop:secret@localhost:4222?prefix=shop.")?;
//! let nats = Nats::connect(config, Env::system()).await?;
//! # nats.close().await
//! # }
//! ```
//!
//! # What stands for what
//! - A **topic** is a stream on files, limited as its retention says. `orders.high` is the stream
//!   `orders=high`, for a stream's name has no dots. It holds one subject for each **partition**:
//!   `orders.high.0`, `orders.high.1` and so on, at most 1,024. An empty part of a name is the token `=`:
//!   `a..b` is `a.=.b.0`. A stream of another shape is a `Conflict`. Everything begins with the prefix.
//! - A **group** is a durable pull consumer for each partition, `GROUP-PARTITION`, made when the topic is
//!   declared with it. What is not an ASCII letter, digit, `_` or `-` in a group's name is written `=XX`.
//!   `nats consumer report` shows how far it is; that is all that is known of its progress.
//! - **Lanes** are topics of their own. An **offset** is a sequence in the stream, shared by its partitions.
//! - Who is in a group, and who has which partition, is a record for each group and topic in the stream
//!   `+groups`, written by compare and set.
//!
//! Needs a server of version 2.10 or later. The stream's subjects must be nobody else's; the account needs the
//! rights to JetStream's API, to `PREFIX>`, and to `$JS.ACK.>`.
//!
//! # Order
//! A partition is one member's at a time; members share them out evenly, and as few as possible move. A member
//! that was not heard of for the time of a lease (setting `lease_ms`) loses its partitions; another has them
//! after at most one and a half leases. Clocks are not compared: each member measures by its own how long the
//! others have been silent. What has begun keeps its partition as long as its member lives.
//!
//! JetStream itself sends what was returned, or was a dead member's, after newer messages that were sent already.
//! So order is kept here: a member holds what is returned and hands it out again itself, oldest first; a new
//! owner makes the consumer anew at the first event that is not settled, which also ends the pull requests of
//! the owner before. What was settled beyond that event comes again then: at most `ack_pending_max` of a
//! partition. The server is told how far all is settled (`AckPolicy::All`), one acknowledgement for many events,
//! and `+WPI` for what takes longer than a third of `ack_wait_ms`. A pause longer than `ack_wait_ms` is the
//! server's (`-NAK` with a delay); it then delivers the event again, and its pause does not outlive its member.
//!
//! # When what is durable
//! JetStream confirms an event when it is written to the operating system, and syncs every two minutes: what was
//! confirmed survives the death of the server, not that of its machine, unless the server runs with
//! `sync_interval: always` or the stream has replicas. How far a group is, the server writes a little later
//! (about 100 ms): when it is killed, the last settled events may come again.
//!
//! An event carries `Nats-Msg-Id`, its source and id. Within `dedup_window_ms` the stream takes each only once, so
//! a publish that is repeated because its confirmation was lost is no duplicate. It also means that the same
//! event published again on purpose within the window is taken for the same, as CloudEvents has it; set 0 where
//! it shall come again.
//!
//! # What breaks
//! A connection that is lost is not mended behind the scenes: the client library would send what it had queued
//! although what it had sent before was lost, later events before earlier ones. `next` returns `Unavailable`,
//! `publish` says what was confirmed, and whoever calls next connects anew, to any of the servers of the URL. No
//! call waits longer than `timeout_ms` for an answer, which is also how long a server that stands still goes
//! unnoticed by who waits for events, at most.
//!
//! If the server refuses one event of a batch for its own reasons, such as a full disk, those behind it that were
//! sent already may be taken: the order of a key holds as long as the storage does.
//!
//! A message that is no event is delivered with the reason and without loss. An event larger than the server's
//! `max_payload` is refused as `TooLarge` when it is published.
//!
//! # In other languages
//! CloudEvents' NATS binding. In binary mode, the attributes are headers `ce-id`, `ce-source`, `ce-type`, … with
//! percent-encoded values, and the data is the body; in structured mode, the header `content-type:
//! application/cloudevents+json` and the whole event in the body. `traceparent` is a plain header in both.
//! To write, publish to the subject of the key's partition; 0 if there is only one, else, in Python:
//!
//! ```python
//! def partition_of(key, count):
//!     hash = 0xcbf29ce484222325
//!     for byte in key.encode():
//!         hash = (hash ^ byte) * 0x100000001b3 % 2**64
//!     return (hash ^ hash >> 32) % count
//! ```
//!
//! To read, make a consumer of your own: those of Trunkline's groups are made anew as members come and go.

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
