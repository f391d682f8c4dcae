//! The conformance suite over the log.

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

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_bus::Transport;
use trunkline_core::{Env, Result};
use trunkline_log::{Log, LogConfig};
use trunkline_testkit::conformance::{Engine, conformance};

struct OnDisk(tempfile::TempDir);

impl Engine for OnDisk {
    fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
        let log = Log::open(LogConfig::new(self.0.path()), env);
        std::future::ready(log.map(|log| Arc::new(log) as Arc<dyn Transport>)).boxed()
    }
}

fn main() -> ExitCode {
    conformance("log", || OnDisk(tempfile::tempdir().expect("a folder")))
}
