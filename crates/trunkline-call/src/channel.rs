//! A channel: one service calls another.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use futures::future::{BoxFuture, Either, ready};
use http::{Request, Response};
use tower::Service;
use trunkline_core::{ByteString, Error, Result};

use crate::balance::Avoid;
use crate::dispatch::Way;
use crate::layer::held::AtHand;
use crate::layer::plan::Plan;
use crate::layer::{Around, Identify, Next, Over};
use crate::line::Line;
use crate::network::Place;
use crate::{Body, Network, Responses};

/// A stack of layers over a target, outermost first.
macro_rules! stack {
    ($layer:expr => $end:expr) => { Over($layer, $end) };
    ($layer:expr, $($rest:expr),+ => $end:expr) => { Over($layer, stack![$($rest),+ => $end]) };
}
/// Calls one target on behalf of one service: a `tower::Service` over HTTP requests. Cheap to clone.
///
/// # Guarantees
/// A call is made by the target's [`Policy`](crate::policy::Policy), which its [`CallOptions`](crate::CallOptions)
/// refine. Its deadline is the policy's timeout, or what `x-trunkline-deadline-ms` or `grpc-timeout` leaves if that is
/// less; it holds until the response's body has ended, and what is left of it travels on. In process nothing but the
/// request's line, headers and body reaches the target, through the same layers as over the network.
///
/// # Errors
/// `Unavailable` when the target is not known or can't be reached (`Transient`: nothing was sent), the connection broke
/// (`Unknown`), or its circuit breaker is open (`circuit_open`, `Transient`); `Overloaded` when too many calls are under
/// way (`bulkhead_full`, `Transient`); `DeadlineExceeded` (`Unknown`); `Internal` when the target panicked.
/// A response with an error status is a response, not an error.
#[derive(Clone)]
pub struct Channel {
    network: Network,
    line: Arc<Line>,
    is_bare: bool,
}

impl Channel {
    pub(crate) fn new(network: Network, line: Arc<Line>) -> Self {
        Self {
            network,
            line,
            is_bare: false,
        }
    }

    /// The same with trace, deadline and identity alone: without cache, retries, breaker and bulkhead, for whoever has
    /// rules of its own.
    #[must_use]
    pub fn bare(self) -> Self {
        Self {
            is_bare: true,
            ..self
        }
    }

    /// The service that calls.
    pub fn caller(&self) -> &ByteString {
        &self.line.caller
    }

    /// The service that is called.
    pub fn target(&self) -> &ByteString {
        &self.line.target
    }

    /// How the target's answers look.
    pub fn responses(&self) -> Responses {
        self.network
            .responses(&self.line.target)
            .unwrap_or_default()
    }

    /// What its circuit breaker does with calls now. A target with several instances is open when it has none left.
    pub fn breaker_state(&self) -> crate::layer::BreakerState {
        match self.network.pool(&self.line.target) {
            Some(pool) => self.line.breakers(&pool).state(),
            None => self.line.breaker.breaker().state(),
        }
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// What [`Service::call`] does, without a box of its own: the stack, outermost first.
    pub(crate) fn run(
        self,
        mut request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        let line = &*self.line;
        let policy = *line
            .policy
            .load()
            .operation(request.method().as_str(), request.uri().path());
        Plan::put(policy, &mut request);
        // One look at the table for the whole call.
        let found = self.network.find(&line.target);
        let place = found.as_ref().map(|target| &target.place);
        if !self.is_bare {
            tries_elsewhere(place, &mut request);
        }
        // What was done so far has no room in what is waited for.
        async move {
            let (line, place) = (&*self.line, found.as_ref().map(|target| &target.place));
            let (proof, gate) = (Proof(&self, place), Gate { line, place });
            let way = Way {
                network: &self.network,
                line,
                place,
                is_bare: self.is_bare,
            };
            if self.is_bare {
                let stack = stack![&line.trace, &line.deadline, &proof => way];
                return Ok(AtHand::forget(stack.call(request).await?));
            }
            let stack = stack![
                // One span and one count, whatever becomes of the call further in.
                &line.trace,
                // Bounds all that follows: queues, pauses, attempts and the body. Time up is an error.
                &line.deadline,
                // What is kept and good costs nothing further in; when that fails, what is old stands in.
                &line.cache,
                // Identical reads are one from here on.
                &line.coalesce,
                // One call becomes up to `attempts_max`, out of the target's budget.
                &line.retry,
                // One attempt at a late read becomes two, out of the same budget.
                &line.hedge,
                // Each attempt has a time of its own, until its answer begins, if the policy says so.
                &line.attempt,
                // Each attempt meets the breaker; open, it refuses at once, and that is not tried again.
                &gate,
                // A place is kept until the answer's body has ended. A bounded queue waits for one; the rest is shed.
                &line.bulkhead,
                // Each attempt has a fresh proof of who calls.
                &proof
                // In process, or at an instance whose own breaker lets it through.
                => way
            ];
            Ok(AtHand::forget(stack.call(request).await?))
        }
    }
}

/// The breaker of the target as a whole: its own in this process, elsewhere that of its instances together.
struct Gate<'a> {
    line: &'a Line,
    place: Option<&'a Place>,
}

/// Where there are several instances, or nobody knows yet, who tries again goes to another.
fn tries_elsewhere(place: Option<&Place>, request: &mut Request<Body>) {
    if let Some(Place::Remote { pool, .. }) = place
        && pool.seen(|members| members.len() != 1)
        && request.extensions().get::<Avoid>().is_none()
    {
        request.extensions_mut().insert(Avoid::new());
    }
}

impl Around for Gate<'_> {
    fn around<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        match self.place {
            Some(Place::Remote { pool, .. }) => match self.line.breakers(pool).check(pool) {
                Ok(()) => Either::Left(Either::Left(next.call(request))),
                Err(error) => Either::Left(Either::Right(ready(Err(error)))),
            },
            _ => Either::Right(self.line.breaker.around(request, next)),
        }
    }
}

/// Proves who calls, if the network has an identity and the target is a service of the platform in another process. In
/// this one it is told without a proof.
struct Proof<'a>(&'a Channel, Option<&'a Place>);

impl Around for Proof<'_> {
    fn around<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        let Channel { network, line, .. } = self.0;
        let identity = network.lines().identity();
        let is_elsewhere = matches!(self.1, Some(Place::Remote { outside: false, .. }));
        match identity.filter(|_| is_elsewhere) {
            None => Either::Left(next.call(request)),
            Some(identity) => {
                let layer = Identify::new(identity, line.caller.clone(), line.target.clone());
                Either::Right(Box::pin(async move { layer.around(request, next).await }))
            }
        }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().run(request))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({} -> {})", self.caller(), self.target())
    }
}
