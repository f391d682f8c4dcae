//! The journal: what a saga's instances have done, durably. The trait that a store implements.

use std::collections::BTreeSet;
use std::fmt;
use std::future::ready;
use std::time::Duration;

use bytestring::ByteString;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trunkline_core::Result;
use uuid::Uuid;

use crate::Data;

mod entry;

pub use entry::{Body, Entry, Fault, Wait};

/// How long a key may be, in bytes.
pub const KEY_BYTES_MAX: usize = 256;

/// How many messages may wait unread for one instance.
pub const MESSAGES_MAX: usize = 1_000;

/// How long what an instance says of itself may be in a list, in bytes.
pub const LISTED_BYTES_MAX: usize = 1_024;

/// Becomes ready when what was written is durable.
pub type Durable = BoxFuture<'static, Result<()>>;

/// Where the instances of sagas are kept.
///
/// # Guarantees
/// What [`Journal::write`] answers is durable. An entry's place in its instance (`seq`) is taken once: of two processes that
/// believe to run one instance, one is told [`Written::Lost`], so a journal never has two stories. Everything else, the lease
/// included, only makes that rare.
pub trait Journal: Send + Sync + fmt::Debug {
    /// Writes all of `batch` in one transaction, in order; one answer for each.
    ///
    /// # Guarantees
    /// A write that is refused ([`Written`] other than `Done`) leaves the others as they are.
    ///
    /// # Errors
    /// `Unavailable`: nothing was written; with retry `Unknown`: all of it was, or nothing. Whoever repeats it learns which,
    /// by `Lost` or `Exists`.
    fn write<'a>(&'a self, batch: &'a [Write]) -> BoxFuture<'a, Result<Vec<Written>>>;

    /// The same, in two: answers as soon as the batch has its place among all that is written, and gives what becomes ready when
    /// it is durable. A journal that can write the next batch meanwhile does.
    ///
    /// # Guarantees
    /// What is written later is durable only if this is. Whoever asks tells nobody of it, and does nothing because of it, before.
    ///
    /// # Errors
    /// As [`Journal::write`]. What becomes ready fails when nobody knows whether it is durable; then the journal takes nothing more.
    fn write_ahead<'a>(
        &'a self,
        batch: &'a [Write],
    ) -> BoxFuture<'a, Result<(Vec<Written>, Durable)>> {
        async {
            let written = self.write(batch).await?;
            Ok((written, ready(Ok(())).boxed()))
        }
        .boxed()
    }

    /// Whether it takes anything at all in this process; once it does not, it never does again, and the engine ends.
    ///
    /// # Errors
    /// Why not.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// One instance with its entries by `seq` and its messages by arrival.
    ///
    /// # Errors
    /// `Corrupt` for a row that can't be read.
    fn load<'a>(&'a self, which: &'a Which) -> BoxFuture<'a, Result<Option<Record>>>;

    /// Says that this owner lives, frees what dead owners held, and takes instances that are due.
    ///
    /// # Guarantees
    /// An instance is one owner's at a time; one that is freed of a dead owner gets a new `changed_at`. It is due when it has no owner, has not ended or parked, and its `wake_at` is
    /// here. The earliest come first.
    fn claim<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Claimed>>;

    /// Instances, the newest first, without what each was given and gave: `input` and `context` are `null`, `output` is none,
    /// and so is a status above [`LISTED_BYTES_MAX`].
    fn list<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Vec<Instance>>>;
}

/// One instance, by its id or by its saga and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By its id.
    Id(Uuid),
    /// By what it was started with.
    Key(ByteString, ByteString),
}

/// How an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its function runs, or will as soon as somebody takes it.
    Running,
    /// It rests until a time comes or a message.
    Waiting,
    /// Its function failed, and what was done is being undone.
    Compensating,
    /// Its function has returned.
    Completed,
    /// It failed, or was cancelled, when nothing was to be undone.
    Failed,
    /// It failed, or was cancelled, and all that was to be undone is undone.
    Compensated,
    /// It can't go on by itself: a person has to look.
    Parked,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Waiting,
        Self::Compensating,
        Self::Completed,
        Self::Failed,
        Self::Compensated,
        Self::Parked,
    ];

    /// Its name: `running`, `compensated`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Compensated => "compensated",
            Self::Parked => "parked",
        }
    }

    /// The state of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether it is over.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Compensated)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An instance of a saga, without its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Its id: UUID v7, so that instances that run at a time lie side by side.
    pub id: Uuid,
    /// Which saga.
    pub saga: ByteString,
    /// What it was started with: one instance for each saga and key.
    pub key: ByteString,
    /// The version of the code that it began with, or was moved to.
    pub version: u32,
    /// How it stands.
    pub state: State,
    /// What it was given.
    pub input: Data,
    /// Trace, correlation and user of whoever started it, as the host wrote them.
    pub context: Data,
    /// The id of the business flow that it is part of.
    pub correlation_id: ByteString,
    /// What it last said of itself.
    pub status: Option<Data>,
    /// What its function returned.
    pub output: Option<Data>,
    /// Why it failed, or is parked.
    pub error: Option<Fault>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// When it is to be looked at next, if nobody has it.
    pub wake_at: Option<Timestamp>,
    /// Who has it.
    pub owner: Option<ByteString>,
    /// The instance that waits for its end.
    pub parent: Option<Uuid>,
}

/// An instance with all that was written of it.
#[derive(Debug, Clone)]
pub struct Record {
    /// How it stands.
    pub instance: Instance,
    /// What it did, by `seq`.
    pub entries: Vec<Entry>,
    /// What it was told, by arrival; those it has read too.
    pub messages: Vec<Message>,
}

/// Something that an instance is told from outside: an event, a signal, the end of a child, a command of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who sends it a second time uses the same id: an event's own.
    pub id: ByteString,
    /// What is waited for: an event's type, a signal's name.
    pub name: ByteString,
    /// What it says.
    pub data: Data,
    /// When it came.
    pub at: Timestamp,
}

/// One change of the journal.
#[derive(Debug, Clone)]
pub enum Write {
    /// A new instance. `Done`, or `Exists` with the one that has its saga and key.
    Start(Box<Instance>),
    /// What an instance did, and how it stands now. `Done`, or `Lost`.
    Went(Went),
    /// A message. It sets the instance's `wake_at` to now, and adds nothing when one of this id is there (`Done` all the
    /// same). `Done`, `NotFound`, `Ended` when the instance has ended, `Full` when [`MESSAGES_MAX`] wait unread.
    Tell(Which, Message),
    /// A person's hand on an instance that is parked or has ended. `Done`, `NotFound`, or `Lost` when it is in another state.
    Mend(Mend),
    /// Forgets up to so many instances that ended before a time, with their entries and messages. `Done`, or `Full` when
    /// there are more.
    Prune(Timestamp, u32),
}

/// What an instance did.
#[derive(Debug, Clone)]
pub struct Went {
    /// Which.
    pub id: Uuid,
    /// Who says so.
    pub owner: ByteString,
    /// Its next entries. One whose `seq` is taken makes the whole write `Lost`.
    pub entries: Vec<Entry>,
    /// What it says of itself from now on.
    pub status: Option<Data>,
    /// How it stands from now on.
    pub change: Option<Box<Change>>,
}

/// How an instance stands from now on. Refused (`Lost`) when the owner is another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The state.
    pub state: State,
    /// What its function returned.
    pub output: Option<Data>,
    /// Why it failed or is parked.
    pub error: Option<Fault>,
    /// When it is to be looked at next.
    pub wake_at: Option<Timestamp>,
    /// It has no owner any more.
    pub release: bool,
    /// Only if so many messages have come for it by now: `Lost` if there are more.
    pub messages: Option<usize>,
    /// Who waits for its end is told, in the same transaction.
    pub tell_parent: Option<(Uuid, Message)>,
}

impl Change {
    /// This state, and nothing else.
    pub fn to(state: State) -> Self {
        Self {
            state,
            output: None,
            error: None,
            wake_at: None,
            release: false,
            messages: None,
            tell_parent: None,
        }
    }
}

/// A person's hand on an instance that nobody has.
#[derive(Debug, Clone)]
pub struct Mend {
    /// Which.
    pub which: Which,
    /// Only from one of these states.
    pub from: BTreeSet<State>,
    /// It takes away all entries from this `seq` on, before others are added.
    pub cut_from: Option<u64>,
    /// Entries that are added; one whose `seq` is taken makes it `Lost`.
    pub entries: Vec<Entry>,
    /// The version of the code from now on, where it is moved.
    pub version: Option<u32>,
    /// The state from now on; `wake_at` is now, the error is taken away, and it has no owner.
    pub to: State,
}

/// What came of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is durable.
    Done,
    /// An instance of this saga and key is there.
    Exists(Box<Instance>),
    /// Somebody else has the instance, or it changed meanwhile: load it again.
    Lost,
    /// There is no such instance.
    NotFound,
    /// It has ended.
    Ended,
    /// Too much waits: for an instance, or to be forgotten.
    Full,
}

/// Whose instances, and how many.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who takes them.
    pub owner: ByteString,
    /// For how long the owner is believed to live from now on.
    pub lease: Duration,
    /// Of which sagas.
    pub sagas: Vec<ByteString>,
    /// How many at most; zero only says that the owner lives.
    pub max: usize,
}

/// What was taken.
#[derive(Debug, Clone, Default)]
pub struct Claimed {
    /// These are the owner's now.
    pub ids: Vec<Uuid>,
    /// The owner's own of before that were told something since: their `wake_at` was here, and is taken away.
    pub told: Vec<Uuid>,
    /// When the next of these sagas is due, as far as is known.
    pub next: Option<Timestamp>,
}

/// Which instances are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// This one.
    pub id: Option<Uuid>,
    /// Of one saga.
    pub saga: Option<ByteString>,
    /// In one state.
    pub state: Option<State>,
    /// Of one business flow.
    pub correlation_id: Option<ByteString>,
    /// With one key.
    pub key: Option<ByteString>,
    /// Children of one instance.
    pub parent: Option<Uuid>,
    /// Started before this time.
    pub started_before: Option<Timestamp>,
    /// Older than this id, for the next page.
    pub after: Option<Uuid>,
    /// How many at most; 0 stands for 100, and 1,000 is the most.
    pub max: u32,
}
