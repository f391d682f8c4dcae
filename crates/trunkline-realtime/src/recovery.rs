//! Coming back: who was cut off is who they were, and gets what they missed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunkline_core::{Env, Result};

use crate::backbone::Offset;
use crate::namespace::Member;
use crate::queue::Out;
use crate::rooms::Target;

/// So many who were cut off are remembered at once; the oldest is forgotten first.
const AWAY_MAX: usize = 100_000;

/// Who comes back.
#[derive(Debug, Clone)]
pub(crate) struct Back {
    pub(crate) id: ByteString,
    pub(crate) pid: ByteString,
    pub(crate) rooms: BTreeSet<ByteString>,
    /// The last that they have seen.
    seen: Offset,
}

/// Who was cut off.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Away {
    pub(crate) id: ByteString,
    pub(crate) rooms: BTreeSet<ByteString>,
    pub(crate) user: Option<ByteString>,
    until: Timestamp,
}

struct Noted {
    offset: Offset,
    target: Target,
    out: Out,
}

#[derive(Default)]
struct Memory {
    away: HashMap<ByteString, Away>,
    /// In the order in which they went.
    order: VecDeque<(ByteString, Timestamp)>,
    log: VecDeque<Noted>,
    /// The number of the first in the log, which all of them have in their order.
    first: u64,
    /// The number of each offset in the log.
    numbers: HashMap<Offset, u64>,
    next: u64,
}

impl Memory {
    fn knows(&self, offset: Offset) -> bool {
        self.numbers.contains_key(&offset)
    }

    /// What came after an offset; none where that is not known any more.
    fn after(&self, seen: Offset) -> Option<impl Iterator<Item = &Noted>> {
        let number = self.numbers.get(&seen)?;
        let skipped = usize::try_from(number - self.first).ok()?;
        Some(self.log.iter().skip(skipped + 1))
    }

    fn keep(&mut self, noted: Noted, max: usize) {
        if self.log.len() >= max
            && let Some(oldest) = self.log.pop_front()
        {
            self.numbers.remove(&oldest.offset);
            self.first += 1;
        }
        let number = self.first + self.log.len() as u64;
        self.numbers.insert(noted.offset, number);
        self.log.push_back(noted);
    }
}

pub(crate) struct Recovery {
    pub(crate) within: Duration,
    pub(crate) packets_max: usize,
    /// Distinguishes offsets of this process from those of one before.
    epoch: u64,
    env: Env,
    memory: Mutex<Memory>,
}

impl Recovery {
    pub(crate) fn new(within: Duration, packets_max: usize, env: Env) -> Self {
        Self {
            within,
            packets_max,
            epoch: env.random_u64(),
            env,
            memory: Mutex::default(),
        }
    }

    /// Somebody who is cut off now.
    pub(crate) fn away(
        &self,
        (id, user): (&ByteString, Option<&ByteString>),
        rooms: BTreeSet<ByteString>,
    ) -> Away {
        Away {
            id: id.clone(),
            rooms,
            user: user.cloned(),
            until: self.env.after(self.within),
        }
    }

    /// Remembers who was cut off.
    pub(crate) fn remember(&self, pid: &ByteString, away: Away) {
        let mut memory = self.memory.lock();
        let now = self.env.now();
        while memory.order.front().is_some_and(|(_, until)| *until <= now)
            || memory.away.len() >= AWAY_MAX
        {
            let Some((oldest, _)) = memory.order.pop_front() else {
                break;
            };
            memory.away.remove(&oldest);
        }
        memory.order.push_back((pid.clone(), away.until));
        memory.away.insert(pid.clone(), away);
    }

    /// Gives who was cut off, once.
    pub(crate) fn recall(&self, pid: &str) -> Option<Away> {
        self.memory.lock().away.remove(pid)
    }

    /// By what somebody says that they were here, if what they have seen last is still known.
    pub(crate) fn shown(&self, auth: &Value) -> Option<(ByteString, Offset)> {
        let pid = auth.get("pid")?.as_str()?;
        let seen: Offset = auth.get("offset")?.as_str()?.parse().ok()?;
        let is_known = self.memory.lock().knows(seen);
        is_known.then(|| (pid.into(), seen))
    }

    /// Who they are again: in time, and as the same user.
    pub(crate) fn back(
        &self,
        (pid, seen): (ByteString, Offset),
        away: Away,
        member: &Member,
    ) -> Option<Back> {
        let fits = away.user == member.user && away.until > self.env.now();
        fits.then_some(Back {
            id: away.id,
            pid,
            rooms: away.rooms,
            seen,
        })
    }

    /// Gives somebody what they missed; `add` puts them where they get what comes from now on, with nothing in between.
    pub(crate) fn catch_up(
        &self,
        back: &Back,
        id: &ByteString,
        add: impl FnOnce(),
        mut give: impl FnMut(Out),
    ) {
        let memory = self.memory.lock();
        let missed = memory.after(back.seen).into_iter().flatten();
        let missed = missed.filter(|noted| noted.target.meets(id, &back.rooms));
        add();
        // Under the lock, so that what is sent now comes after it.
        missed.for_each(|noted| give(noted.out.clone()));
    }

    /// Gives somebody what was sent to a room since an offset; `join` puts them there, with nothing in between. Whether the offset is known.
    pub(crate) fn since(
        &self,
        seen: Option<Offset>,
        (room, id): (&ByteString, &ByteString),
        join: impl FnOnce() -> Result<()>,
        mut give: impl FnMut(Out),
    ) -> Result<bool> {
        let memory = self.memory.lock();
        join()?;
        let Some(missed) = seen.and_then(|seen| memory.after(seen)) else {
            return Ok(false);
        };
        let missed = missed.filter(|noted| noted.target.names(id, room));
        missed.for_each(|noted| give(noted.out.clone()));
        Ok(true)
    }

    /// Gives something an offset, its own or the next here, sends it, and keeps it for those who are away.
    pub(crate) fn note(
        &self,
        (target, given): (&Target, Option<Offset>),
        write: impl FnOnce(Option<&str>) -> Result<Out>,
        send: impl FnOnce(&Out),
    ) -> Result<()> {
        let mut memory = self.memory.lock();
        let offset = given.unwrap_or(Offset(self.epoch, memory.next));
        if memory.knows(offset) {
            // It was sent before, by somebody who did not know.
            return Ok(());
        }
        let out = write(Some(&offset.to_string()))?;
        memory.next += 1;
        // Under the lock, so that everybody gets it in the order of the log.
        send(&out);
        if self.packets_max > 0 {
            let target = target.clone();
            let noted = Noted {
                offset,
                target,
                out,
            };
            memory.keep(noted, self.packets_max);
        }
        Ok(())
    }
}
