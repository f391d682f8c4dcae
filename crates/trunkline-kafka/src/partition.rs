//! A partition that a subscription holds: what is out of it, and up to where it is done.

mod ledger;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use parking_lot::Mutex;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use tokio::time::Instant;
use trunkline_bus::{Delivery, Receipt, Settlement, Settler};
use trunkline_core::{Arrival, Env, Envelope, Error, Form, Timestamp};

use self::ledger::Ledger;
use crate::client::ReaderContext;
use crate::desk::Desk;
use crate::wire::{Raw, Scratch};

/// The longest pause of a retry; a longer one would outlast everything else here.
const PAUSE_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The queue of a partition's messages.
pub(crate) type Queue = PartitionQueue<ReaderContext>;

/// A partition, from its assignment to its end. It settles its own deliveries.
pub(crate) struct Partition {
    pub(crate) topic: ByteString,
    /// The topic's name in the cluster.
    pub(crate) full: String,
    pub(crate) number: i32,
    desk: Arc<Desk>,
    /// None once the partition is somebody else's.
    queue: Mutex<Option<Queue>>,
    ledger: Mutex<Ledger>,
}

/// What is needed to read a record.
pub(crate) struct Reading {
    pub(crate) form: Form,
    pub(crate) env: Env,
    pub(crate) scratch: Scratch,
}

impl Partition {
    /// `start` is the offset where it begins, if that is known.
    pub(crate) fn new(
        desk: Arc<Desk>,
        (topic, full, number): (ByteString, String, i32),
        queue: Queue,
        start: Option<i64>,
    ) -> Self {
        Self {
            topic,
            full,
            number,
            desk,
            queue: Mutex::new(Some(queue)),
            ledger: Mutex::new(Ledger::new(start)),
        }
    }

    /// Takes at most `max` deliveries: those that are due again, then new ones as far as there is room.
    pub(crate) fn take(
        self: &Arc<Self>,
        max: usize,
        reading: &mut Reading,
        into: &mut Vec<Delivery>,
    ) -> Result<(), KafkaError> {
        let before = into.len();
        let mut arrival = Arrival::new(self.topic.clone(), Timestamp::UNIX_EPOCH);
        // Only this call makes new ones, so their tokens are known before the ledger has them.
        let (due, first) = {
            let mut ledger = self.ledger.lock();
            (ledger.due(max, Instant::now()), ledger.next_token())
        };
        into.extend(due.into_iter().map(|again| {
            let place = (self.number, again.offset);
            let event = again.record.read(reading.form, &mut arrival, place);
            let redeliveries = again.redeliveries;
            self.delivery(event, again.offset, redeliveries, again.token)
        }));
        let room = self.desk.room().min(max - (into.len() - before));
        let mut queue = self.queue.lock();
        let Some(messages) = queue.as_mut() else {
            return Ok(());
        };
        let (before, mut token) = (into.len(), first);
        let mut fresh = Vec::new();
        let mut outcome = Ok(());
        while fresh.len() < room
            && let Some(message) = messages.poll(Duration::ZERO)
        {
            let message = match message {
                Ok(message) => message,
                Err(failed) => {
                    outcome = Err(failed);
                    break;
                }
            };
            let raw = Raw::copy(&message, &reading.env, &mut reading.scratch);
            let offset = message.offset();
            drop(message);
            let event = raw.read(reading.form, &mut arrival, (self.number, offset));
            into.push(self.delivery(event, offset, 0, token));
            fresh.push((offset, raw));
            token += 1;
        }
        self.enter((first, fresh), into, before);
        outcome
    }

    /// The new ones from `before` on are out now, all at once, with the tokens from `first` on.
    fn enter(
        &self,
        (first, fresh): (u64, Vec<(i64, Raw)>),
        into: &mut Vec<Delivery>,
        before: usize,
    ) {
        let count = fresh.len();
        if count == 0 {
            return;
        }
        self.desk.enter(count);
        let is_ours = self.ledger.lock().out(first, fresh);
        // It was taken away meanwhile: they come to whoever has it now, and settling them here means nothing.
        if !is_ours {
            self.desk.exit(count);
            into.truncate(before);
        }
    }

    fn delivery(
        self: &Arc<Self>,
        (envelope, unreadable): (Envelope, Option<Error>),
        offset: i64,
        redeliveries: u32,
        token: u64,
    ) -> Delivery {
        Delivery {
            envelope,
            offset: u64::try_from(offset).unwrap_or(0),
            partition: u16::try_from(self.number).unwrap_or(u16::MAX),
            redeliveries,
            unreadable,
            receipt: Receipt::new(self.clone(), token),
        }
    }

    /// When the next delivery of it is due again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.ledger.lock().next_due()
    }

    /// It moves to another member: nothing more is given out, nothing more begins.
    pub(crate) fn begin_move(&self) {
        self.ledger.lock().moving = true;
    }

    /// Whether something of it is being handled.
    pub(crate) fn is_busy(&self) -> bool {
        self.ledger.lock().begun > 0
    }

    /// It is no longer ours: what is out of it is void.
    pub(crate) fn end(&self) {
        let out = self.ledger.lock().end();
        self.desk.exit(out);
        drop(self.queue.lock().take());
    }

    /// The position to be committed, if it is not yet.
    pub(crate) fn uncommitted(&self) -> Option<i64> {
        self.ledger.lock().uncommitted()
    }

    pub(crate) fn committed(&self, position: i64) {
        self.ledger.lock().committed = Some(position);
    }

    /// The lowest unfinished offset, if it is known, and how many beyond it are done.
    pub(crate) fn progress(&self) -> (Option<i64>, u64) {
        self.ledger.lock().progress()
    }
}

impl Settler for Partition {
    fn begin(&self, token: u64) -> bool {
        self.ledger.lock().begin(token)
    }

    fn settle(&self, token: u64, how: Settlement) {
        let mut ledger = self.ledger.lock();
        let was_busy = ledger.begun > 0;
        match how {
            Settlement::Ack => {
                let before = ledger.uncommitted();
                if !ledger.ack(token) {
                    return;
                }
                let soiled = before.is_none() && ledger.uncommitted().is_some();
                let idle = was_busy && ledger.begun == 0 && ledger.moving;
                drop(ledger);
                self.desk.acknowledged(soiled, idle);
            }
            Settlement::Retry(pause) => {
                let due = Instant::now() + pause.min(PAUSE_MAX);
                if !ledger.retry(token, due) {
                    return;
                }
                let idle = was_busy && ledger.begun == 0 && ledger.moving;
                drop(ledger);
                self.desk.given_back(idle);
            }
        }
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.full, self.number)
    }
}
