//! Dead letters in sequence: a failing event parks its key, and later events of that key queue up
//! behind it in order, while all other keys go on.

mod changes;

use std::fmt;

use bytestring::ByteString;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use trunkline_core::{Envelope, Error, Result, Retry, report};

pub use self::changes::{Change, ChangeTeller, Changes};

/// Where dead letters are kept, durably: one lot per service, over its own store, for all members of
/// its groups, in however many processes they run.
///
/// # Guarantees
/// `park` is durable when it returns. Letters of one (group, key) keep the order in which they were
/// parked. Parking the same (group, event id) twice keeps one letter. A key that has no letters is free,
/// and what only waits behind others is never kept for a free key.
pub trait ParkingLot: Send + Sync + fmt::Debug + 'static {
    /// Keeps letters, in order, and says which of their keys are free. A letter with an error parks its
    /// key. One without only waits behind another: where its key has no letter by then, because a member
    /// replayed them meanwhile, it is not kept, nor are the other letters without an error of that key in
    /// this call; the key is among those returned, and the events are to be handled.
    fn park<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<Vec<ByteString>>>;

    /// The keys of `group` that have letters; with `among`, those of them that are named there.
    fn parked_keys<'a>(
        &'a self,
        group: &'a str,
        among: Option<&'a [ByteString]>,
    ) -> BoxFuture<'a, Result<Vec<ByteString>>>;

    /// Letters that match, oldest first.
    fn list<'a>(&'a self, query: &'a DeadLetterQuery) -> BoxFuture<'a, Result<Vec<DeadLetter>>>;

    /// Replaces a letter (edited data, one more attempt, a new error), but for how often it was recovered, which is for
    /// whoever decides that. It tells of a letter with an error as parking does. `NotFound` if it is gone.
    fn update<'a>(&'a self, letter: &'a DeadLetter) -> BoxFuture<'a, Result<()>>;

    /// Removes a letter: replayed or discarded. `NotFound` if it is gone.
    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Removes a letter because a replay has handled it, which a lot may tell somebody of. `NotFound` if it is gone.
    fn handled<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        self.remove(id)
    }

    /// Tells from now on of keys that are parked or free again, whoever did it.
    fn changes(&self) -> Changes;

    /// The right to replay, edit and discard the letters of `group`, which one holds at a time in all
    /// processes; none while somebody else has it.
    fn reserve<'a>(&'a self, group: &'a str)
    -> BoxFuture<'a, Result<Option<Box<dyn Reservation>>>>;
}

/// The right to replay, edit and discard a group's letters. Dropped, it is given up.
pub trait Reservation: Send + fmt::Debug {
    /// Fails when the right is lost, because the server that kept it has forgotten it.
    fn check(&mut self) -> BoxFuture<'_, Result<()>>;
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetter {
    /// Its own id (a UUID v7, in the order of parking).
    pub id: ByteString,
    /// The group that could not handle it.
    pub group: ByteString,
    /// The key that it parks: the event's key, or its id where it has none.
    pub key: ByteString,
    /// The event, as it came or as it was edited.
    #[serde(skip)]
    pub envelope: Envelope,
    /// The event's data before its first edit.
    #[serde(skip)]
    pub original: Option<bytes::Bytes>,
    /// Why it failed, with the chain of causes; none for one that only waits behind another.
    pub error: Option<String>,
    /// The stable code of the error.
    pub code: Option<String>,
    /// Whether the error said that trying again makes sense; none where that is not known.
    pub retry: Option<Retry>,
    /// How often it was handled in vain.
    pub attempts: u32,
    /// How often it was replayed in vain: the loop guard's count.
    pub replays: u32,
    /// How often its service decided to have it replayed by itself.
    pub recoveries: u32,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// When it last failed.
    pub failed_at: Option<Timestamp>,
    /// When its service decided what becomes of it; none before that, and anew when it has failed again.
    pub decided_at: Option<Timestamp>,
    /// When it is replayed by itself; none for one that is kept.
    pub retry_at: Option<Timestamp>,
}

impl DeadLetter {
    /// Notes that it has failed once more: whatever was decided before is past.
    pub(crate) fn fails(&mut self, error: &Error, at: Timestamp) {
        self.error = Some(report(error).to_string());
        self.code = Some(error.code().to_owned());
        self.retry = Some(error.retry());
        self.attempts = self.attempts.saturating_add(1);
        self.replays = self.replays.saturating_add(1);
        self.failed_at = Some(at);
        (self.decided_at, self.retry_at) = (None, None);
    }
}

/// Which dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterQuery {
    /// Of this group.
    pub group: Option<ByteString>,
    /// Of this key.
    pub key: Option<ByteString>,
    /// Of this event type.
    pub event_type: Option<ByteString>,
    /// This one.
    pub id: Option<ByteString>,
    /// Only those after this id.
    pub after: Option<ByteString>,
    /// At most this many; 0 means 100. At most 1,000.
    pub limit: usize,
}
