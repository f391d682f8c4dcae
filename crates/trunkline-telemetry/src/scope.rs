//! What the log lines of a piece of work say about it.

use std::future::Future;

use tokio::task::futures::TaskLocalFuture;
use trunkline_core::{ByteString, Context};

tokio::task_local! {
    static SCOPE: Scope;
}

/// On whose behalf a line is written: the service, the flow, the trace.
///
/// A line asks for it when it is written, so work that logs nothing pays next to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The service that does the work.
    pub service: ByteString,
    /// The flow that the work belongs to; empty where it is more than one, as for a batch.
    pub correlation_id: ByteString,
    /// The trace that the work belongs to.
    pub trace_id: u128,
}

impl Scope {
    /// The scope of a service's work in a context.
    pub fn new(service: &ByteString, context: &Context) -> Self {
        Self {
            service: service.clone(),
            correlation_id: context.correlation_id.clone(),
            trace_id: context.trace.trace_id,
        }
    }

    /// Does work in this scope: every log line of it, whoever's code writes it, has `service`, `correlation_id`
    /// and `trace_id`. A task that the work spawns is outside.
    pub fn run<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        SCOPE.scope(self, work)
    }

    /// The same for a piece of work that does not wait.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        SCOPE.sync_scope(self.clone(), work)
    }

    /// The scope that the caller works in.
    pub fn current() -> Option<Self> {
        SCOPE.try_with(Self::clone).ok()
    }
}
