//! Coming back: who was cut off is who they were, and gets what they missed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use trunkline_core::{Env, Result};

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
    seen: u64,
}

struct Away {
    id: ByteString,
    rooms: BTreeSet<ByteString>,
    user: Option<ByteString>,
    until: Timestamp,
}

struct Noted {
    offset: u64,
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
    within: Duration,
    packets_max: usize,
    /// Distinguishes offsets of this process from those of one before.
    epoch: String,
    env: Env,
    memory: Mutex<Memory>,
}

impl Recovery {
    pub(crate) fn new(within: Duration, packets_max: usize, env: Env) -> Self {
        Self {
            within,
            packets_max,
            epoch: format!("{:x}", env.random_u64()),
            env,
            memory: Mutex::default(),
        }
    }

    /// Remembers who was cut off.
    pub(crate) fn remember(
        &self,
        pid: &ByteString,
        (id, user): (&ByteString, Option<&ByteString>),
        rooms: BTreeSet<ByteString>,
    ) {
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
        let until = self.env.after(self.within);
        memory.order.push_back((pid.clone(), until));
        let away = Away {
            id: id.clone(),
            rooms,
            user: user.cloned(),
            until,
        };
        memory.away.insert(pid.clone(), away);
    }

    /// Who shows that they were here: once, in time, as the same user, and not before what is still known.
    pub(crate) fn back(&self, auth: &Value, member: &Member) -> Option<Back> {
        let pid = auth.get("pid")?.as_str()?;
        let (epoch, seen) = auth.get("offset")?.as_str()?.split_once('-')?;
        let seen = u64::from_str_radix(seen, 16).ok()?;
        let mut memory = self.memory.lock();
        let oldest = memory.log.front().map_or(memory.next, |noted| noted.offset);
        let is_known =
            epoch == self.epoch && seen.saturating_add(1) >= oldest && seen < memory.next;
        if !is_known {
            return None;
        }
        let fits = memory
            .away
            .get(pid)
            .is_some_and(|away| away.user == member.user);
        if !fits {
            return None;
        }
        let (pid, away) = memory.away.remove_entry(pid)?;
        (away.until > self.env.now()).then_some(Back {
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

    /// Gives something its offset, sends it, and keeps it for those who are away.
    pub(crate) fn note(
        &self,
        target: &Target,
        write: impl FnOnce(Option<&str>) -> Result<Out>,
        send: impl FnOnce(&Out),
    ) -> Result<()> {
        let mut memory = self.memory.lock();
        let offset = memory.next;
        let out = write(Some(&format!("{}-{offset:x}", self.epoch)))?;
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
