//! Work that goes on beside the requests: what plugins send, and what they look after.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The tasks of a gateway's plugins. They end with the gateway, and those of a plugin that is replaced when its work is done.
/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Workers(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tasks: Mutex<JoinSet<()>>,
    waiting: Mutex<Vec<Weak<dyn Flush>>>,
}

/// Something that has work waiting.
pub(crate) trait Flush: Send + Sync {
    /// Waits until what waits now is done or given up.
    fn flush(&self) -> BoxFuture<'_, ()>;
}

impl Workers {
    /// Begins a task. It must not hold the plugin that began it.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    /// Is asked for what waits there before the gateway ends.
    pub(crate) fn watch(&self, waiting: Weak<dyn Flush>) {
        let mut all = self.0.waiting.lock();
        all.retain(|waiting| waiting.strong_count() > 0);
        all.push(waiting);
    }

    /// Waits until all that waits now is done, at most so long; tells whether it is.
    pub(crate) async fn flush(&self, limit: Duration) -> bool {
        let waiting: Vec<_> = self
            .0
            .waiting
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let all = join_all(waiting.iter().map(|waiting| waiting.flush()));
        timeout(limit, all).await.is_ok()
    }
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers")
            .field("tasks", &self.0.tasks.lock().len())
            .finish()
    }
}
