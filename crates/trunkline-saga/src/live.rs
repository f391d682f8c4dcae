//! An instance while a process has it: what is known of its journal, and what is to be written next.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;
use parking_lot::Mutex;
use trunkline_core::{Env, Error, Result, Retry};

use crate::Data;
use crate::engine::Parts;
use crate::host::Host;
use crate::journal::{
    Body, Change, Entry, Fault, Instance, Message, Record, State, Went, Write, Written,
};
use crate::saga::undo::Undo;
use crate::writer;

mod past;
mod rest;

pub(crate) use past::Kind;
use past::{Past, changed_code};
pub(crate) use rest::Busy;
use rest::Rest;

/// How many entries an instance may have. One with more is parked: a saga that loops for ever is two sagas.
pub const ENTRIES_MAX: u64 = 10_000;

/// The message that cancels.
pub(crate) const CANCEL: &str = "$cancel";
/// What the place of an entry begins with that belongs to no operation.
pub(crate) const WHOLE: &str = "$";

pub(crate) struct Live<H: Host> {
    pub(crate) parts: Arc<Parts<H>>,
    pub(crate) instance: Arc<Instance>,
    /// Somebody may have run it before, so what has not ended may have been begun.
    pub(crate) is_resumed: bool,
    core: Mutex<Core<H>>,
    /// One write at a time, so that whoever wants all before it to be durable waits for it.
    order: tokio::sync::Mutex<()>,
}

struct Core<H: Host> {
    next_seq: u64,
    /// Not durable yet.
    pending: Vec<Entry>,
    status: Option<Data>,
    /// The last that was written.
    said: Option<Data>,
    past: HashMap<ByteString, Past>,
    asked: HashSet<ByteString>,
    messages: Vec<Message>,
    read: HashSet<ByteString>,
    /// Attempts and writes on their way: while there are some the instance does not rest.
    busy: usize,
    waits: HashMap<u64, Rest>,
    next_wait: u64,
    undo: Vec<Undo<H>>,
    lost: Vec<ByteString>,
    cancelled: Option<Fault>,
    revoked: bool,
    undoing: bool,
    checks: bool,
    halt: Option<Halt>,
    driver: Option<Waker>,
}

/// Why an instance can't go on in this process.
#[derive(Debug, Clone)]
pub(crate) enum Halt {
    /// What is known of its journal is not true any more.
    Reload,
    /// A person has to look.
    Park(Fault),
    /// The engine stops.
    Stop,
    /// It was only to be seen whether the code fits the journal, and as far as that goes it does.
    Fits,
}

/// Time to the next rest's end that is waited for in memory.
const DOZE_MAX: Duration = Duration::from_secs(1);

impl<H: Host> Live<H> {
    pub(crate) fn new(parts: Arc<Parts<H>>, record: Record, is_resumed: bool) -> Self {
        let mut past: HashMap<ByteString, Past> = HashMap::new();
        let mut read = HashSet::new();
        let (mut cancelled, mut revoked, mut next_seq) = (None, false, 0);
        for entry in record.entries {
            next_seq = next_seq.max(entry.seq + 1);
            match &entry.body {
                Body::Received { message, .. } => drop(read.insert(message.clone())),
                Body::Cancelled { message, error } => {
                    read.insert(message.clone());
                    // What its first reader was unsure of is not the others' business.
                    cancelled = Some(error.clone().with_retry(Retry::Permanent));
                    revoked |= entry.place == WHOLE;
                }
                _ => {}
            }
            let known = past.entry(entry.place.clone()).or_insert_with(|| Past {
                name: entry.name.clone(),
                kind: Kind::of(&entry.body).unwrap_or(Kind::Step),
                entries: Vec::new(),
            });
            if let Some(kind) = Kind::of(&entry.body).filter(|_| known.kind != Kind::Child) {
                known.kind = kind;
            }
            known.entries.push(entry);
        }
        let said = record.instance.status.clone();
        Self {
            parts,
            instance: Arc::new(record.instance),
            is_resumed,
            core: Mutex::new(Core {
                next_seq,
                pending: Vec::new(),
                status: None,
                said,
                past,
                asked: HashSet::new(),
                messages: record.messages,
                read,
                busy: 0,
                waits: HashMap::new(),
                next_wait: 0,
                undo: Vec::new(),
                lost: Vec::new(),
                cancelled,
                revoked,
                undoing: false,
                checks: false,
                halt: None,
                driver: None,
            }),
            order: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn env(&self) -> &Env {
        &self.parts.env
    }

    // --- what the journal has

    /// What is known of the operation at this place; whoever asks is that operation.
    ///
    /// Where the journal has another one there, the code is not what the instance ran with: it halts.
    pub(crate) fn past(&self, place: &ByteString, name: &ByteString, kind: Kind) -> Vec<Entry> {
        let mut core = self.core.lock();
        core.asked.insert(place.clone());
        let Some(past) = core.past.get(place) else {
            return Vec::new();
        };
        let judged = past.entries.iter().any(|e| Kind::of(&e.body).is_some());
        if past.name == *name && (past.kind == kind || !judged) {
            return past.entries.clone();
        }
        let error = changed_code(
            format!("{} `{}`", past.kind, past.name),
            format!("{kind} `{name}`"),
            place,
        );
        halt(&mut core, Halt::Park(Fault::of(&error)));
        Vec::new()
    }

    /// All entries of the operation at this place, whatever it is.
    pub(crate) fn entries(&self, place: &str) -> Vec<Entry> {
        let core = self.core.lock();
        core.past
            .get(place)
            .map_or_else(Vec::new, |past| past.entries.clone())
    }

    /// Checks, when the function has ended, that it asked for everything that the journal has.
    pub(crate) fn check_complete(&self) {
        let mut core = self.core.lock();
        let forgotten = core
            .past
            .iter()
            .filter(|(place, _)| !place.starts_with(WHOLE) && !core.asked.contains(*place))
            .filter(|(place, _)| !core.lost.iter().any(|lost| place.starts_with(&**lost)))
            .min_by_key(|(_, past)| past.entries.first().map(|entry| entry.seq));
        if let Some((place, past)) = forgotten {
            let found = format!("{} `{}`", past.kind, past.name);
            let error = changed_code(found, "the end of the function".into(), place);
            halt(&mut core, Halt::Park(Fault::of(&error)));
        }
    }

    // --- what is to be written

    /// Notes something, to be written with whatever is written next.
    pub(crate) fn note(
        &self,
        place: &ByteString,
        name: &ByteString,
        began: Timestamp,
        body: Body,
    ) -> u64 {
        let mut core = self.core.lock();
        let seq = core.next_seq;
        core.next_seq += 1;
        let at = self.parts.env.now();
        core.pending.push(Entry {
            seq,
            place: place.clone(),
            name: name.clone(),
            began,
            at,
            body,
        });
        if seq >= ENTRIES_MAX {
            let error = Error::conflict(
                "saga_too_long",
                "an instance has more entries than its bound",
            )
            .with("entries_max", ENTRIES_MAX);
            halt(&mut core, Halt::Park(Fault::of(&error)));
        }
        seq
    }

    pub(crate) fn say(&self, status: Data) {
        let mut core = self.core.lock();
        // What is said again while the function is run again is no news.
        core.status = (core.said.as_ref() != Some(&status)).then_some(status);
    }

    /// Takes what is to be written, for a write that is made by somebody else.
    pub(crate) fn take_pending(&self) -> Went {
        let mut core = self.core.lock();
        if core.status.is_some() {
            core.said = core.status.clone();
        }
        Went {
            entries: std::mem::take(&mut core.pending),
            status: core.status.take(),
            ..self.nothing()
        }
    }

    /// Gives it back, to be written with what is written next.
    pub(crate) fn give_back(&self, went: Went) {
        let mut core = self.core.lock();
        let later = std::mem::replace(&mut core.pending, went.entries);
        core.pending.extend(later);
        if went.status.is_some() {
            core.said = None;
            core.status = core.status.take().or(went.status);
        }
    }

    /// Returns when all that was noted is durable. Effects come after this.
    pub(crate) async fn flush(&self) {
        self.write(None).await;
    }

    /// The same together with a change.
    pub(crate) async fn write(&self, change: Option<Change>) {
        let _order = self.in_order().await;
        let mut went = self.take_pending();
        went.change = change.map(Box::new);
        if went.entries.is_empty() && went.status.is_none() && went.change.is_none() {
            return;
        }
        let kept = self.parts.probe.is_some().then(|| went.clone());
        let written = self.parts.write(Write::Went(went)).await;
        self.settle_write(written).await;
        if let Some(went) = kept {
            self.probed(&went).await;
        }
    }

    /// A test may let the process forget the instance now.
    pub(crate) async fn probed(&self, went: &Went) {
        let probe = self.parts.probe.as_ref();
        if probe.is_some_and(|probe| probe.crashes_after(went)) {
            self.halted::<()>(Halt::Reload).await;
        }
    }

    /// Writes are made one by one.
    pub(crate) async fn in_order(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.order.lock().await
    }

    /// A write that says nothing.
    pub(crate) fn nothing(&self) -> Went {
        Went {
            id: self.instance.id,
            owner: self.parts.owner.clone(),
            entries: Vec::new(),
            status: None,
            change: None,
        }
    }

    /// Goes on only if the write was made.
    async fn settle_write(&self, written: Result<Written>) {
        match written {
            Ok(Written::Done) => {}
            Ok(_) => self.halted(Halt::Reload).await,
            Err(error) if writer::is_away(&error) => self.halted(Halt::Stop).await,
            Err(error) => self.halted(Halt::Park(Fault::of(&error))).await,
        }
    }

    // --- stopping

    /// The instance does not go on here: whoever awaits this does not either, and is dropped.
    pub(crate) async fn halted<T>(&self, why: Halt) -> T {
        self.halt(why);
        pending().await
    }

    pub(crate) fn halt(&self, why: Halt) {
        halt(&mut self.core.lock(), why);
    }

    /// From here on nothing happens but looking: what would be done is not.
    pub(crate) fn only_checks(&self) {
        self.core.lock().checks = true;
    }

    /// An operation that has not ended is about to begin: not where it is only seen whether the code fits.
    pub(crate) async fn begins(&self) {
        if self.core.lock().checks {
            self.halted::<()>(Halt::Fits).await;
        }
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.core.lock().halt.is_some()
    }

    /// What the driver is to do after a poll: why the instance halts, or until when it rests.
    pub(crate) fn look(&self, driver: &Waker) -> Look {
        let mut core = self.core.lock();
        if let Some(halt) = core.halt.clone() {
            return Look::Halts(halt);
        }
        core.driver = Some(driver.clone());
        if core.busy == 0 && self.parts.stopping.load(Ordering::Acquire) {
            return Look::Halts(Halt::Stop);
        }
        if core.busy > 0 || core.waits.is_empty() {
            return Look::Runs;
        }
        let wake_at = core.waits.values().filter_map(|rest| rest.until).min();
        let soon = self.parts.env.after(DOZE_MAX);
        if wake_at.is_some_and(|at| at <= soon) {
            return Look::Runs;
        }
        Look::Rests {
            wake_at,
            messages: core.messages.len(),
        }
    }

    /// Looks at how it stands once more.
    pub(crate) fn wake(&self) {
        if let Some(driver) = self.core.lock().driver.take() {
            driver.wake();
        }
    }

    // --- messages

    /// Messages came. Those that are known already change nothing.
    pub(crate) fn tell(&self, messages: impl IntoIterator<Item = Message>) {
        let mut core = self.core.lock();
        for message in messages {
            if !core.messages.iter().any(|known| known.id == message.id) {
                core.messages.push(message);
            }
        }
        for rest in core.waits.values() {
            rest.waker.wake_by_ref();
        }
    }

    /// Takes the first unread message of this name.
    pub(crate) fn take_message(&self, name: &str) -> Option<Message> {
        let mut core = self.core.lock();
        let core = &mut *core;
        let found = core
            .messages
            .iter()
            .find(|message| message.name == name && !core.read.contains(&message.id))?;
        core.read.insert(found.id.clone());
        Some(found.clone())
    }

    // --- cancelling

    /// Why the instance is cancelled, if it is; the operation at this place is the first to know, and may be `unsure` of what it did
    /// before.
    pub(crate) fn cancelled(
        &self,
        place: &ByteString,
        name: &ByteString,
        unsure: bool,
    ) -> Option<Error> {
        {
            let core = self.core.lock();
            if core.undoing {
                return None;
            }
            if let Some(fault) = &core.cancelled {
                return Some(fault.error());
            }
        }
        let message = self.take_message(CANCEL)?;
        let why = message.data.get::<String>().unwrap_or_default();
        let error = Error::conflict("saga_cancelled", "the saga was cancelled").with("why", why);
        let fault = Fault::of(&error);
        let body = Body::Cancelled {
            message: message.id,
            error: match unsure {
                true => fault.clone().with_retry(Retry::Unknown),
                false => fault.clone(),
            },
        };
        self.note(place, name, self.env().now(), body);
        self.core.lock().cancelled = Some(fault);
        Some(error)
    }

    /// A person, or its parent, has it undone although it was completed.
    pub(crate) fn revoked(&self) -> Option<Error> {
        let core = self.core.lock();
        core.cancelled
            .as_ref()
            .filter(|_| core.revoked)
            .map(Fault::error)
    }

    // --- undoing

    pub(crate) fn push_undo(&self, undo: Undo<H>) {
        self.core.lock().undo.push(undo);
    }

    /// What is to be undone, the last first; all of it, or what was done in branches that lost.
    pub(crate) fn take_undo(&self, below: Option<&str>) -> Vec<Undo<H>> {
        let mut core = self.core.lock();
        let (mut taken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut core.undo)
            .into_iter()
            .partition(|undo| below.is_none_or(|below| undo.place.starts_with(below)));
        core.undo = kept;
        core.undoing |= below.is_none();
        drop(core);
        taken.sort_by_key(|undo| std::cmp::Reverse(undo.seq));
        taken
    }

    /// From now on an operation in this branch that has not ended does not begin.
    pub(crate) fn lose(&self, branch: ByteString) {
        self.core.lock().lost.push(branch);
    }

    pub(crate) fn is_lost(&self, place: &str) -> bool {
        let core = self.core.lock();
        core.lost.iter().any(|lost| place.starts_with(&**lost))
    }

    /// What the instance is while it rests.
    pub(crate) fn resting_state(&self) -> State {
        if self.core.lock().undoing {
            State::Compensating
        } else {
            State::Waiting
        }
    }

    /// The number that the next entry gets.
    pub(crate) fn next_seq(&self) -> u64 {
        self.core.lock().next_seq
    }
}

fn halt<H: Host>(core: &mut Core<H>, why: Halt) {
    core.halt.get_or_insert(why);
    if let Some(driver) = core.driver.take() {
        driver.wake();
    }
}

/// What an instance does.
#[derive(Debug)]
pub(crate) enum Look {
    /// It goes on by itself.
    Runs,
    /// Nothing happens until then, or until there are more messages than these.
    Rests {
        wake_at: Option<Timestamp>,
        messages: usize,
    },
    /// It does not go on here.
    Halts(Halt),
}
