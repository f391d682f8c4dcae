//! The conformance suite over Redis Streams, and over Redis Pub/Sub.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_bus::Transport;
use trunkline_core::{Env, Result};
use trunkline_redis::{Redis, RedisConfig};
use trunkline_testkit::Proxy;
use trunkline_testkit::conformance::{Breakable, Engine, conformance, conformance_with_faults};
use trunkline_testkit::redis::Server;

/// Keys of one case, on the server that all share.
struct Place(String);

/// The same on a server that is broken, behind a proxy that cuts connections.
struct Fragile(Place, &'static Behind);

struct Behind {
    server: Server,
    proxy: Proxy,
}

fn place(server: &str, parameters: &str) -> Place {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Place(format!("{server}?prefix=case{number}:&{parameters}"))
}

fn fragile() -> Fragile {
    static BEHIND: OnceLock<Behind> = OnceLock::new();
    let behind = BEHIND.get_or_init(|| {
        let server = Server::start();
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        let proxy = Proxy::to(target).expect("a proxy starts");
        Behind { server, proxy }
    });
    let url = format!("redis://{}", behind.proxy.address());
    Fragile(place(&url, "timeout_ms=2000&takeover_ms=3000"), behind)
}

impl Engine for Place {
    fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
        async {
            let redis = Redis::connect(RedisConfig::from_url(&self.0)?, env).await?;
            Ok(Arc::new(redis) as Arc<dyn Transport>)
        }
        .boxed()
    }
}

impl Engine for Fragile {
    fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
        self.0.open(env)
    }

    fn server(&self) -> Option<&dyn Breakable> {
        Some(self.1)
    }
}

impl Breakable for Behind {
    fn kill(&self) {
        self.server.kill();
    }

    fn restart(&self) {
        self.server.restart();
    }

    fn pause(&self) {
        self.server.pause();
    }

    fn resume(&self) {
        self.server.resume();
    }

    fn cut_after(&self, bytes: u32) {
        self.proxy.cut_after(bytes);
    }
}

fn main() -> ExitCode {
    let shared = || Server::shared().url();
    let streams = conformance_with_faults("redis", move || place(&shared(), ""), fragile);
    let light = conformance("redis-pubsub", move || place(&shared(), "mode=pubsub"));
    if streams == ExitCode::SUCCESS {
        light
    } else {
        streams
    }
}
