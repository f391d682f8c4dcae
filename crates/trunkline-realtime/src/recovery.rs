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
    next: u64,
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
        let memory = self.memory.lock();
        let at = memory.log.binary_search_by(|noted| noted.offset.cmp(&seen));
        at.ok().map(|_| (pid.into(), seen))
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

    /// What somebody missed; `add` puts them where they get what comes from now on, with nothing in between.
    pub(crate) fn catch_up(&self, back: &Back, id: &ByteString, add: impl FnOnce()) -> Vec<Out> {
        let memory = self.memory.lock();
        let missed = memory
            .log
            .iter()
            .filter(|noted| noted.offset > back.seen && noted.target.meets(id, &back.rooms));
        let missed = missed.map(|noted| noted.out.clone()).collect();
        add();
        missed
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
        let out = write(Some(&offset.to_string()))?;
        memory.next += 1;
        if memory.log.len() >= self.packets_max {
            memory.log.pop_front();
        }
        // Under the lock, so that everybody gets it in the order of the offsets.
        send(&out);
        if self.packets_max > 0 {
            memory.log.push_back(Noted {
                offset,
                target: target.clone(),
                out,
            });
        }
        Ok(())
    }
}
