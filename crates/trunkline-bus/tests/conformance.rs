//! The conformance suite over the transport in memory.

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
use trunkline_bus::{Transport, memory::Memory};
use trunkline_core::{Env, Result};
use trunkline_testkit::conformance::{Engine, conformance};

struct InMemory;

impl Engine for InMemory {
    fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
        async { Ok(Arc::new(Memory::new(env)) as Arc<dyn Transport>) }.boxed()
    }
}

fn main() -> ExitCode {
    conformance("memory", || InMemory)
}
