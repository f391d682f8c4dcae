//! What a subscription, its partitions and its service share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};
use trunkline_core::{Error, Result};

use crate::error;
use crate::partition::Partition;
use crate::subscribe::Admission;
use crate::transport::Leaving;

/// The place where a subscription's parts meet.
pub(crate) struct Desk {
    in_flight_max: usize,
    /// How many deliveries are not settled; those that wait to be delivered again are among them.
    out: AtomicUsize,
    pub(crate) partitions: RwLock<Vec<Arc<Partition>>>,
    /// Wakes the subscription.
    pub(crate) arrived: Arc<Notify>,
    /// Wakes the service.
    pub(crate) call: Arc<Notify>,
    /// Some position is not committed.
    soiled: AtomicBool,
    flushes: Mutex<Vec<oneshot::Sender<()>>>,
    state: Mutex<State>,
    pub(crate) joined: Notify,
}

#[derive(Default)]
struct State {
    closed: bool,
    admitted: bool,
    failed: Option<Error>,
    leaving: Option<Leaving>,
}

impl Desk {
    pub(crate) fn new(in_flight_max: usize) -> Self {
        Self {
            in_flight_max,
            out: AtomicUsize::new(0),
            partitions: RwLock::default(),
            arrived: Arc::default(),
            call: Arc::default(),
            soiled: AtomicBool::new(false),
            flushes: Mutex::default(),
            state: Mutex::default(),
            joined: Notify::new(),
        }
    }

    /// Room for so many more new deliveries. Only the subscription takes it.
    pub(crate) fn room(&self) -> usize {
        self.in_flight_max
            .saturating_sub(self.out.load(Ordering::Acquire))
    }

    /// So many more deliveries are out.
    pub(crate) fn enter(&self, count: usize) {
        self.out.fetch_add(count, Ordering::AcqRel);
    }

    /// Room is given back.
    pub(crate) fn exit(&self, count: usize) {
        let before = self.out.fetch_sub(count, Ordering::AcqRel);
        if before >= self.in_flight_max {
            self.arrived.notify_one();
        }
    }

    /// A delivery is done. `soiled`: its partition has a position to commit now; `idle`: nothing of a
    /// partition that moves is being handled any more.
    pub(crate) fn acknowledged(&self, soiled: bool, idle: bool) {
        self.exit(1);
        let first = soiled && !self.soiled.swap(true, Ordering::AcqRel);
        if first || idle {
            self.call.notify_one();
        }
    }

    pub(crate) fn given_back(&self, idle: bool) {
        self.arrived.notify_one();
        if idle {
            self.call.notify_one();
        }
    }

    pub(crate) fn is_soiled(&self) -> bool {
        self.soiled.load(Ordering::Acquire)
    }

    /// Positions are about to be collected.
    pub(crate) fn clean(&self) {
        self.soiled.store(false, Ordering::Release);
    }

    pub(crate) fn soil(&self) {
        self.soiled.store(true, Ordering::Release);
    }

    /// Asks for all positions to be committed; answered when they are.
    pub(crate) fn flush(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.flushes.lock().push(sender);
        self.call.notify_one();
        receiver
    }

    pub(crate) fn flushes(&self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut self.flushes.lock())
    }

    /// Ends the subscription: everything that is out is void.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        for partition in self.partitions.read().iter() {
            partition.end();
        }
        self.wake();
    }

    /// Ends it for whoever dropped it; `leaving` is held until its member has left.
    pub(crate) fn leave(&self, leaving: Option<Leaving>) {
        self.state.lock().leaving = leaving;
        self.close();
    }

    /// The member has left.
    pub(crate) fn left(&self) {
        let leaving = self.state.lock().leaving.take();
        drop(leaving);
    }

    /// It can't go on.
    pub(crate) fn fail(&self, error: Error) {
        self.state.lock().failed.get_or_insert(error);
        self.wake();
    }

    /// The group has admitted the member, with what it holds now.
    pub(crate) fn admitted(&self) {
        self.state.lock().admitted = true;
        self.arrived.notify_one();
        self.joined.notify_one();
    }

    pub(crate) fn admission(&self) -> Admission {
        if !self.partitions.read().is_empty() {
            Admission::Assigned
        } else if self.state.lock().admitted {
            Admission::Admitted
        } else {
            Admission::Waits
        }
    }

    fn wake(&self) {
        self.arrived.notify_one();
        self.call.notify_one();
        self.joined.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Whether it goes on; `false` when it was closed.
    pub(crate) fn check(&self) -> Result<bool> {
        let state = self.state.lock();
        match &state.failed {
            Some(failed) => Err(error::again(failed)),
            None => Ok(!state.closed),
        }
    }
}
