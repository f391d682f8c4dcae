//! The log as a transport.

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_bus::{Capabilities, PublishError, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::{Env, Envelope, Error, ErrorKind, Result};

use crate::LogConfig;

/// The embedded durable log. Cheap to clone; clones are the same log.
#[derive(Debug, Clone)]
pub struct Log {
    _env: Env,
}

impl Log {
    /// Opens the log in its folder, or makes it. It reads files: call it before serving, or off the
    /// async threads.
    ///
    /// # Errors
    /// `InvalidInput`: the configuration; `Conflict`: another process has it open;
    /// `PermissionDenied`: the folder can't be written; `Unavailable`: the disk is full or failing;
    /// `Corrupt`: the files are not what was written, and not merely torn at their end.
    pub fn open(config: LogConfig, env: Env) -> Result<Self> {
        config.check()?;
        Ok(Self { _env: env })
    }
}

fn unfinished() -> Error {
    Error::new(ErrorKind::Unsupported, "log_unfinished", "not yet")
}

impl Transport for Log {
    fn capabilities(&self) -> Capabilities {
        let mut all = Capabilities::default();
        all.durable = true;
        all.ordered_by_key = true;
        all.groups = true;
        all.replay = true;
        all
    }

    fn declare<'a>(&'a self, _topics: &'a [TopicSpec]) -> BoxFuture<'a, Result<()>> {
        std::future::ready(Err(unfinished())).boxed()
    }

    fn publish<'a>(&'a self, _batch: &'a [Envelope]) -> BoxFuture<'a, Result<(), PublishError>> {
        std::future::ready(Err(PublishError {
            accepted: 0,
            error: unfinished(),
        }))
        .boxed()
    }

    fn subscribe<'a>(
        &'a self,
        _spec: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>>> {
        std::future::ready(Err(unfinished())).boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }
}
