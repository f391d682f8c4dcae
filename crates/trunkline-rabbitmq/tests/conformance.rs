//! The conformance suite over RabbitMQ.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_bus::Transport;
use trunkline_core::{Env, Result};
use trunkline_rabbitmq::{RabbitConfig, RabbitMq};
use trunkline_testkit::conformance::{Breakable, Engine, conformance_with_faults};
use trunkline_testkit::rabbitmq::Server;

/// A prefix of its own on the server that all cases share.
struct Prefixed(String);

impl Engine for Prefixed {
    fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
        let server = Server::shared().url();
        open(format!("{server}?prefix={}&rebalance_ms=20", self.0), env)
    }
}

/// The same on a server that cases may break, behind a proxy.
struct Broken(String);

fn broken() -> &'static Server {
    static BROKEN: OnceLock<Server> = OnceLock::new();
    BROKEN.get_or_init(Server::start)
}

impl Engine for Broken {
    fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
        let server = broken().proxied_url();
        let settings = "rebalance_ms=20&timeout_ms=5000&heartbeat_s=5";
        open(format!("{server}?prefix={}&{settings}", self.0), env)
    }

    fn server(&self) -> Option<&dyn Breakable> {
        Some(broken())
    }
}

fn open(url: String, env: Env) -> BoxFuture<'static, Result<Arc<dyn Transport>>> {
    async move {
        let rabbit = RabbitMq::connect(RabbitConfig::from_url(&url)?, env).await?;
        Ok(Arc::new(rabbit) as Arc<dyn Transport>)
    }
    .boxed()
}

fn main() -> ExitCode {
    static CASES: AtomicUsize = AtomicUsize::new(0);
    let prefix = || format!("case{}.", CASES.fetch_add(1, Ordering::Relaxed));
    conformance_with_faults(
        "rabbitmq",
        move || Prefixed(prefix()),
        move || Broken(prefix()),
    )
}
