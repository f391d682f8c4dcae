//! The connections of a listener: those with a task, and those that are parked.

use std::future::{Future, pending};
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use trunkline_call::server::{Accepted, accept};

use super::door::{Door, Guest, Way};
use super::lot::{Lot, Watcher};
use super::unaccepted;

/// So often those are closed that are parked and have had their time, and tasks that have ended are let go of.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// So many sweeps after the last that let go of tasks, their memory is in the system's hands again. 2 s: mimalloc keeps it for one.
const SWEEPS_AFTER: usize = 4;
/// A block that has a page of its own in any allocator.
const BLOCK_BYTES: usize = 1024 * 1024;

/// The connections of a listener.
pub(super) struct House {
    door: Arc<Door>,
    tasks: JoinSet<()>,
    watcher: Option<Watcher>,
    sweep: Interval,
    /// So many sweeps are still to give memory back.
    sweeps_left: usize,
}

impl House {
    pub(super) fn new(door: Door, watcher: Option<Watcher>) -> Self {
        let mut sweep = interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            door: Arc::new(door),
            tasks: JoinSet::new(),
            watcher,
            sweep,
            sweeps_left: 0,
        }
    }

    /// Takes connections until `shutdown`.
    pub(super) async fn take(
        &mut self,
        listener: &TcpListener,
        places: &Arc<Semaphore>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let is_idle = self.is_idle();
            // Who is parked comes before who is new: it was silent for a while before, so that all of them can't keep anybody
            // new out for long.
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                told = told(self.watcher.as_mut()) => {
                    self.fetch(told);
                    continue;
                }
                now = self.sweep.tick(), if !is_idle => {
                    self.sweep(now);
                    continue;
                }
                accepted = accept(listener, places, unaccepted) => accepted,
            };
            self.reap();
            if let Some(accepted) = accepted {
                self.admit(accepted);
            }
        }
    }

    pub(super) fn admit(&mut self, accepted: Accepted) {
        let guest = self.door.welcome(accepted);
        self.open(guest);
    }

    fn open(&mut self, guest: Guest) {
        self.tasks.spawn(self.door.clone().open(guest));
    }

    /// Lets go of tasks that have ended, and tells whether there were any.
    fn reap(&mut self) -> bool {
        let count = self.tasks.len();
        while self.tasks.try_join_next().is_some() {}
        let some = self.tasks.len() < count;
        if some {
            self.sweeps_left = SWEEPS_AFTER;
        }
        some
    }

    fn sweep(&mut self, now: Instant) {
        self.door.lot.iter().for_each(|lot| lot.sweep(now));
        if !self.reap() && self.sweeps_left > 0 {
            self.sweeps_left -= 1;
            give_back();
        }
    }

    /// Whether a sweep would find nothing to do.
    fn is_idle(&self) -> bool {
        let is_empty = self.tasks.is_empty() && self.door.lot.iter().all(Lot::is_empty);
        is_empty && self.sweeps_left == 0
    }

    /// Fetches who was told of; all, where nobody is told of any more.
    fn fetch(&mut self, told: io::Result<()>) {
        if let Err(error) = told {
            tracing::warn!(service = "gateway", %error, "connections are parked no longer");
            self.watcher = None;
            return self.wake();
        }
        let (Some(lot), Some(watcher)) = (&self.door.lot, &self.watcher) else {
            return;
        };
        for guest in lot.fetch(watcher) {
            self.open(guest);
        }
    }

    /// Fetches all who are parked. Nobody is parked from now on.
    pub(super) fn wake(&mut self) {
        let parked = self.door.lot.as_ref().map(Lot::close);
        for guest in parked.into_iter().flatten() {
            self.open(guest);
        }
    }

    /// Waits until no task is left.
    pub(super) async fn drained(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Ends all tasks.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// Has the allocator give back what it keeps. It looks what it has kept for too long when a page is freed; when all connections of a
/// gateway fall silent, nobody frees any, and the memory of their tasks would be kept until there is work again.
fn give_back() {
    drop(black_box(Vec::<u8>::with_capacity(BLOCK_BYTES)));
}

/// Where silent connections are parked. Those with TLS are not: what was agreed on would have to be parked with them.
pub(super) fn lot(way: &Way) -> Option<(Lot, Watcher)> {
    let Way::Plain = way else { return None };
    let lot = Lot::new().inspect_err(|error| {
        tracing::debug!(service = "gateway", %error, "connections can't be parked here");
    });
    lot.ok()
}

async fn told(watcher: Option<&mut Watcher>) -> io::Result<()> {
    match watcher {
        Some(watcher) => watcher.told().await,
        None => pending().await,
    }
}
