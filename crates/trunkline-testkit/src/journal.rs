//! One suite for all journals of sagas: cases by name, each over a fresh journal whose clock it moves.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use trunkline_core::Env;
//! use trunkline_saga::MemoryJournal;
//! use trunkline_testkit::journal::{Bench, cases};
//!
//! # async fn run() {
//! for case in cases() {
//!     println!("{}", case.name);
//!     let (env, clock) = Env::manual(1);
//!     (case.run)(Bench::new(Arc::new(MemoryJournal::new(env)), clock)).await;
//! }
//! # }
//! ```

mod claims;
mod hands;
mod lists;
mod messages;
mod writes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use trunkline_core::{ByteString, Clock, Timestamp};
use trunkline_saga::{
    Body, Change, Claim, Claimed, Data, Entry, Instance, Journal, Message, Record, State, Went,
    Which, Write, Written,
};
use uuid::Uuid;

/// How long the owners of the suite are believed to live.
const LEASE: Duration = Duration::from_secs(30);

/// A case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it says that a journal does.
    pub name: &'static str,
    /// Runs it over a fresh journal; it panics when the journal fails.
    pub run: fn(Bench) -> BoxFuture<'static, ()>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! named {
    ($($run:ident),+ $(,)?) => {
        vec![$($crate::journal::Case {
            name: stringify!($run),
            run: |bench| Box::pin($run(bench)),
        }),+]
    };
}
use named;

/// All cases.
pub fn cases() -> Vec<Case> {
    [
        writes::all(),
        messages::all(),
        claims::all(),
        hands::all(),
        lists::all(),
    ]
    .concat()
}

/// A journal and its clock.
#[derive(Debug, Clone)]
pub struct Bench {
    journal: Arc<dyn Journal>,
    clock: Clock,
}

impl Bench {
    /// The journal reads its time from this clock.
    pub fn new(journal: Arc<dyn Journal>, clock: Clock) -> Self {
        Self { journal, clock }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// So much later than now.
    fn after(&self, wait: Duration) -> Timestamp {
        self.now().checked_add(wait).expect("a time within range")
    }

    async fn write(&self, batch: &[Write]) -> Vec<Written> {
        self.journal
            .write(batch)
            .await
            .expect("a journal that writes")
    }

    async fn write_one(&self, write: Write) -> Written {
        let mut written = self.write(std::slice::from_ref(&write)).await;
        assert_eq!(written.len(), 1, "one answer for one write");
        written.remove(0)
    }

    async fn load(&self, id: Uuid) -> Record {
        self.find(id).await.expect("an instance that is there")
    }

    async fn find(&self, id: Uuid) -> Option<Record> {
        self.journal
            .load(&Which::Id(id))
            .await
            .expect("a journal that reads")
    }

    async fn claim(&self, owner: &str, max: usize) -> Claimed {
        let claim = Claim {
            owner: owner.into(),
            lease: LEASE,
            sagas: vec!["order".into(), "refund".into()],
            max,
        };
        self.journal
            .claim(&claim)
            .await
            .expect("a journal that claims")
    }

    /// An instance of `order` that nobody has.
    fn instance(&self, number: u8, key: &str) -> Instance {
        Instance {
            id: id(number),
            saga: "order".into(),
            key: key.into(),
            version: 1,
            state: State::Running,
            input: Data::of(&number).expect("a number"),
            context: Data::null(),
            correlation_id: format!("flow-{key}").into(),
            status: None,
            output: None,
            error: None,
            started_at: self.now(),
            changed_at: self.now(),
            wake_at: None,
            owner: None,
            parent: None,
        }
    }

    /// One that `owner` has, in the journal.
    async fn owned(&self, number: u8, owner: &str) -> Uuid {
        let instance = Instance {
            owner: Some(owner.into()),
            ..self.instance(number, &format!("key-{number}"))
        };
        assert_eq!(self.write_one(start(&instance)).await, Written::Done);
        instance.id
    }

    /// One that has come to a state and that nobody has, in the journal.
    async fn settled(&self, number: u8, state: State) -> Uuid {
        let id = self.owned(number, "a").await;
        let change = Change {
            release: true,
            ..Change::to(state)
        };
        let written = self.write_one(went(id, "a", vec![], Some(change))).await;
        assert_eq!(written, Written::Done);
        id
    }

    fn entry(&self, seq: u64, name: &str) -> Entry {
        Entry {
            seq,
            place: seq.to_string().into(),
            name: name.into(),
            began: self.now(),
            at: self.now(),
            body: Body::Done {
                input: None,
                output: Data::of(name).expect("a text"),
                attempt: 1,
                by: None,
            },
        }
    }

    fn message(&self, id: &str) -> Message {
        Message {
            id: id.into(),
            name: "paid".into(),
            data: Data::of(id).expect("a text"),
            at: self.now(),
        }
    }
}

/// An id; a larger number is a newer one.
fn id(number: u8) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 | u128::from(number))
}

fn start(instance: &Instance) -> Write {
    Write::Start(Box::new(instance.clone()))
}

fn went(id: Uuid, owner: &str, entries: Vec<Entry>, change: Option<Change>) -> Write {
    Write::Went(Went {
        id,
        owner: owner.into(),
        entries,
        status: None,
        change: change.map(Box::new),
    })
}

fn tell(id: Uuid, message: &Message) -> Write {
    Write::Tell(Which::Id(id), message.clone())
}

fn seqs(record: &Record) -> Vec<u64> {
    record.entries.iter().map(|entry| entry.seq).collect()
}

fn told(record: &Record) -> Vec<ByteString> {
    let messages = record.messages.iter();
    messages.map(|message| message.id.clone()).collect()
}
