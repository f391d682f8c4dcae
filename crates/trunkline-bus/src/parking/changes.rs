//! How a parking lot tells of what changes in it.

use bytestring::ByteString;
use tokio::sync::broadcast;

/// Changes that a listener may be behind; beyond it, it is told [`Change::Unknown`] instead.
const BEHIND_MAX: usize = 1024;

/// What has changed in a lot. It may be late: whoever needs to be sure reads the lot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key has a letter with an error.
    Parked {
        /// The group.
        group: ByteString,
        /// The key.
        key: ByteString,
    },
    /// The last letter of a key is gone.
    Freed {
        /// The group.
        group: ByteString,
        /// The key.
        key: ByteString,
    },
    /// Anything may have changed.
    Unknown,
}

/// What a lot tells of its changes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChangeTeller {
    changes: broadcast::Sender<Change>,
}

impl Default for ChangeTeller {
    fn default() -> Self {
        let changes = broadcast::Sender::new(BEHIND_MAX);
        Self { changes }
    }
}

impl ChangeTeller {
    /// Tells all who listen; never blocks.
    pub fn tell(&self, change: Change) {
        // With nobody listening nobody has to know.
        let _heard = self.changes.send(change).is_ok();
    }

    /// Listens from now on. `shared` says that others than this teller's process change the lot, so that
    /// what they do is told a moment after it is done; otherwise it is told before it returns.
    pub fn listen(&self, shared: bool) -> Changes {
        let told = self.changes.subscribe();
        Changes { told, shared }
    }
}

/// The changes of a lot since it was asked for them.
#[derive(Debug)]
pub struct Changes {
    told: broadcast::Receiver<Change>,
    shared: bool,
}

impl Changes {
    /// Whether a change may be done and not told of yet.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// The next one that has been told of already.
    pub fn heard(&mut self) -> Option<Change> {
        use broadcast::error::TryRecvError;
        match self.told.try_recv() {
            Ok(change) => Some(change),
            Err(TryRecvError::Lagged(_)) => Some(Change::Unknown),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

    /// Waits for the next one; for ever when the lot is gone. Cancel safe.
    pub async fn next(&mut self) -> Change {
        use broadcast::error::RecvError;
        match self.told.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => Change::Unknown,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
