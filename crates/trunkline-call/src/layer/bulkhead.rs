//! How many calls of a target may be under way.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::Either;
use http::{HeaderMap, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trunkline_core::{Error, ErrorKind, Result};

use super::held::{Ending, Held};
use super::{Around, Event, Next, Observer, tower_layer};
use crate::Body;
use crate::headers::BULKHEAD_FULL;
use crate::policy::BulkheadPolicy;

/// Bounds the calls that are under way, so that one slow target does not take all that a caller has. A few more wait,
/// in the order in which they came; what comes beyond is refused at once.
///
/// # Guarantees
/// A call keeps its place until its answer's body has ended or is dropped.
///
/// # Errors
/// `Overloaded` (`bulkhead_full`, `Transient`).
#[derive(Clone)]
pub struct Bulkhead {
    places: Arc<Places>,
    observer: Observer,
}

struct Places {
    policy: ArcSwap<BulkheadPolicy>,
    free: ArcSwap<Semaphore>,
    waiting: AtomicUsize,
}

impl Bulkhead {
    /// A bulkhead of its own; its clones share its places.
    pub fn new(policy: BulkheadPolicy) -> Self {
        let places = Places {
            policy: ArcSwap::from_pointee(policy),
            free: ArcSwap::from_pointee(Semaphore::new(policy.in_flight_max)),
            waiting: AtomicUsize::new(0),
        };
        Self {
            places: Arc::new(places),
            observer: Observer::default(),
        }
    }

    /// Tells this observer of each call that is refused.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// Goes on by another policy. Calls that are under way or wait keep the places of the one before, beside the new.
    pub fn set_policy(&self, policy: BulkheadPolicy) {
        let before = self.places.policy.swap(Arc::new(policy));
        if before.in_flight_max != policy.in_flight_max {
            let free = Semaphore::new(policy.in_flight_max);
            self.places.free.store(Arc::new(free));
        }
    }

    /// A place at once, or else where to wait for one.
    fn place(&self) -> Result<OwnedSemaphorePermit, Arc<Semaphore>> {
        let free = self.places.free.load_full();
        free.clone().try_acquire_owned().map_err(|_| free)
    }

    async fn wait(&self, free: Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
        let waiting = Waiting::begin(&self.places.waiting);
        if waiting.before >= self.places.policy.load().waiting_max {
            return Err(full());
        }
        // Nobody closes it.
        free.acquire_owned().await.map_err(|_| full())
    }
}

/// One that waits; it may be dropped while it does.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn begin(all: &'a AtomicUsize) -> Self {
        let before = all.fetch_add(1, Ordering::AcqRel);
        Self { all, before }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::AcqRel);
    }
}

fn full() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        BULKHEAD_FULL,
        "too many calls of this service are under way",
    )
}

/// Keeps a place until the answer has ended.
fn hold(answer: Result<Response<Body>>, place: OwnedSemaphorePermit) -> Result<Response<Body>> {
    Ok(Held::keep(answer?, Place(place)))
}

/// A place, given back when dropped.
struct Place(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Ending for Place {
    fn ended(self, _: Option<&HeaderMap>) {}

    fn broken(self) {}
}

tower_layer!(Bulkhead);

impl Around for Bulkhead {
    fn around<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        match self.place() {
            Ok(place) => {
                let call = next.call(request);
                Either::Left(call.map(|answer| hold(answer, place)))
            }
            // In a box of its own, so that calls that find a place have no room for it.
            Err(free) => Either::Right(Box::pin(async move {
                let place = self.wait(free).await;
                let place = place.inspect_err(|_| self.observer.tell(Event::Shed))?;
                hold(next.call(request).await, place)
            })),
        }
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead")
            .field("free", &self.places.free.load().available_permits())
            .field("waiting", &self.places.waiting.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::time::timeout;

    use super::super::testing::{Script, after, get, ok, text};
    use super::*;

    fn policy(in_flight_max: usize, waiting_max: usize) -> BulkheadPolicy {
        BulkheadPolicy {
            in_flight_max,
            waiting_max,
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_place_is_kept_until_the_body_has_ended() {
        let layer = Bulkhead::new(policy(1, 0));
        let script = Script::new([ok(), ok(), ok()]);
        let first = layer.around(get("/"), &script).await.unwrap();
        let error = layer.around(get("/"), &script).await.unwrap_err();
        assert_eq!(error.code(), "bulkhead_full");
        text(first).await;
        let second = layer.around(get("/"), &script).await.unwrap();
        drop(second);
        layer.around(get("/"), &script).await.unwrap();
        assert_eq!(script.calls(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_wait_in_turn_and_one_that_gives_up_leaves_its_turn() {
        let layer = Bulkhead::new(policy(1, 2));
        let script = Script::new((0..4).map(|_| after(SECOND, ok())));
        let call = || async { text(layer.around(get("/"), &script).await.unwrap()).await };
        let impatient = timeout(SECOND / 2, call());
        let late = async {
            // After the impatient one has left.
            tokio::time::sleep(SECOND * 3 / 4).await;
            call().await
        };
        let refused = async {
            tokio::time::sleep(SECOND / 4).await;
            layer.around(get("/"), &script).await.unwrap_err()
        };
        let all = async { tokio::join!(call(), impatient, call(), refused, late) };
        let (_, impatient, _, refused, _) = all.await;
        assert!(impatient.is_err());
        assert_eq!(refused.code(), "bulkhead_full");
        assert_eq!(script.calls(), 3);
        assert_eq!(layer.places.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn its_bound_changes_while_it_works() {
        let layer = Bulkhead::new(policy(1, 0));
        let script = Script::hanging();
        let mut first = Box::pin(layer.around(get("/"), &script));
        assert!(first.as_mut().now_or_never().is_none());
        layer.set_policy(policy(2, 0));
        let mut others: Vec<_> = (0..2)
            .map(|_| Box::pin(layer.around(get("/"), &script)))
            .collect();
        for other in &mut others {
            assert!(other.as_mut().now_or_never().is_none());
        }
        let error = layer.around(get("/"), &script).await.unwrap_err();
        assert_eq!(error.code(), "bulkhead_full");
    }
}
