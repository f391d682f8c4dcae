//! A channel: one service calls another.

use std::fmt;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use tower::Service;
use trunkline_core::{ByteString, Error, Result};

use crate::dispatch::dispatch;
use crate::layer::plan::Plan;
use crate::layer::{Around, Identify, Next, Over};
use crate::line::Line;
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

    /// What its circuit breaker does with calls now.
    pub fn breaker_state(&self) -> crate::layer::BreakerState {
        self.line.breaker.breaker().state()
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// What [`Service::call`] does, without a box of its own: the stack, outermost first.
    pub(crate) async fn run(self, mut request: Request<Body>) -> Result<Response<Body>> {
        let line = &*self.line;
        let policy = *line
            .policy
            .load()
            .operation(request.method().as_str(), request.uri().path());
        Plan::put(policy, &mut request);
        let (proof, target) = (Proof(&self), Dispatch(&self));
        if self.is_bare {
            let stack = stack![&line.trace, &line.deadline, &proof => target];
            return stack.call(request).await;
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
            // Each attempt meets the breaker; open, it refuses at once, and that is not tried again.
            &line.breaker,
            // A place is kept until the answer's body has ended. A bounded queue waits for one; the rest is shed.
            &line.bulkhead,
            // Each attempt has a fresh proof of who calls.
            &proof
            => target
        ];
        stack.call(request).await
    }
}

/// Proves who calls, if the network has an identity and the target is a service of the platform in another process. In
/// this one it is told without a proof.
struct Proof<'a>(&'a Channel);

impl Around for Proof<'_> {
    async fn around<N: Next>(&self, request: Request<Body>, next: &N) -> Result<Response<Body>> {
        let Channel { network, line, .. } = self.0;
        let identity = network.lines().identity();
        match identity.filter(|_| network.is_elsewhere(&line.target)) {
            None => next.call(request).await,
            Some(identity) => {
                let layer = Identify::new(identity, line.caller.clone(), line.target.clone());
                Box::pin(layer.around(request, next)).await
            }
        }
    }
}

/// The target, wherever it is.
struct Dispatch<'a>(&'a Channel);

impl Next for Dispatch<'_> {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>> {
        let Channel { network, line, .. } = self.0;
        dispatch(network, (&line.caller, &line.target), request).await
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
