//! The audit log: what was refused and what was changed, by whom.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use trunkline_core::{ByteString, Env, Error, Result, Timestamp, report};

/// The longest actor, action or object; what is longer is cut.
const NAME_BYTES_MAX: usize = 256;
/// The longest reason; what is longer is cut.
const REASON_BYTES_MAX: usize = 1024;
/// Pauses between tries while the log can't be written: they double from the first to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LAST: Duration = Duration::from_secs(10);

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was refused: who asked may not, or could not say who it is.
    Refused,
    /// It was tried and failed.
    Failed,
}

impl AuditOutcome {
    /// Its name, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// The outcome of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Done, Self::Refused, Self::Failed]
            .into_iter()
            .find(|outcome| outcome.name() == name)
    }
}

/// One line of the audit log: who did what on what, how it ended and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its own id: an entry that is handed over twice is kept once.
    pub id: ByteString,
    /// When.
    pub at: Timestamp,
    /// Who: a service, `user:<id>`, or `unknown`.
    pub actor: String,
    /// What: such as `call` or `order.cancel`.
    pub action: String,
    /// On what: such as `inventory-service GET /stock/{sku}`.
    pub object: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Why.
    pub reason: Option<String>,
    /// The flow that it belongs to.
    pub correlation_id: Option<ByteString>,
}

impl AuditEntry {
    /// An entry of now. Names of more than 256 bytes are cut.
    pub fn new(
        actor: impl Into<String>,
        action: impl Into<String>,
        object: impl Into<String>,
        outcome: AuditOutcome,
        env: &Env,
    ) -> Self {
        Self {
            id: env.id().to_string().into(),
            at: env.now(),
            actor: cut(actor.into(), NAME_BYTES_MAX),
            action: cut(action.into(), NAME_BYTES_MAX),
            object: cut(object.into(), NAME_BYTES_MAX),
            outcome,
            reason: None,
            correlation_id: None,
        }
    }

    /// An entry as it was stored: its id and time; actor, action and object; its outcome; its reason and flow.
    pub fn stored(
        id: ByteString,
        at: Timestamp,
        [actor, action, object]: [String; 3],
        outcome: AuditOutcome,
        (reason, correlation_id): (Option<String>, Option<ByteString>),
    ) -> Self {
        Self {
            id,
            at,
            actor,
            action,
            object,
            outcome,
            reason,
            correlation_id,
        }
    }

    /// Says why. A reason of more than 1,024 bytes is cut.
    #[must_use]
    pub fn because(self, reason: impl fmt::Display) -> Self {
        Self {
            reason: Some(cut(reason.to_string(), REASON_BYTES_MAX)),
            ..self
        }
    }

    /// Says to which flow it belongs.
    #[must_use]
    pub fn in_flow(self, correlation_id: impl Into<ByteString>) -> Self {
        Self {
            correlation_id: Some(correlation_id.into()),
            ..self
        }
    }
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

/// Where entries are kept.
pub trait AuditSink: Send + Sync {
    /// Keeps entries, in order, all or none. One that is kept already (by its id) is passed over.
    fn append<'a>(&'a self, entries: &'a [AuditEntry]) -> BoxFuture<'a, Result<()>>;
}

/// The bounds of an audit log's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditConfig {
    /// Entries that wait to be written: 8,192.
    pub waiting_max: usize,
    /// Entries that are written together: 256.
    pub batch_max: usize,
    /// How long what waits is still tried to be written at the end: 5 s.
    pub flush_within: Duration,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            waiting_max: 8_192,
            batch_max: 256,
            flush_within: Duration::from_secs(5),
        }
    }
}

/// Takes entries for the audit log. Cheap to clone.
///
/// # Guarantees
/// [`Audit::record`] never waits. Entries wait in a buffer until they are written; one that finds it full is
/// written to the log of the process in whole, at the level `error`, and counted: the audit log then gets an entry
/// `audit.lost` with their number, so that the gap is seen where it is. The same happens to what can't be written
/// within `flush_within` at the end.
#[derive(Clone)]
pub struct Audit(Arc<Shared>);

struct Shared {
    config: AuditConfig,
    env: Env,
    buffer: Mutex<Buffer>,
    filled: Notify,
}

#[derive(Default)]
struct Buffer {
    waiting: VecDeque<AuditEntry>,
    lost: u64,
    /// Nobody writes: entries go to the log of the process alone.
    unwritten: bool,
}

/// Writes what [`Audit`] took; whoever makes it runs it.
pub struct AuditWriter {
    shared: Arc<Shared>,
    sink: Arc<dyn AuditSink>,
}

impl Audit {
    /// An audit log that `sink` keeps, and the writer that has to run beside it.
    pub fn new(sink: Arc<dyn AuditSink>, config: AuditConfig, env: Env) -> (Self, AuditWriter) {
        let shared = Arc::new(Shared {
            config,
            env,
            buffer: Mutex::default(),
            filled: Notify::new(),
        });
        let writer = AuditWriter {
            shared: shared.clone(),
            sink,
        };
        (Self(shared), writer)
    }

    /// An audit log that is nothing but lines of the process's log: where no store is at hand.
    pub fn to_log(env: Env) -> Self {
        Self(Arc::new(Shared {
            config: AuditConfig::default(),
            env,
            buffer: Mutex::new(Buffer {
                unwritten: true,
                ..Buffer::default()
            }),
            filled: Notify::new(),
        }))
    }

    /// Takes an entry.
    pub fn record(&self, entry: AuditEntry) {
        let mut buffer = self.0.buffer.lock();
        if buffer.unwritten {
            drop(buffer);
            tell(&entry, "audit");
        } else if buffer.waiting.len() >= self.0.config.waiting_max {
            buffer.lost += 1;
            drop(buffer);
            tell_lost(&entry);
        } else {
            buffer.waiting.push_back(entry);
            drop(buffer);
            self.0.filled.notify_one();
        }
    }

    /// Takes a refusal, with the whole chain of its reasons.
    pub fn refused(&self, actor: &str, action: &str, object: &str, why: &Error) {
        let entry = AuditEntry::new(actor, action, object, AuditOutcome::Refused, &self.0.env);
        self.record(entry.because(format_args!("{}: {}", why.code(), report(why))));
    }

    pub(crate) fn env(&self) -> &Env {
        &self.0.env
    }

    #[cfg(test)]
    pub(crate) fn take_waiting(&self) -> Vec<AuditEntry> {
        self.0.buffer.lock().waiting.drain(..).collect()
    }
}

/// An audit log that keeps what it took.
#[cfg(test)]
pub(crate) fn kept_waiting(env: Env) -> Audit {
    struct Nowhere;
    impl AuditSink for Nowhere {
        fn append<'a>(&'a self, _: &'a [AuditEntry]) -> BoxFuture<'a, Result<()>> {
            Box::pin(async { Ok(()) })
        }
    }
    Audit::new(Arc::new(Nowhere), AuditConfig::default(), env).0
}

impl AuditWriter {
    /// Writes until `stop`, and then what still waits.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut pending = Vec::new();
        tokio::select! {
            biased;
            () = &mut stop => {}
            () = self.write(&mut pending) => {}
        }
        self.shared.buffer.lock().unwritten = true;
        let rest = self.rest(&mut pending);
        if tokio::time::timeout(self.shared.config.flush_within, rest)
            .await
            .is_err()
        {
            pending.extend(self.shared.buffer.lock().waiting.drain(..));
            pending.iter().for_each(tell_lost);
        }
    }

    /// Writes for ever. What is taken stays in `pending` until it is written.
    async fn write(&self, pending: &mut Vec<AuditEntry>) {
        loop {
            self.take(pending);
            if pending.is_empty() {
                self.shared.filled.notified().await;
            } else {
                self.append(pending).await;
            }
        }
    }

    async fn rest(&self, pending: &mut Vec<AuditEntry>) {
        loop {
            self.take(pending);
            if pending.is_empty() {
                return;
            }
            self.append(pending).await;
        }
    }

    /// Fills `pending` up to a batch.
    fn take(&self, pending: &mut Vec<AuditEntry>) {
        let mut buffer = self.shared.buffer.lock();
        let room = self.shared.config.batch_max.saturating_sub(pending.len());
        let count = room.min(buffer.waiting.len());
        pending.extend(buffer.waiting.drain(..count));
        let lost = std::mem::take(&mut buffer.lost);
        drop(buffer);
        if lost > 0 {
            let env = &self.shared.env;
            let object = format!("{lost} entries");
            let outcome = AuditOutcome::Failed;
            pending.push(
                AuditEntry::new("trunkline", "audit.lost", object, outcome, env)
                    .because("the buffer was full; each of them is a line in the process's log"),
            );
        }
    }

    /// Writes a batch, however long that takes.
    async fn append(&self, pending: &mut Vec<AuditEntry>) {
        let mut pause = PAUSE_FIRST;
        while let Err(error) = self.sink.append(pending).await {
            tracing::warn!(error = %report(&error), "the audit log can't be written; it is tried again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
        pending.clear();
    }
}

fn tell(entry: &AuditEntry, what: &'static str) {
    tracing::info!(
        target: "trunkline::audit", id = %entry.id, at = %entry.at, actor = entry.actor, action = entry.action,
        object = entry.object, outcome = entry.outcome.name(), reason = entry.reason.as_deref(),
        correlation_id = entry.correlation_id.as_deref(), "{what}"
    );
}

fn tell_lost(entry: &AuditEntry) {
    tracing::error!(
        target: "trunkline::audit", id = %entry.id, at = %entry.at, actor = entry.actor, action = entry.action,
        object = entry.object, outcome = entry.outcome.name(), reason = entry.reason.as_deref(),
        correlation_id = entry.correlation_id.as_deref(),
        "an entry did not reach the audit log, and is kept by this line alone"
    );
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl fmt::Debug for AuditWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditWriter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
