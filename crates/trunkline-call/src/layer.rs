//! The layers of a channel's stack, each usable alone over any `tower::Service`.
//!
//! ```
//! use std::time::Duration;
//! use http::{Request, Response};
//! use tower::{Layer, Service, ServiceExt};
//! use trunkline_call::{Body, layer::Deadline};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! let hangs = tower::service_fn(|_: Request<Body>| async {
//!     std::future::pending::<trunkline_core::Result<Response<Body>>>().await
//! });
//! let mut service = Deadline::new(Duration::from_secs(5)).layer(hangs);
//! let error = service.ready().await?.call(Request::new(Body::empty())).await.unwrap_err();
//! assert_eq!(error.code(), "deadline_exceeded");
//! # Ok::<(), trunkline_core::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attempt;
pub(crate) mod breaker;
mod bulkhead;
pub(crate) mod cache;
mod coalesce;
mod deadline;
mod hedge;
pub(crate) mod held;
mod identity;
mod outcome;
pub(crate) mod plan;
pub(crate) mod retry;
#[cfg(test)]
mod testing;
mod trace;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use parking_lot::Mutex;
use tower::{Service, ServiceExt};
use trunkline_core::{Error, Result};

use crate::Body;

pub use attempt::Attempt;
pub use breaker::{Breaker, CircuitBreaker, Permit, State as BreakerState};
pub use bulkhead::Bulkhead;
pub use cache::{Age, Cache};
pub use coalesce::Coalesce;
pub use deadline::Deadline;
pub(crate) use deadline::write as write_deadline;
pub use hedge::Hedge;
pub use identity::{Identify, Identity, Outgoing};
pub use outcome::Outcome;
pub use plan::CallOptions;
pub use retry::{Budget, Retry};
pub(crate) use trace::Trace;

/// What a layer stands on: the next one inwards, and at the end the target.
///
/// Unlike a `tower::Service` it is called by reference and gives a future that borrows it, so that a stack of them is
/// one state machine: no layer is cloned, and none makes a box of its own.
pub trait Next: Send + Sync {
    /// Sends a request on.
    fn call(&self, request: Request<Body>) -> impl Future<Output = Result<Response<Body>>> + Send;
}

/// A layer: what it does around whatever it stands on.
pub trait Around: Send + Sync {
    /// Answers a request by means of `next`, none, one or several times.
    fn around<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send;
}

/// A layer over what it stands on, both borrowed or owned: one step of a stack.
pub(crate) struct Over<'a, L, N>(pub(crate) &'a L, pub(crate) N);

impl<L: Around, N: Next> Next for Over<'_, L, N> {
    fn call(&self, request: Request<Body>) -> impl Future<Output = Result<Response<Body>>> + Send {
        self.0.around(request, &self.1)
    }
}

/// A layer over a `tower::Service`, itself one.
#[derive(Debug, Clone)]
pub struct Layered<L, S> {
    layer: L,
    inner: S,
}

impl<L, S> Layered<L, S> {
    pub(crate) fn new(layer: L, inner: S) -> Self {
        Self { layer, inner }
    }
}

impl<L, S> Service<Request<Body>> for Layered<L, S>
where
    L: Around + Clone + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let layer = self.layer.clone();
        // The one that was polled ready is the one that is called.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone.clone());
        let next = Tower {
            ready: Mutex::new(Some(ready)),
            others: Mutex::new(clone),
        };
        Box::pin(async move { layer.around(request, &next).await })
    }
}

/// A `tower::Service` for one call, which a layer may make several times.
struct Tower<S> {
    ready: Mutex<Option<S>>,
    others: Mutex<S>,
}

impl<S> Next for Tower<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Error> + Clone + Send,
    S::Future: Send,
{
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>> {
        let ready = self.ready.lock().take();
        let mut service = match ready {
            Some(service) => service,
            None => {
                let mut another = self.others.lock().clone();
                another.ready().await?;
                another
            }
        };
        service.call(request).await
    }
}

/// Makes a layer usable in a `tower::ServiceBuilder`.
macro_rules! tower_layer {
    ($name:ty) => {
        impl<S> tower::Layer<S> for $name {
            type Service = $crate::layer::Layered<$name, S>;

            fn layer(&self, inner: S) -> Self::Service {
                $crate::layer::Layered::new(self.clone(), inner)
            }
        }
    };
}
pub(crate) use tower_layer;

/// Something that a layer did; what metrics, logs and hooks are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The circuit breaker of the target as a whole changed its state.
    Breaker(BreakerState),
    /// That of one instance of several changed its state.
    Instance(BreakerState),
    /// A call was refused because the breaker is open.
    Refused,
    /// A call is tried again after a pause.
    Retried {
        /// Which attempt comes: 2 for the first retry.
        attempt: u32,
        /// How long it waits before.
        pause: Duration,
    },
    /// A call was worth another attempt, and the budget had none.
    BudgetEmpty,
    /// A read was asked a second time beside the first.
    Hedged,
    /// A call found no place in the bulkhead.
    Shed,
    /// An answer came from the cache.
    CacheHit,
    /// The target failed, and an older answer of this age was given.
    Fallback(Duration),
    /// A read got the answer of another that was under way.
    Coalesced,
}

/// Is told of what layers do: quickly, the call waits for it.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Hook>>);

type Hook = dyn Fn(&Event) + Send + Sync;

impl Observer {
    /// An observer that calls this.
    pub fn new(hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    pub(crate) fn tell(&self, event: Event) {
        if let Some(hook) = &self.0 {
            hook(&event);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
