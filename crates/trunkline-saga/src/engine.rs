//! The engine: it starts instances, takes up those that are due, and runs them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore, mpsc};
use trunkline_core::{Env, Error, Result};
use uuid::Uuid;

use crate::Data;
use crate::definition::Definition;
use crate::host::Host;
use crate::journal::{Instance, Journal, Message, Query, Record, Which, Written};
use crate::probe::Probe;
use crate::writer::Writer;

mod hand;
mod parts;
mod run;
mod seats;
mod watch;

use seats::{Seat, Seats};
use watch::Watchers;

/// How an engine behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How many instances it runs at a time. More wait in the journal; those that rest do not count.
    pub active_max: usize,
    /// For how long a process that says nothing is believed to live.
    pub lease: Duration,
    /// How often the journal is asked for what other processes left in it.
    pub poll: Duration,
    /// How long a stop waits for attempts that are on their way.
    pub drain: Duration,
    /// For how long instances that have ended are kept.
    pub keep: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            active_max: 1_024,
            lease: Duration::from_secs(15),
            poll: Duration::from_secs(1),
            drain: Duration::from_secs(10),
            keep: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// What a new instance has from whoever starts it.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Trace, correlation and user, as the host writes them.
    pub context: Data,
    /// The business flow that it is part of.
    pub correlation_id: ByteString,
    /// The instance that waits for its end.
    pub parent: Option<Uuid>,
}

impl Begin {
    /// A flow of its own.
    pub fn flow(correlation_id: impl Into<ByteString>) -> Self {
        Self {
            context: Data::null(),
            correlation_id: correlation_id.into(),
            parent: None,
        }
    }
}

/// Runs the sagas of one service in one process. Cheap to clone.
///
/// # Guarantees
/// An instance that was started goes on until it has ended or is parked, whatever dies: another process takes it up when its
/// owner's lease is over, at its last durable entry.
pub struct Engine<H: Host>(Arc<Parts<H>>);

pub(crate) struct Parts<H: Host> {
    pub(crate) host: H,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) env: Env,
    pub(crate) owner: ByteString,
    pub(crate) writer: Writer,
    pub(crate) probe: Option<Arc<dyn Probe>>,
    settings: Settings,
    definitions: BTreeMap<ByteString, Definition<H>>,
    slots: Arc<Semaphore>,
    starts: mpsc::Sender<Taken<H>>,
    seats: Seats<H>,
    watchers: Watchers,
    pub(crate) due: Notify,
    pub(crate) stopping: AtomicBool,
    /// When it last made something durable, in microseconds since 1970; 0 before the first time.
    last_commit: AtomicI64,
    /// The journal knows that this owner lives, so it may have instances.
    known: AtomicBool,
    inbox: Mutex<Option<run::Inbox<H>>>,
}

/// An instance that this process has, with its seat.
type Taken<H> = (Record, Seat<H>);

impl<H: Host> Engine<H> {
    /// An engine of these sagas. It does nothing until it is [run](Engine::run).
    ///
    /// # Errors
    /// `InvalidInput` for two sagas of one name, or one without a version.
    pub fn new(
        host: H,
        journal: Arc<dyn Journal>,
        env: Env,
        definitions: impl IntoIterator<Item = Definition<H>>,
        settings: Settings,
    ) -> Result<Self> {
        Self::probed(host, journal, env, (definitions, settings, None))
    }

    /// The same with faults on purpose, for tests.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn probed(
        host: H,
        journal: Arc<dyn Journal>,
        env: Env,
        (definitions, settings, probe): (
            impl IntoIterator<Item = Definition<H>>,
            Settings,
            Option<Arc<dyn Probe>>,
        ),
    ) -> Result<Self> {
        let mut known = BTreeMap::new();
        for definition in definitions {
            definition.newest()?;
            if let Some(twice) = known.insert(definition.name.clone(), definition) {
                let error = Error::invalid("saga_name_taken", "two sagas have one name");
                return Err(error.with("saga", twice.name));
            }
        }
        let (writer, writes) = Writer::new();
        let active_max = settings.active_max.max(1);
        let (starts, started) = mpsc::channel(active_max);
        Ok(Self(Arc::new(Parts {
            host,
            journal,
            owner: env.id().to_string().into(),
            env,
            writer,
            probe,
            settings,
            definitions: known,
            slots: Arc::new(Semaphore::new(active_max)),
            starts,
            seats: Seats::default(),
            watchers: Watchers::default(),
            due: Notify::new(),
            stopping: AtomicBool::new(false),
            last_commit: AtomicI64::new(0),
            known: AtomicBool::new(false),
            inbox: Mutex::new(Some(run::Inbox { writes, started })),
        })))
    }

    /// Starts an instance, durably; the same key and input again are the instance that is there.
    ///
    /// # Errors
    /// `Conflict` when the key is there with another input, `NotFound` for a saga that is not declared here, `InvalidInput`
    /// for an empty key or one above [`crate::KEY_BYTES_MAX`].
    pub async fn start(
        &self,
        saga: &str,
        key: &str,
        input: &impl Serialize,
        begin: Begin,
    ) -> Result<Instance> {
        let input = Data::of(input)?;
        self.0.start(&saga.into(), key, input, begin).await
    }

    /// The write that starts an instance, for a transaction of somebody else, who pokes the engine when it is committed.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn starting(
        &self,
        saga: &str,
        key: &str,
        input: &impl Serialize,
        begin: Begin,
    ) -> Result<Box<Instance>> {
        let instance = self
            .0
            .new_instance(&saga.into(), key, Data::of(input)?, begin)?;
        Ok(Box::new(Instance {
            wake_at: Some(instance.started_at),
            ..instance
        }))
    }

    /// What a start came to: the new instance, or the one that was there.
    ///
    /// # Errors
    /// `Conflict` when that one has another input.
    pub fn started(started: Instance, written: Written) -> Result<Instance> {
        match written {
            Written::Exists(there) if there.input == started.input => Ok(*there),
            Written::Exists(there) => Err(Error::conflict(
                "saga_key_taken",
                "an instance of this key is there, with another input",
            )
            .with("saga", &there.saga)
            .with("key", &there.key)
            .with("started_at", there.started_at)),
            _ => Ok(started),
        }
    }

    /// What a message came to that was told within a transaction of somebody else.
    ///
    /// # Errors
    /// As [`Engine::tell`].
    pub fn told(written: Written) -> Result<()> {
        refused(written)
    }

    /// Tells an instance something: a signal. One of the same id counts once.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when it has ended, `Overloaded` when too many messages wait for it.
    pub async fn tell(&self, which: Which, message: Message) -> Result<()> {
        refused(self.0.tell(which, message).await?)
    }

    /// Looks for instances that are due, now.
    pub fn poke(&self) {
        self.0.due.notify_one();
    }

    /// One instance with all that it did.
    ///
    /// # Errors
    /// `NotFound`, and what the journal says.
    pub async fn show(&self, which: &Which) -> Result<Record> {
        self.0.load(which).await
    }

    /// Instances, the newest first.
    ///
    /// # Errors
    /// What the journal says.
    pub async fn list(&self, query: &Query) -> Result<Vec<Instance>> {
        self.0.journal.list(query).await
    }

    /// When this engine last made something durable; none if it has not yet.
    pub fn last_commit(&self) -> Option<Timestamp> {
        let at = self.0.last_commit.load(Ordering::Acquire);
        Timestamp::from_microsecond(at).ok().filter(|_| at > 0)
    }

    /// The sagas that it runs.
    pub fn sagas(&self) -> impl Iterator<Item = &Definition<H>> {
        self.0.definitions.values()
    }
}

fn not_found(which: &Which) -> Error {
    let error = Error::not_found("saga_not_found", "there is no such instance of a saga");
    match which {
        Which::Id(id) => error.with("id", id),
        Which::Key(saga, key) => error.with("saga", saga).with("key", key),
    }
}

/// A write that was refused, as an error.
fn refused(written: Written) -> Result<()> {
    match written {
        Written::Done => Ok(()),
        Written::NotFound => Err(Error::not_found(
            "saga_not_found",
            "there is no such instance of a saga",
        )),
        Written::Ended => Err(Error::conflict("saga_ended", "the instance has ended")),
        Written::Full => Err(Error::new(
            trunkline_core::ErrorKind::Overloaded,
            "saga_messages_full",
            "too many messages wait for the instance",
        )),
        Written::Lost | Written::Exists(_) => Err(Error::conflict(
            "saga_state_wrong",
            "the instance is not in a state in which this can be done, or changed just now",
        )),
    }
}

impl<H: Host> Clone for Engine<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: Host> fmt::Debug for Engine<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("owner", &self.0.owner)
            .field("sagas", &self.0.definitions.keys())
            .finish_non_exhaustive()
    }
}
