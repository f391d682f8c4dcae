//! Keeps a member in its group: shows that it lives, takes and gives up partitions, tells the server what is
//! settled and what still takes time.

mod share;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Subject, Subscriber};
use bytes::Bytes;
use bytestring::ByteString;
use futures::StreamExt;
use futures::future::join_all;
use tokio::time::Instant;
use trunkline_bus::Start;
use trunkline_core::Result;

use crate::config::NatsConfig;
use crate::error;
use crate::link::Link;
use crate::member::Member;
use crate::names::Names;
use crate::store::{self, Kept};

/// What is settled is told to the server this much later, with what is settled meanwhile.
const TELL_PAUSE: Duration = Duration::from_millis(1);
/// A member shows this often within a lease that it lives.
const BEATS: u32 = 4;
/// How often a record is tried to be written in a row while others write it, too.
const WRITES_MAX: usize = 64;

/// A topic as the keeper has it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) name: ByteString,
    pub(crate) stream: String,
    pub(crate) partitions: u16,
    pub(crate) record: String,
    pub(crate) kept: Kept,
    pub(crate) seen: Seen,
    /// Where the group is to begin, if it is moved.
    pub(crate) moves: Option<Vec<u64>>,
    /// Told by others, or due: what is to be looked at.
    pub(crate) stale: bool,
}

/// When others were last seen to live, by the clock of this process.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    members: HashMap<String, (u64, Instant)>,
    proven: HashSet<String>,
}

impl Seen {
    fn look(&mut self, kept: &Kept, now: Instant) {
        let members = &kept.record.members;
        self.members
            .retain(|id, _| members.iter().any(|member| member.id == *id));
        for member in members {
            match self.members.get_mut(&member.id) {
                Some(seen) if seen.0 != member.beat => {
                    *seen = (member.beat, now);
                    self.proven.insert(member.id.clone());
                }
                Some(_) => {}
                None => drop(self.members.insert(member.id.clone(), (member.beat, now))),
            }
        }
    }

    fn dead(&self, me: &str, lease: Duration, now: Instant) -> Vec<String> {
        let silent = |(id, seen): &(&String, &(u64, Instant))| {
            *id != me && now.duration_since(seen.1) >= lease
        };
        self.members
            .iter()
            .filter(silent)
            .map(|(id, _)| id.clone())
            .collect()
    }
}

pub(crate) struct Keeper {
    pub(crate) member: Arc<Member>,
    pub(crate) link: Arc<Link>,
    pub(crate) config: Arc<NatsConfig>,
    pub(crate) names: Names,
    /// The group, as it is written in names.
    pub(crate) group: String,
    /// This member.
    pub(crate) id: String,
    pub(crate) topics: Vec<Held>,
    pub(crate) changes: Subscriber,
}

impl Keeper {
    /// Joins the group on all topics.
    pub(crate) async fn join(&mut self, start: Start) -> Result<()> {
        for at in 0..self.topics.len() {
            self.reload(at).await?;
            if start != Start::Committed {
                self.wait_for_others(at).await?;
            }
            if start == Start::Committed {
                self.held(at).moves = None;
            }
            self.tend(at, true).await?;
            // Once is enough.
            self.held(at).moves = None;
        }
        Ok(())
    }

    /// Waits until it is known whether anybody else in the group lives.
    async fn wait_for_others(&mut self, at: usize) -> Result<()> {
        loop {
            let (now, lease) = (Instant::now(), self.config.lease);
            let me = self.id.clone();
            let held = self.held(at);
            held.seen.look(&held.kept, now);
            let dead = held.seen.dead(&me, lease, now);
            let mut others = held.seen.members.keys().filter(|id| !dead.contains(*id));
            if others.clone().next().is_none() {
                return Ok(());
            }
            if others.any(|id| held.seen.proven.contains(id)) {
                held.moves = None;
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.link.ended() => return Err(error::lost()),
                told = self.changes.next() => match told {
                    Some(message) => self.learn(&message),
                    None => return Err(error::lost()),
                },
                () = tokio::time::sleep(lease / BEATS) => self.reload(at).await?,
            }
        }
    }

    pub(crate) async fn run(mut self) {
        if let Err(error) = self.keep().await {
            self.member.fail(error);
        }
    }

    async fn keep(&mut self) -> Result<()> {
        let beat = self.config.lease / BEATS;
        let mut next_beat = Instant::now() + beat;
        let (link, member) = (self.link.clone(), self.member.clone());
        loop {
            let tended = tokio::select! {
                biased;
                () = link.ended() => return Err(error::lost()),
                () = tokio::time::sleep_until(next_beat) => {
                    next_beat = Instant::now() + beat;
                    self.tell_of_work().await?;
                    self.tend_all(true).await
                }
                told = self.changes.next() => {
                    self.learn(&told.ok_or_else(error::lost)?);
                    while let Some(Some(more)) = futures::FutureExt::now_or_never(self.changes.next()) {
                        self.learn(&more);
                    }
                    self.tend_all(false).await
                }
                () = member.work.notified() => {
                    tokio::time::sleep(TELL_PAUSE).await;
                    tell(&self.link, &self.member).await?;
                    self.look_at_idle();
                    self.tend_all(false).await
                }
            };
            if self.member.is_failed() {
                return Ok(());
            }
            if let Err(error) = tended {
                // The lease says how long it may be tried again.
                tracing::warn!(error = %trunkline_core::report(&error), "a group's record could not be kept");
                next_beat = Instant::now() + beat / 2;
                if self.is_expired() {
                    return Err(error);
                }
            }
            if self.member.is_leaving() && self.leave().await? {
                return Ok(());
            }
        }
    }

    fn is_expired(&self) -> bool {
        let now = Instant::now();
        let mine = |held: &Held| {
            let seen = held.seen.members.get(&self.id);
            seen.is_none_or(|(_, at)| now.duration_since(*at) >= self.config.lease)
        };
        self.topics.iter().any(mine)
    }

    /// A partition that is to move may do so now.
    fn look_at_idle(&mut self) {
        let topics = self
            .member
            .each(|source| source.moving.map(|_| source.topic));
        let leaving = self.member.is_leaving();
        for (at, held) in self.topics.iter_mut().enumerate() {
            held.stale |= leaving || topics.contains(&at);
        }
    }

    async fn tend_all(&mut self, beat: bool) -> Result<()> {
        for at in 0..self.topics.len() {
            if beat || self.held(at).stale {
                self.tend(at, beat).await?;
            }
        }
        Ok(())
    }

    /// Gives everything back. Handlers that have begun keep their partitions until they end.
    async fn leave(&mut self) -> Result<bool> {
        for at in 0..self.topics.len() {
            self.tend(at, false).await?;
        }
        let me = self.id.clone();
        Ok(!self.topics.iter().any(|held| held.kept.record.has(&me)))
    }

    /// Takes in a change that was told.
    fn learn(&mut self, message: &async_nats::Message) {
        let Some((subject, kept)) = store::changed(message) else {
            return;
        };
        let topic = subject.rsplit_once('.').map_or("", |(_, topic)| topic);
        for held in &mut self.topics {
            if held.stream == topic && held.kept.revision < kept.revision {
                held.kept = kept.clone();
                held.kept.record.fit(held.partitions);
                held.seen.look(&held.kept, Instant::now());
                held.stale = true;
            }
        }
    }

    async fn reload(&mut self, at: usize) -> Result<()> {
        let subject = self.held(at).record.clone();
        let kept = store::load(&self.link, &self.names, &subject).await?;
        let held = self.held(at);
        held.kept = kept;
        held.kept.record.fit(held.partitions);
        held.seen.look(&held.kept, Instant::now());
        Ok(())
    }

    /// Tells the server of deliveries that take long, so that it does not think them lost.
    async fn tell_of_work(&self) -> Result<()> {
        let (every, now) = (self.config.ack_wait / 3, Instant::now());
        let silent = self
            .member
            .each(|source| Some(source.cursor.silent(every, now)));
        for reply in silent.into_iter().flatten() {
            send(&self.link, reply, Bytes::from_static(b"+WPI")).await?;
        }
        Ok(())
    }

    fn held(&mut self, at: usize) -> &mut Held {
        self.topics
            .get_mut(at)
            .expect("the topics of a keeper are counted once")
    }
}

/// Tells the server how far everything is settled, and what to deliver again after a pause.
pub(crate) async fn tell(link: &Link, member: &Member) -> Result<()> {
    let (floors, away) = member.untold();
    if member.terms.acks {
        for reply in floors {
            send(link, reply, Bytes::from_static(b"+ACK")).await?;
        }
    }
    for (reply, pause) in away {
        let body = format!(
            r#"-NAK {{"delay":{}}}"#,
            pause.as_nanos().min(i64::MAX as u128)
        );
        send(link, reply, body.into()).await?;
    }
    Ok(())
}

/// Tells the server how far everything is settled, and waits until it knows.
pub(crate) async fn confirm(link: &Link, floors: Vec<Subject>) -> Result<()> {
    let asked = floors.into_iter().map(|reply| async {
        let asked = link.client.request(reply, Bytes::from_static(b"+ACK"));
        let answer = link.within("acknowledge", asked).await?;
        answer
            .map(drop)
            .map_err(|e| error::lost().with("request", "acknowledge").with_source(e))
    });
    join_all(asked).await.into_iter().collect()
}

async fn send(link: &Link, reply: Subject, body: Bytes) -> Result<()> {
    let sent = link
        .within("acknowledge", link.client.publish(reply, body))
        .await?;
    sent.map_err(|e| error::lost().with_source(e))
}
