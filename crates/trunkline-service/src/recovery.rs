//! What a service does about its dead letters by itself.
//!
//! The lot says what is to be done, never this process's memory: which letters nobody has decided about, and which are to be
//! replayed when. So whatever dies in between is taken up at the next start, or by another process of the service.

mod decide;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunkline_bus::{Changes, Consumer, DeadLetter};
use trunkline_core::{Error, Result, report};
use trunkline_store::Recoveries;

use crate::Cx;
use crate::runtime::Runtime;

/// When the store can't say what is to be done, it is asked again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What becomes of a dead letter, as its service decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// Its key is replayed after a pause, which doubles with each time that the letter was recovered before. Beyond
    /// `recoveries_max` of the configuration's `[events]` it is kept all the same.
    Retry,
    /// It is kept until a person replays, edits or discards it.
    Keep,
}

pub(crate) type LetterHandler =
    Arc<dyn Fn(Cx, DeadLetter) -> BoxFuture<'static, Result<Recovery>> + Send + Sync>;

/// Has the service decide about its dead letters, and replays those that it wants to be replayed.
#[derive(Clone)]
pub(crate) struct Recoverer {
    runtime: Arc<Runtime>,
    handler: LetterHandler,
    consumers: Vec<Consumer>,
    letters: Recoveries,
    /// A letter is to be replayed that was not before.
    scheduled: Arc<Notify>,
}

impl Recoverer {
    pub(crate) fn new(
        runtime: Arc<Runtime>,
        handler: LetterHandler,
        consumers: &[Consumer],
    ) -> Self {
        Self {
            letters: runtime.store.recoveries(),
            runtime,
            handler,
            consumers: consumers.to_vec(),
            scheduled: Arc::default(),
        }
    }

    /// Starts both halves of its work, so that a long replay delays no decision.
    pub(crate) fn start(self, into: &mut JoinSet<()>, stop: &CancellationToken) {
        into.spawn(self.clone().decide_always(stop.clone()));
        into.spawn(self.retry_always(stop.clone()));
    }

    /// What changes in the lot from now on.
    fn changes(&self) -> Changes {
        self.runtime.store.parking_lot().changes()
    }

    fn warn(&self, error: &Error) {
        tracing::warn!(
            service = &*self.runtime.name, error = %report(error),
            "the store does not tell of dead letters; it is asked again"
        );
    }
}

/// Something has changed in the lot since.
async fn heard(changes: &mut Changes) {
    changes.next().await;
    while changes.heard().is_some() {}
}
