//! The task of a subscription: it reads ahead, speaks up, and gives back what is another's.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures::FutureExt;
use futures::future::BoxFuture;
use redis::{Cmd, Value};
use tokio::time::{Instant, sleep, sleep_until};
use trunkline_core::{Result, report};

use crate::commit::commit;
use crate::id::Id;
use crate::link::Connection;
use crate::member::{End, Member};
use crate::transport::Shared;
use crate::{assign, error, fetch, script, value};

/// What one read may bring, about: how many entries are asked for follows from the size of the last.
const READ_BYTES: usize = 4 << 20;
/// How long to wait between attempts to leave while the server is away.
const LEAVE_PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct Pump {
    shared: Arc<Shared>,
    member: Arc<Member>,
    /// The streams that tell of changes in the group, last the member's own that ends its wait; and what
    /// was read of them.
    signals: Vec<(ByteString, Id)>,
    connection: Option<Connection>,
    reading: Option<Reading>,
    /// The size of an entry, as it has been lately.
    entry_bytes: usize,
    next_beat: Instant,
}

/// A read that waits on the server.
struct Reading {
    /// The cursors that it asks for, with their tenures.
    cursors: Vec<(usize, u64)>,
    /// It was told to end.
    woken: bool,
    answer: BoxFuture<'static, (Connection, Result<Value>)>,
}

impl Pump {
    pub(crate) fn new(shared: Arc<Shared>, member: Arc<Member>) -> Self {
        let mut signals = Vec::new();
        if let Some(group) = &member.group {
            for joined in &member.topics {
                let key = shared.keys.changes(&joined.topic.name, group);
                signals.push((key, Id::ZERO));
            }
        }
        signals.push((shared.keys.wake(&member.name), Id::ZERO));
        let next_beat = Instant::now() + shared.config.heartbeat();
        Self {
            shared,
            member,
            signals,
            connection: None,
            reading: None,
            entry_bytes: 4096,
            next_beat,
        }
    }

    /// Runs until the member ends, and then leaves the group.
    pub(crate) async fn run(mut self) {
        while !self.member.has_ended() {
            if let Err(error) = self.step().await {
                let group = self.member.group.as_deref().unwrap_or_default();
                tracing::warn!(group, error = %report(&error), "a subscription broke");
                self.member.end(End::Failed(error));
            }
        }
        self.reading = None;
        self.connection = None;
        leave(&self.shared, &self.member).await;
        self.member.gone.send_replace(true);
    }

    async fn step(&mut self) -> Result<()> {
        let mut more = false;
        if let Some(group) = self.member.group.clone() {
            if Instant::now() >= self.next_beat {
                self.next_beat = Instant::now() + self.shared.config.heartbeat();
                assign::beat(&self.shared, &self.member, &group).await?;
            }
            self.give_back(&group).await?;
            more |= fetch::pending(&self.shared, &self.member, &group).await?;
        }
        more |= fetch::again(&self.shared, &self.member).await?;
        self.ask().await?;
        let alarm = self.alarm();
        let reading = async {
            match &mut self.reading {
                Some(reading) => (&mut reading.answer).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            (connection, answer) = reading => {
                self.connection = Some(connection);
                self.take_in(answer?)?;
            }
            () = self.member.work.notified() => {}
            () = std::future::ready(()), if more => {}
            () = sleep_until(alarm) => {}
        }
        Ok(())
    }

    /// When there is something to do even if nothing happens.
    fn alarm(&self) -> Instant {
        let now = Instant::now();
        let state = self.member.state.lock();
        let held = state.cursors.iter().filter(|cursor| cursor.is_held());
        let due = held.filter_map(|cursor| cursor.next_due(now)).min();
        let far = now + self.shared.config.takeover;
        let beat = self.member.group.as_ref().map(|_| self.next_beat);
        beat.into_iter().chain(due).fold(far, Instant::min)
    }

    /// Gives partitions back that are another's and have nothing out.
    async fn give_back(&mut self, group: &str) -> Result<()> {
        let patience = self.shared.config.heartbeat();
        let drained: Vec<usize> = {
            let now = Instant::now();
            let mut state = self.member.state.lock();
            let mut revoked = 0;
            let mut drained = Vec::new();
            for (index, cursor) in state.cursors.iter_mut().enumerate() {
                if cursor.is_drained(patience, now) {
                    revoked += cursor.revoke();
                    drained.push(index);
                }
            }
            state.forget(revoked);
            drained
        };
        if drained.is_empty() {
            return Ok(());
        }
        commit(&self.shared, &self.member, true).await?;
        assign::release(&self.shared, &self.member, group, &drained, false).await?;
        let mut state = self.member.state.lock();
        for index in drained {
            if let Some(cursor) = state.cursors.get_mut(index) {
                cursor.close();
            }
        }
        Ok(())
    }

    /// Sees to it that a read is under way that asks for all that is wanted.
    async fn ask(&mut self) -> Result<()> {
        let wanted: Vec<(usize, u64, ByteString, Id)> = {
            let state = self.member.state.lock();
            let cursors = state.cursors.iter().enumerate();
            let wants = cursors.filter(|(_, cursor)| cursor.wants(self.member.prefetch));
            wants
                .map(|(index, cursor)| (index, cursor.tenure, cursor.stream.clone(), cursor.read))
                .collect()
        };
        if let Some(reading) = &mut self.reading {
            let asked = |one: &(usize, u64, _, _)| reading.cursors.contains(&(one.0, one.1));
            if !reading.woken && !wanted.iter().all(asked) {
                reading.woken = true;
                wake(&self.shared, &self.member).await?;
            }
            return Ok(());
        }
        if wanted.is_empty() && self.member.group.is_none() {
            return Ok(());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.shared.link.connect().await?,
        };
        let share = self.member.prefetch / wanted.len().max(1);
        let count = (READ_BYTES / self.entry_bytes.max(1)).clamp(1, share.max(16));
        let signals = self.signals.iter().map(|(key, id)| (&**key, *id));
        let places = wanted.iter().map(|(_, _, stream, id)| (&**stream, *id));
        let cmd: Cmd = fetch::reading(&self.shared, count, signals.chain(places));
        let shared = self.shared.clone();
        let answer = async move {
            let answer = fetch::read(&shared, &mut connection, &cmd).await;
            (connection, answer)
        };
        let cursors: Vec<_> = wanted.iter().map(|one| (one.0, one.1)).collect();
        self.mark(&cursors, true);
        self.reading = Some(Reading {
            cursors,
            woken: false,
            answer: answer.boxed(),
        });
        Ok(())
    }

    fn mark(&self, cursors: &[(usize, u64)], reading: bool) {
        let mut state = self.member.state.lock();
        for (index, _) in cursors {
            if let Some(cursor) = state.cursors.get_mut(*index) {
                cursor.reading = reading;
            }
        }
    }

    /// Takes in what a read brought.
    fn take_in(&mut self, answer: Value) -> Result<()> {
        let Some(reading) = self.reading.take() else {
            return Ok(());
        };
        self.mark(&reading.cursors, false);
        let doing = "streams could not be read";
        let streams = value::streams(answer).ok_or_else(|| error::odd(doing))?;
        for (key, entries) in streams {
            let Some((last, _)) = entries.last() else {
                continue;
            };
            match self.signals.iter().position(|(signal, _)| *signal == key) {
                None => self.fill(&reading.cursors, &key, entries),
                Some(at) => {
                    let is_own = at + 1 == self.signals.len();
                    if let Some((_, seen)) = self.signals.get_mut(at) {
                        *seen = *last;
                    }
                    if !is_own {
                        // Somebody joined, left or gave something back: look who has what now.
                        self.next_beat = Instant::now();
                    }
                }
            }
        }
        self.member.ready.notify_one();
        Ok(())
    }

    fn fill(
        &mut self,
        cursors: &[(usize, u64)],
        stream: &ByteString,
        entries: Vec<(Id, Vec<Value>)>,
    ) {
        let place = {
            let state = self.member.state.lock();
            let mut asked = cursors.iter().filter_map(|(index, tenure)| {
                let cursor = state.cursors.get(*index)?;
                let is_it = cursor.tenure == *tenure && cursor.stream == *stream;
                is_it.then(|| (*index, *tenure, cursor.topic.clone(), cursor.partition))
            });
            asked.next()
        };
        let Some((index, tenure, topic, partition)) = place else {
            return;
        };
        let count = entries.len();
        let reader = &self.shared.reader;
        let fetched: Vec<_> = entries
            .into_iter()
            .map(|(id, fields)| fetch::fetched(reader, (&topic, partition), id, fields))
            .collect();
        let bytes: usize = fetched.iter().map(|one| one.bytes).sum();
        self.entry_bytes = bytes / count.max(1);
        let mut state = self.member.state.lock();
        if let Some(cursor) = state.cursors.get_mut(index)
            && cursor.tenure == tenure
        {
            fetched.into_iter().for_each(|one| cursor.fill(one));
        }
    }
}

/// Writes what was settled and gives everything back. While the server is away it is tried until the
/// leases have run out anyway.
async fn leave(shared: &Shared, member: &Member) {
    let Some(group) = &member.group else {
        return;
    };
    let until = Instant::now() + shared.config.takeover;
    loop {
        let left = async {
            commit(shared, member, true).await?;
            assign::release(shared, member, group, &[], true).await
        };
        match left.await {
            Ok(()) => return,
            Err(error) if Instant::now() >= until || shared.open().is_err() => {
                tracing::warn!(
                    %group, error = %report(&error),
                    "a member could not give its partitions back; others take them when its leases \
                     have run out"
                );
                return;
            }
            Err(_) => sleep(LEAVE_PAUSE).await,
        }
    }
}

/// Ends the read that is under way.
async fn wake(shared: &Shared, member: &Member) -> Result<()> {
    let cmd = script::eval(script::WAKE, &[shared.keys.wake(&member.name)]);
    let doing = "a wait could not be ended";
    shared.link.call(doing, &cmd).await.map(drop)
}
