//! The audit log of a service while it runs.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunkline_core::Env;
use trunkline_security::{Audit, AuditConfig};
use trunkline_store::AuditLog;

/// Writes what the service notes, until it is stopped.
pub(super) struct Auditing {
    stop: CancellationToken,
    writer: Mutex<JoinSet<()>>,
}

impl Auditing {
    pub(super) fn start(log: AuditLog, env: &Env) -> (Self, Audit) {
        let (audit, writer) = Audit::new(Arc::new(log), AuditConfig::default(), env.clone());
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(stop.clone().cancelled_owned()));
        let auditing = Self {
            stop,
            writer: Mutex::new(tasks),
        };
        (auditing, audit)
    }

    /// Writes what still waits; for a bounded time.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        let mut writer = self.writer.lock().await;
        while writer.join_next().await.is_some() {}
    }
}
