//! Redis: Streams for durable events, Pub/Sub for light ones.
//!
//! ```no_run
//! # async fn run() -> trunkline_core::Result<()> {
//! use trunkline_core::Env;
//! use trunkline_redis::{Redis, RedisConfig};
//!
//! let config = RedisConfig::from_url("redis://localhost:6379/0?prefix=shop:")?;
//! let bus = Redis::connect(config, Env::system()).await?;
//! # Ok(()) }
//! ```
//!
//! # Streams
//! | Trunkline | Redis, with the prefix `trunkline:` |
//! |---|---|
//! | topic `orders` | hash `trunkline:{orders}`: `mode`, `partitions`, `retention_ms`, `retention_bytes` |
//! | its partition 0 | stream `trunkline:{orders}:0` |
//! | an event | an entry: a field for each CloudEvents attribute, `datacontenttype`, `data` |
//! | its offset | the entry's id: `milliseconds << 20 \| number` |
//! | a group | a consumer group of each stream; its one consumer is called `trunkline` |
//! | who reads a partition | string `trunkline:{orders}:0:lease:GROUP`, which expires |
//! | who is in a group | sorted set `trunkline:{orders}:members:GROUP`; stream `…:changes:GROUP` tells of changes |
//! | a lane | a topic of its own, as [`trunkline_bus::lane`] names it |
//!
//! **Publishing.** All publishers of a [`Redis`] share one writer, which sends what waits as one
//! `MULTI`/`EXEC` at a time: nothing is reordered, and what fails for want of memory or disk fails whole. A
//! batch larger than 4 MiB or 4,096 events goes in several, and a batch with an event that can't be sent
//! keeps what is before it: batches are not atomic.
//!
//! **Reading.** A subscription reads with `XREAD`, which changes nothing on the server, and waits there:
//! nothing is polled. It may read ahead, and what it has not handed out is nobody's loss when it dies.
//!
//! **Settling.** What a group has done stands in Redis's own consumer group: all entries up to
//! `last-delivered-id` except those that are pending. So `XINFO GROUPS` and `XPENDING` tell the truth, with
//! lag. What is settled in order only moves the position; what is overtaken or returned becomes pending,
//! with its count. Settlements are collected for 2 ms and written by a script that checks the lease first:
//! whoever lost a partition can change nothing in it. Redis knows no lag of a group that begins in the
//! middle of a stream: it is estimated from the times in the ids until the group has come to the end once.
//!
//! **Sharing.** A member of a group keeps a lease on each of its partitions, renews it four times per
//! `takeover_ms`, takes free ones up to its fair share and gives back what is beyond when nothing of it has
//! begun. The partitions of a member that died are read by others within `takeover_ms`; of a member that
//! leaves, at once. A member that was paused delivers nothing once its lease may have run out. This holds
//! as long as the clocks of client and server run about equally fast; what time they show does not matter.
//!
//! # What survives what
//! | | process | kill of the server | loss of power | failover to a replica |
//! |---|---|---|---|---|
//! | `appendonly yes`, `appendfsync always` | yes | yes | yes | but what it had not sent |
//! | `appendonly yes`, `appendfsync everysec` | yes | but up to 2 s | but up to 2 s | the same |
//! | no append-only file | yes | but since the last snapshot | the same | the same |
//! | Pub/Sub | no | no | no | no |
//!
//! [`Redis::connect`] warns when the append-only file is off or the server evicts keys (`allkeys-*`).
//! `replicas=N` waits (`WAIT`) until so many replicas have an event; a failover can still lose it when the
//! replica that is chosen is not one of them.
//!
//! # Retention
//! Every 30 s streams are trimmed by `MINID ~`, by age and by a partition's share of `retention_bytes`, but
//! never what a group has yet to settle. A group that will never come back holds everything: remove it with
//! `XGROUP DESTROY`. A server at its `maxmemory` (`noeviction`) refuses publishes as `Unavailable`, and
//! consuming goes on.
//!
//! # Pub/Sub
//! `redis+pubsub://` (or `mode=pubsub`): whoever listens gets an event, at most once, in the order of its
//! key; no groups, no replay. The channel of the topic `orders` is `trunkline:{orders}`, and a message is the
//! event in structured mode, for it has no place for attributes. What waits to be handled is bounded (10,000
//! events, 64 MiB); beyond it, the oldest are dropped with a warning. Take a second transport where both
//! kinds are needed.
//!
//! # Other languages
//! Any client reads with its own group and writes plain entries; in Python:
//!
//! ```python
//! r.xadd("trunkline:{orders}:0", {"specversion": "1.0", "id": "1", "source": "/shop",
//!                                 "type": "order.created", "datacontenttype": "application/json", "data": "{}"})
//! r.xgroup_create("trunkline:{orders}:0", "mine", id="0", mkstream=True)
//! for stream, entries in r.xreadgroup("mine", "me", {"trunkline:{orders}:0": ">"}): ...
//! ```
//!
//! A writer that cares for order puts a `partitionkey` into the partition that
//! [`partition_of`](trunkline_bus::partition_of) says. A group is read by Trunkline or by others, not by both: only
//! the former knows of leases. An entry that is no event is delivered as
//! [unreadable](trunkline_bus::Delivery::unreadable) and becomes a dead letter.
//!
//! # When the server goes away
//! Waiting calls fail within `timeout_ms`, subscriptions end with `Unavailable`, and whoever subscribes or
//! publishes next connects anew. A publish whose answer was lost may have happened: sent again, it is there
//! twice. Only a server that was stopped with requests in its buffers carries them out after later ones.
//!
//! # Registry
//! [`RedisRegistry`] knows where the instances of services are: see [`registry`].
//!
//! # What is not there
//! TLS, Sentinel and cluster. All keys of a topic share the hash tag `{topic}`, so data can move to a cluster
//! without being renamed. Servers before Redis 7.0.

mod assign;
mod backbone;
mod commit;
mod config;
mod cursor;
mod entry;
mod error;
mod fetch;
mod id;
mod keys;
mod link;
mod member;
mod publish;
mod pubsub;
mod pump;
pub mod registry;
mod retain;
mod script;
mod subscribe;
mod topics;
mod transport;
mod value;

pub use backbone::RedisBackbone;
pub use config::{Mode, RedisConfig};
pub use registry::RedisRegistry;
pub use transport::Redis;
