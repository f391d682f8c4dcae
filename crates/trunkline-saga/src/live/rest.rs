//! While an instance is busy, and while it rests.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::sleep;

use super::{Halt, Live};
use crate::host::Host;
use crate::journal::{Fault, Which};
use crate::writer::is_away;

/// Until when something rests.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) until: Option<Timestamp>,
    pub(super) waker: Waker,
}

impl<H: Host> Live<H> {
    /// While this lives the instance does not rest.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy<H> {
        self.core.lock().busy += 1;
        Busy(self.clone())
    }

    /// Rests until a time, or until `ready` finds what it looks for.
    ///
    /// `ready` is asked at first, and again whenever a message came.
    pub(crate) async fn rest<T>(
        self: &Arc<Self>,
        until: Option<Timestamp>,
        mut ready: impl FnMut(&Self) -> Option<T>,
    ) -> Option<T> {
        let place = Resting::new(self);
        let mut timer: Option<BoxFuture<'static, ()>> = None;
        poll_fn(|cx| {
            loop {
                place.set(until, cx.waker());
                if let Some(found) = ready(self) {
                    return Poll::Ready(Some(found));
                }
                let Some(until) = until else {
                    return Poll::Pending;
                };
                let left = until.duration_since(self.env().now());
                let Some(left) = Duration::try_from(left).ok().filter(|left| !left.is_zero())
                else {
                    return Poll::Ready(None);
                };
                // A clock that is set is looked at again.
                let nap = left.min(NAP_MAX);
                let timer = timer.insert(Box::pin(tokio::time::sleep(nap)));
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}

impl<H: Host> Live<H> {
    /// Reads what it was told once more: another process may have told it something.
    pub(crate) async fn read_messages(self: &Arc<Self>) {
        let _busy = self.busy();
        let which = Which::Id(self.instance.id);
        loop {
            match self.parts.journal.load(&which).await {
                Ok(Some(record)) => return self.tell(record.messages),
                Ok(None) => return self.halted(Halt::Reload).await,
                Err(error) if is_away(&error) => sleep(AWAY_PAUSE).await,
                Err(error) => return self.halted(Halt::Park(Fault::of(&error))).await,
            }
        }
    }
}

/// The pause after the journal could not be read.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// How long a rest in memory is at most before the clock is looked at again.
const NAP_MAX: Duration = Duration::from_secs(60);

/// Something of an instance is on its way.
pub(crate) struct Busy<H: Host>(Arc<Live<H>>);

impl<H: Host> Busy<H> {
    pub(crate) fn live(&self) -> &Arc<Live<H>> {
        &self.0
    }
}

impl<H: Host> Drop for Busy<H> {
    fn drop(&mut self) {
        let mut core = self.0.core.lock();
        core.busy -= 1;
        // Whoever drove the last of them may find that all the others rest.
        if core.busy == 0
            && let Some(driver) = core.driver.take()
        {
            driver.wake();
        }
    }
}

struct Resting<'a, H: Host> {
    live: &'a Live<H>,
    id: u64,
}

impl<'a, H: Host> Resting<'a, H> {
    fn new(live: &'a Live<H>) -> Self {
        let mut core = live.core.lock();
        core.next_wait += 1;
        Self {
            live,
            id: core.next_wait,
        }
    }

    fn set(&self, until: Option<Timestamp>, waker: &Waker) {
        let rest = Rest {
            until,
            waker: waker.clone(),
        };
        self.live.core.lock().waits.insert(self.id, rest);
    }
}

impl<H: Host> Drop for Resting<'_, H> {
    fn drop(&mut self) {
        self.live.core.lock().waits.remove(&self.id);
    }
}
