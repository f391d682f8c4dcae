//! A journal in memory, for tests.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use trunkline_core::{Env, Result};
use uuid::Uuid;

use crate::Data;
use crate::journal::{
    Body, Change, Claim, Claimed, Instance, Journal, LISTED_BYTES_MAX, MESSAGES_MAX, Mend, Message,
    Query, Record, State, Went, Which, Write, Written,
};

/// A journal that is gone with its process: for tests, which can keep it while they throw engines away.
#[derive(Debug)]
pub struct MemoryJournal {
    env: Env,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    records: BTreeMap<Uuid, Record>,
    owners: BTreeMap<String, Timestamp>,
}

impl MemoryJournal {
    /// An empty one.
    pub fn new(env: Env) -> Self {
        Self {
            env,
            kept: Mutex::default(),
        }
    }

    /// Takes away all of an instance's entries from this `seq` on and lets it go on, as if its process had died there.
    pub fn cut(&self, id: Uuid, seq: u64) {
        let mut kept = self.kept.lock();
        if let Some(record) = kept.records.get_mut(&id) {
            record.entries.retain(|entry| entry.seq < seq);
            record.instance.state = State::Running;
            record.instance.owner = None;
            record.instance.wake_at = Some(self.env.now());
            record.instance.changed_at = self.env.now();
        }
    }

    /// Takes all owners for dead, as a clock does that is set forward.
    pub fn forget_owners(&self) {
        self.kept.lock().owners.clear();
    }
}

impl Journal for MemoryJournal {
    fn write<'a>(&'a self, batch: &'a [Write]) -> BoxFuture<'a, Result<Vec<Written>>> {
        let mut kept = self.kept.lock();
        let now = self.env.now();
        let written = batch.iter().map(|write| kept.write(write, now)).collect();
        async move { Ok(written) }.boxed()
    }

    fn load<'a>(&'a self, which: &'a Which) -> BoxFuture<'a, Result<Option<Record>>> {
        let found = self.kept.lock().find(which).map(|record| record.clone());
        async move { Ok(found) }.boxed()
    }

    fn claim<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Claimed>> {
        let claimed = self.kept.lock().claim(claim, &self.env);
        async move { Ok(claimed) }.boxed()
    }

    fn list<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Vec<Instance>>> {
        let kept = self.kept.lock();
        let max = match query.max {
            0 => 100,
            max => max.min(1_000),
        };
        let fits = |instance: &&Instance| {
            query.id.is_none_or(|id| id == instance.id)
                && query
                    .saga
                    .as_ref()
                    .is_none_or(|saga| *saga == instance.saga)
                && query.state.is_none_or(|state| state == instance.state)
                && query.key.as_ref().is_none_or(|key| *key == instance.key)
                && query
                    .parent
                    .is_none_or(|parent| Some(parent) == instance.parent)
                && query.after.is_none_or(|after| instance.id < after)
                && query
                    .started_before
                    .is_none_or(|before| instance.started_at < before)
                && query
                    .correlation_id
                    .as_ref()
                    .is_none_or(|id| *id == instance.correlation_id)
        };
        let newest = kept.records.values().rev().map(|record| &record.instance);
        let found = newest
            .filter(fits)
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .map(listed)
            .collect();
        async move { Ok(found) }.boxed()
    }
}

impl Kept {
    fn find(&mut self, which: &Which) -> Option<&mut Record> {
        match which {
            Which::Id(id) => self.records.get_mut(id),
            Which::Key(saga, key) => self
                .records
                .values_mut()
                .find(|record| record.instance.saga == *saga && record.instance.key == *key),
        }
    }

    fn write(&mut self, write: &Write, now: Timestamp) -> Written {
        match write {
            Write::Start(instance) => {
                let which = Which::Key(instance.saga.clone(), instance.key.clone());
                if let Some(there) = self.find(&which) {
                    return Written::Exists(Box::new(there.instance.clone()));
                }
                let record = Record {
                    instance: (**instance).clone(),
                    entries: Vec::new(),
                    messages: Vec::new(),
                };
                self.records.insert(instance.id, record);
                Written::Done
            }
            Write::Went(went) => self.went(went, now),
            Write::Tell(which, message) => self.tell(which, message, now),
            Write::Mend(mend) => self.mend(mend, now),
            Write::Prune(before, max) => {
                let old: Vec<Uuid> = self
                    .records
                    .values()
                    .map(|record| &record.instance)
                    .filter(|one| one.state.has_ended() && one.changed_at < *before)
                    .map(|one| one.id)
                    .take(usize::try_from(*max).unwrap_or(usize::MAX))
                    .collect();
                self.records.retain(|id, _| !old.contains(id));
                match u32::try_from(old.len()) == Ok(*max) {
                    true => Written::Full,
                    false => Written::Done,
                }
            }
        }
    }

    fn went(&mut self, went: &Went, now: Timestamp) -> Written {
        let Some(record) = self.records.get_mut(&went.id) else {
            return Written::Lost;
        };
        let taken = |seq: u64| record.entries.iter().any(|entry| entry.seq == seq);
        if went.entries.iter().any(|entry| taken(entry.seq)) {
            return Written::Lost;
        }
        if let Some(change) = &went.change {
            let other = record.instance.owner.as_ref() != Some(&went.owner);
            let more = change
                .messages
                .is_some_and(|seen| record.messages.len() > seen);
            if other || more {
                return Written::Lost;
            }
        }
        record.entries.extend(went.entries.iter().cloned());
        record.entries.sort_by_key(|entry| entry.seq);
        record.instance.changed_at = now;
        if went.status.is_some() {
            record.instance.status = went.status.clone();
        }
        let Some(change) = &went.change else {
            return Written::Done;
        };
        changed(&mut record.instance, change);
        if let Some((parent, message)) = &change.tell_parent {
            self.tell(&Which::Id(*parent), message, now);
        }
        Written::Done
    }

    fn tell(&mut self, which: &Which, message: &Message, now: Timestamp) -> Written {
        let Some(record) = self.find(which) else {
            return Written::NotFound;
        };
        if record.messages.iter().any(|known| known.id == message.id) {
            return Written::Done;
        }
        if record.instance.state.has_ended() {
            return Written::Ended;
        }
        let read = |message: &Message| {
            record.entries.iter().any(|entry| match &entry.body {
                Body::Received { message: read, .. } | Body::Cancelled { message: read, .. } => {
                    *read == message.id
                }
                _ => false,
            })
        };
        let unread = record.messages.iter().filter(|message| !read(message));
        if unread.count() >= MESSAGES_MAX {
            return Written::Full;
        }
        record.messages.push(message.clone());
        if record.instance.state != State::Parked {
            record.instance.wake_at = Some(now);
        }
        Written::Done
    }

    fn mend(&mut self, mend: &Mend, now: Timestamp) -> Written {
        let Some(record) = self.find(&mend.which) else {
            return Written::NotFound;
        };
        let instance = &record.instance;
        if instance.owner.is_some() || !mend.from.contains(&instance.state) {
            return Written::Lost;
        }
        let stays = |seq: u64| mend.cut_from.is_none_or(|cut| seq < cut);
        let taken = |seq: u64| record.entries.iter().any(|e| e.seq == seq && stays(seq));
        if mend.entries.iter().any(|entry| taken(entry.seq)) {
            return Written::Lost;
        }
        record.entries.retain(|entry| stays(entry.seq));
        record.entries.extend(mend.entries.iter().cloned());
        record.instance.state = mend.to;
        record.instance.version = mend.version.unwrap_or(record.instance.version);
        record.instance.error = None;
        record.instance.output = None;
        record.instance.changed_at = now;
        record.instance.wake_at = Some(now);
        Written::Done
    }

    fn claim(&mut self, claim: &Claim, env: &Env) -> Claimed {
        let now = env.now();
        self.owners
            .insert(claim.owner.to_string(), env.after(claim.lease));
        let dead = |owner: &str| self.owners.get(owner).is_none_or(|until| *until <= now);
        let mut claimed = Claimed::default();
        let mut due = Vec::new();
        for record in self.records.values_mut() {
            let one = &mut record.instance;
            if !claim.sagas.contains(&one.saga)
                || one.state.has_ended()
                || one.state == State::Parked
            {
                continue;
            }
            if one.owner.as_deref().is_some_and(dead) {
                one.owner = None;
                one.wake_at = Some(now);
                one.changed_at = now;
            }
            let Some(wake_at) = one.wake_at else { continue };
            let own = one.owner.as_ref() == Some(&claim.owner);
            match (wake_at <= now, own, one.owner.is_none()) {
                (true, true, _) => {
                    one.wake_at = None;
                    claimed.told.push(one.id);
                }
                (true, false, true) => due.push((wake_at, one.id)),
                (false, _, true) => {
                    claimed.next = Some(claimed.next.map_or(wake_at, |next| next.min(wake_at)));
                }
                _ => {}
            }
        }
        due.sort();
        for (_, id) in due.into_iter().take(claim.max) {
            if let Some(record) = self.records.get_mut(&id) {
                record.instance.owner = Some(claim.owner.clone());
                record.instance.wake_at = None;
                claimed.ids.push(id);
            }
        }
        claimed
    }
}

fn changed(instance: &mut Instance, change: &Change) {
    instance.state = change.state;
    instance.output = change.output.clone().or(instance.output.take());
    instance.error = change.error.clone().or(instance.error.take());
    instance.wake_at = change.wake_at;
    if change.release {
        instance.owner = None;
    }
}

/// An instance as a list has it.
fn listed(instance: &Instance) -> Instance {
    let mut one = instance.clone();
    one.input = Data::null();
    one.context = Data::null();
    one.output = None;
    one.status = one
        .status
        .filter(|status| status.text().len() <= LISTED_BYTES_MAX);
    one
}
