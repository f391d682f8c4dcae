//! The relay: sends what transactions published.
//!
//! It is woken by commits and by the due time of what is meant for later, and looks at the outbox as
//! it is: never from a cursor, so a row that commits late is sent like any other. What is sent is
//! removed, in batches and without an fsync of its own: a removal that a power failure undoes is an
//! event sent twice, which the inbox absorbs, and never one lost.

mod batch;
mod held;
mod leader;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunkline_bus::Transport;
use trunkline_core::{ByteString, Env, Envelope, Error, Result, report};
use trunkline_telemetry::{Check, Telemetry};

use crate::Store;
use crate::error::sql_error;

/// How often a drain looks for itself.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Sends the outbox of one store to the bus. Cheap to clone; the last clone dropped stops it at once.
///
/// # Guarantees
/// Every event of a committed transaction is sent at least once, events of one key in the order of
/// their commits. Stopped, cancelled or killed at any point it may send some again, and loses none.
/// However many relays run for a store, one of them sends. While the transport fails it tries again
/// with growing pauses; an event that can never be sent is set aside with its reason, later ones of its
/// key wait behind it in order, and all others go on.
#[derive(Clone)]
pub struct Relay {
    store: Store,
    state: Arc<State>,
    task: Arc<Mutex<JoinSet<()>>>,
}

/// How the relay stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RelayStatus {
    /// Events committed and not known to be sent; those set aside or held are not counted.
    pub pending: u64,
    /// Events published for later.
    pub scheduled: u64,
    /// Events set aside because they can never be sent as they are.
    pub stuck: u64,
    /// Events that wait behind a stuck one of their key.
    pub held: u64,
    /// How long the oldest pending event has waited.
    pub lag: Duration,
    /// Whether this relay is the one that sends.
    pub leading: bool,
    /// Why the last attempt to send failed; none when it did not.
    pub last_error: Option<String>,
}

/// An event that can't be sent as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct StuckEvent {
    /// Its id.
    pub event_id: ByteString,
    /// Its key, which it holds back; its id where it has none.
    pub key: ByteString,
    /// The event; none when its bytes can't be read.
    pub envelope: Option<Envelope>,
    /// Why it can't be sent.
    pub error: String,
    /// When it was set aside.
    pub stuck_at: Timestamp,
    /// How many later events of its key wait behind it.
    pub held: u64,
}

/// What the relay's task and its handles share.
#[derive(Debug)]
struct State {
    stop: CancellationToken,
    /// Somebody has freed a held event: look at them.
    held_changed: AtomicBool,
    leading: AtomicBool,
    last_error: Mutex<Option<String>>,
    /// Counts what the relay has done; a change may have made `drain` come true.
    progress: watch::Sender<u64>,
}

impl State {
    fn failed(&self, error: &Error) {
        *self.last_error.lock() = Some(report(error).to_string());
    }

    fn went_well(&self) {
        let mut last = self.last_error.lock();
        if last.is_some() {
            *last = None;
        }
    }

    fn progressed(&self) {
        self.progress
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Relay {
    /// Starts sending.
    pub fn start(
        store: Store,
        transport: Arc<dyn Transport>,
        telemetry: Telemetry,
        env: Env,
    ) -> Self {
        let state = Arc::new(State {
            stop: CancellationToken::new(),
            held_changed: AtomicBool::new(true),
            leading: AtomicBool::new(false),
            last_error: Mutex::new(None),
            progress: watch::Sender::new(0),
        });
        let worker =
            worker::Worker::new(store.clone(), transport, telemetry, env, Arc::clone(&state));
        let mut task = JoinSet::new();
        task.spawn(worker.run());
        Self {
            store,
            state,
            task: Arc::new(Mutex::new(task)),
        }
    }

    /// How it stands.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn status(&self) -> Result<RelayStatus> {
        let mut status = held::counts(&self.store).await?;
        status.leading = self.state.leading.load(Ordering::Acquire);
        status.last_error = self.state.last_error.lock().clone();
        Ok(status)
    }

    /// Events that were set aside, oldest first, at most `limit`.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn stuck(&self, limit: usize) -> Result<Vec<StuckEvent>> {
        held::stuck(&self.store, limit).await
    }

    /// Tries a stuck event again, before those that it holds.
    ///
    /// # Errors
    /// `NotFound` when no stuck event has this id.
    pub async fn retry_stuck(&self, event_id: &str) -> Result<()> {
        let sql = "UPDATE trunkline_held SET error = NULL, stuck_at = NULL \
                   WHERE event_id = $1 AND error IS NOT NULL";
        self.change_stuck(sql, event_id).await
    }

    /// Throws a stuck event away and lets those behind it go.
    ///
    /// # Errors
    /// `NotFound` when no stuck event has this id.
    pub async fn discard_stuck(&self, event_id: &str) -> Result<()> {
        let sql = "DELETE FROM trunkline_held WHERE event_id = $1 AND error IS NOT NULL";
        self.change_stuck(sql, event_id).await
    }

    async fn change_stuck(&self, sql: &'static str, event_id: &str) -> Result<()> {
        let mut tx = self.store.begin().await?;
        let done = sqlx::query(sql)
            .bind(crate::text::write(event_id).into_owned())
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        if done.rows_affected() == 0 {
            return Err(
                Error::not_found("event_not_stuck", "no stuck event has this id")
                    .with("event", event_id),
            );
        }
        tx.commit().await?;
        self.state.held_changed.store(true, Ordering::Release);
        self.store.outbox().tell(None);
        Ok(())
    }

    /// Waits until everything that is due has been sent, at most `limit`. Says whether it was.
    pub async fn drain(&self, limit: Duration) -> bool {
        let mut progress = self.state.progress.subscribe();
        let empty = async {
            loop {
                progress.mark_unchanged();
                match self.status().await {
                    Ok(status) if status.pending == 0 => return,
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "the outbox can't be read"),
                }
                // If another process leads, nobody tells this one.
                let told = tokio::time::timeout(LOOK_AGAIN, progress.changed());
                drop(told.await);
            }
        };
        tokio::time::timeout(limit, empty).await.is_ok()
    }

    /// Stops after the batch in hand; what is not sent stays in the outbox. Idempotent.
    pub async fn stop(&self) {
        self.state.stop.cancel();
        let mut task = std::mem::take(&mut *self.task.lock());
        while task.join_next().await.is_some() {}
    }
}

/// Fails while the transport does not take what is sent, and while an event is set aside.
impl Check for Relay {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let status = self.status().await?;
            if let Some(error) = status.last_error {
                return Err(
                    Error::unavailable("outbox_blocked", "the outbox can't be sent")
                        .with("pending", status.pending)
                        .with("error", error),
                );
            }
            if status.stuck > 0 {
                return Err(Error::conflict("outbox_stuck", "events were set aside")
                    .with("stuck", status.stuck)
                    .with("held", status.held));
            }
            Ok(())
        })
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
