//! The engine's own loop.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use trunkline_core::{Error, Result, report};
use uuid::Uuid;

use super::{Engine, Parts, Seat, Taken};
use crate::drive::{Outcome, come_to, run};
use crate::host::Host;
use crate::journal::{Claim, Claimed, Instance, Record, Which, Write, Written};
use crate::live::Live;
use crate::writer::{self, Writes};

/// What comes in.
pub(super) struct Inbox<H: Host> {
    pub(super) writes: Writes,
    pub(super) started: mpsc::Receiver<Taken<H>>,
}

/// How many instances that have ended are forgotten at a time.
const PRUNE_MAX: u32 = 500;
/// The pause while there are more of them.
const PRUNE_PAUSE: Duration = Duration::from_millis(100);
/// The pause between two looks for them.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// How often in a row an instance is read again before there is a pause.
const RELOADS_IN_A_ROW: u32 = 16;
/// That pause.
const RELOAD_PAUSE: Duration = Duration::from_millis(50);

impl<H: Host> Engine<H> {
    /// Runs instances until `stop`; then attempts on their way are given time, and all are given back.
    ///
    /// # Errors
    /// `Conflict` when it runs already.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<()> {
        let inbox = self
            .0
            .inbox
            .lock()
            .take()
            .ok_or_else(|| Error::conflict("saga_engine_runs", "an engine is run once"))?;
        let Inbox { writes, started } = inbox;
        let parts = self.0.clone();
        let journal = parts.journal.clone();
        let (done, ends) = oneshot::channel();
        let mut others = JoinSet::new();
        // Tasks of their own, so that whoever waits for a write does not hold it up.
        others.spawn(async move { writer::run(&*journal, writes, ends).await });
        let mut pruning = JoinSet::new();
        pruning.spawn(prune(parts.clone()));
        work(&parts, started, stop).await;
        pruning.shutdown().await;
        done.send(()).ok();
        others.join_all().await;
        Ok(())
    }
}

/// Takes up what was started and what is due.
async fn work<H: Host>(
    parts: &Arc<Parts<H>>,
    mut started: mpsc::Receiver<Taken<H>>,
    stop: impl Future<Output = ()>,
) {
    let mut stop = pin!(stop);
    let mut running = Running {
        parts: parts.clone(),
        tasks: JoinSet::new(),
    };
    let mut backlog = true;
    // A time and no pause: what goes on all the while puts the next look off by nothing, and the lease is renewed by it.
    let mut next = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = sleep_until(next) => (backlog, next) = running.claim().await,
            Some((record, seat)) = started.recv() => running.go(record, seat),
            Some(_) = running.tasks.join_next() => {
                if backlog {
                    parts.due.notify_one();
                    backlog = false;
                }
            }
            () = parts.due.notified() => (backlog, next) = running.claim().await,
        }
    }
    running.drain().await;
}

struct Running<H: Host> {
    parts: Arc<Parts<H>>,
    tasks: JoinSet<()>,
}

impl<H: Host> Running<H> {
    /// Takes what is due; whether there may be more, and when to look again.
    async fn claim(&mut self) -> (bool, Instant) {
        let parts = self.parts.clone();
        let mut slots = Vec::new();
        while slots.len() < CLAIM_MAX
            && let Ok(slot) = parts.slots.clone().try_acquire_owned()
        {
            slots.push(slot);
        }
        let claim = Claim {
            owner: parts.owner.clone(),
            lease: parts.settings.lease,
            sagas: parts.definitions.keys().cloned().collect(),
            max: slots.len(),
        };
        let claimed = match parts.journal.claim(&claim).await {
            Ok(claimed) => {
                // From here on others know that it lives.
                parts.known.store(true, Ordering::Release);
                claimed
            }
            Err(error) => {
                tracing::warn!(error = %report(&error), "sagas that are due were not taken");
                return (false, Instant::now() + parts.settings.poll);
            }
        };
        let full = claimed.ids.len() == claim.max;
        let wait = self.next_look(&claimed);
        for id in claimed.told {
            let which = Which::Id(id);
            if parts.seats.has(&id)
                && let Ok(record) = parts.load(&which).await
            {
                parts.seats.tell(&which, record.messages);
            }
        }
        for (id, slot) in claimed.ids.into_iter().zip(slots) {
            self.take_up(id, slot);
        }
        if full && claim.max > 0 {
            // There may be more than one claim takes.
            parts.due.notify_one();
        }
        (full, Instant::now() + wait)
    }

    /// Attempts on their way end, and all instances are given back; what takes longer is left to its lease.
    async fn drain(mut self) {
        self.parts.stopping.store(true, Ordering::Release);
        self.parts.seats.wake();
        let drain = self.parts.settings.drain;
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(drain, ended).await.is_err() {
            tracing::warn!(
                "sagas were left in the middle of an attempt: another process takes them up"
            );
        }
    }

    fn next_look(&self, claimed: &Claimed) -> Duration {
        let poll = self.parts.settings.poll;
        let Some(next) = claimed.next else {
            return poll;
        };
        let left = next.duration_since(self.parts.env.now());
        Duration::try_from(left)
            .unwrap_or_default()
            .min(poll)
            .max(LOOK_MIN)
    }

    fn go(&mut self, record: Record, seat: Seat<H>) {
        let parts = self.parts.clone();
        self.tasks
            .spawn(async move { live_on(&parts, record, seat, false).await });
    }

    fn take_up(&mut self, id: Uuid, slot: OwnedSemaphorePermit) {
        let parts = self.parts.clone();
        let seat = Seat::new(&parts, id, slot);
        self.tasks.spawn(async move {
            if let Some(record) = load(&parts, id).await {
                let one = &record.instance;
                // Whoever takes an instance from the dead, or gives one back, changes it.
                let is_new = record.entries.is_empty() && one.changed_at == one.started_at;
                live_on(&parts, record, seat, !is_new).await;
            }
        });
    }
}

/// How many instances one look takes.
const CLAIM_MAX: usize = 256;
/// Two looks are at least so far apart, unless somebody asks.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// Runs an instance as long as this process has it.
///
/// It is resumed unless it was started here a moment ago: then nobody else can have run it.
async fn live_on<H: Host>(
    parts: &Arc<Parts<H>>,
    mut record: Record,
    seat: Seat<H>,
    mut is_resumed: bool,
) {
    let id = record.instance.id;
    let mut reloads = 0;
    loop {
        let live = Arc::new(Live::new(parts.clone(), record, is_resumed));
        seat.sits(&live);
        let seen = run(&live).await;
        // From here on messages are kept: this life does not read them any more.
        seat.stands_up();
        match come_to(&live, seen).await {
            Outcome::Settled(instance) => {
                // Whoever waits for its end looks first whether it is still here.
                drop(seat);
                return parts.settle(*instance);
            }
            Outcome::Rests | Outcome::Stopped => return,
            Outcome::Reload => {}
        }
        reloads += 1;
        if reloads % RELOADS_IN_A_ROW == 0 {
            sleep(RELOAD_PAUSE).await;
        }
        match load(parts, id).await {
            Some(again) => (record, is_resumed) = (again, true),
            None => return,
        }
    }
}

/// Reads an instance that this process has; none when it has it no more.
async fn load<H: Host>(parts: &Arc<Parts<H>>, id: Uuid) -> Option<Record> {
    loop {
        match parts.journal.load(&Which::Id(id)).await {
            Ok(record) => {
                let own = |record: &Record| record.instance.owner.as_ref() == Some(&parts.owner);
                return record.filter(own);
            }
            Err(error) if writer::is_away(&error) => {
                tracing::warn!(error = %report(&error), %id, "a saga was not read; it is tried again");
                sleep(parts.settings.poll).await;
            }
            Err(error) => {
                // It stays this process's: nobody else can read it either.
                tracing::error!(error = %report(&error), %id, "a saga can't be read");
                return None;
            }
        }
    }
}

/// Forgets what ended long ago.
async fn prune<H: Host>(parts: Arc<Parts<H>>) {
    loop {
        let keep = parts.settings.keep;
        if let Ok(before) = parts.env.now().checked_sub(keep) {
            match parts.writer.write(Write::Prune(before, PRUNE_MAX)).await {
                Ok(Written::Full) => {
                    sleep(PRUNE_PAUSE).await;
                    continue;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = %report(&error), "ended sagas were not forgotten");
                }
            }
        }
        sleep(PRUNE_EVERY).await;
    }
}

impl<H: Host> Parts<H> {
    fn settle(&self, instance: Instance) {
        metrics::counter!(
            "trunkline_saga_settled_total",
            "saga" => instance.saga.to_string(),
            "state" => instance.state.name()
        )
        .increment(1);
        self.host.settled(&instance);
        self.watchers.tell(&instance);
    }
}
