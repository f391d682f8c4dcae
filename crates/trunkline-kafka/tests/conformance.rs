//! The conformance suite over Kafka.

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
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_bus::Transport;
use trunkline_core::{Env, Result};
use trunkline_kafka::{KafkaConfig, connect};
use trunkline_testkit::conformance::{Engine, conformance};
use trunkline_testkit::kafka::Server;

/// A prefix of its own on the server that all cases share.
struct Prefixed(String);

impl Engine for Prefixed {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
        let settings = "session_ms=2000&heartbeat_ms=50&commit_ms=20&handover_ms=3000";
        let url = format!("{}?prefix={}&{settings}", Server::shared().url(), self.0);
        async move {
            let kafka = connect(KafkaConfig::from_url(&url)?, Env::system()).await?;
            Ok(Arc::new(kafka) as Arc<dyn Transport>)
        }
        .boxed()
    }
}

fn main() -> ExitCode {
    static CASES: AtomicUsize = AtomicUsize::new(0);
    conformance("kafka", || {
        let case = CASES.fetch_add(1, Ordering::Relaxed);
        Prefixed(format!("case-{case}."))
    })
}
