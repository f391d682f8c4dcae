//! The conformance suite over Redis Streams, and over Redis Pub/Sub.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_bus::Transport;
use trunkline_core::{Env, Result};
use trunkline_redis::{Redis, RedisConfig};
use trunkline_testkit::conformance::{Engine, conformance};
use trunkline_testkit::redis::Server;

/// Keys of one case, on the server that all share.
struct Place(String);

impl Place {
    fn fresh(mode: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let server = Server::shared().url();
        Self(format!(
            "{server}?mode={mode}&prefix=case{number}:&takeover_ms=2000"
        ))
    }
}

impl Engine for Place {
    fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
        async move {
            let redis = Redis::connect(RedisConfig::from_url(&self.0)?, env).await?;
            Ok(Arc::new(redis) as Arc<dyn Transport>)
        }
        .boxed()
    }
}

fn main() -> ExitCode {
    let streams = conformance("redis", || Place::fresh("streams"));
    let light = conformance("redis-pubsub", || Place::fresh("pubsub"));
    if streams == ExitCode::SUCCESS {
        light
    } else {
        streams
    }
}
