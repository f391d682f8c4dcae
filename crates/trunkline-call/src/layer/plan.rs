//! What the layers know of one call.

use std::time::Duration;

use http::Request;
use tokio::time::Instant;

use crate::Body;
use crate::policy::Policy;

/// What a caller says of one call, as an extension of its request; what it leaves out is as the policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CallOptions {
    /// How long it may take. Never more than what `x-trunkline-deadline-ms` or `grpc-timeout` of the request leaves.
    pub timeout: Option<Duration>,
    /// Whether repeating it is safe, whatever its method.
    pub idempotent: Option<bool>,
    /// How often it is tried, the first time included: 1 for no retry.
    pub attempts_max: Option<u32>,
}

impl CallOptions {
    /// Says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long it may take.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Repeating it is safe.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = Some(true);
        self
    }

    /// It is tried once.
    #[must_use]
    pub fn no_retry(mut self) -> Self {
        self.attempts_max = Some(1);
        self
    }

    /// Puts them on a request.
    pub fn put(self, request: &mut Request<Body>) {
        request.extensions_mut().insert(self);
    }
}

/// The policy of one call, the caller's options applied, and its deadline once it has one. An extension of the request
/// between the layers; it never leaves the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) policy: Policy,
    pub(crate) times: Times,
}

/// Until when a call is waited for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// An attempt, until its answer begins; where nothing is said of attempts, as long as the call.
    pub(crate) begins_by: Option<Instant>,
    /// The call, its answer's body included.
    pub(crate) ends_by: Option<Instant>,
}

impl Times {
    pub(crate) fn until(ends_by: Instant) -> Self {
        Self {
            begins_by: Some(ends_by),
            ends_by: Some(ends_by),
        }
    }
}

impl Plan {
    /// Puts the plan of a call on its request.
    pub(crate) fn put(mut policy: Policy, request: &mut Request<Body>) {
        let all = request.extensions_mut();
        if let Some(options) = all.remove::<CallOptions>() {
            policy.timeout = options.timeout.unwrap_or(policy.timeout);
            policy.idempotent = options.idempotent.or(policy.idempotent);
            policy.attempts_max = options.attempts_max.unwrap_or(policy.attempts_max).max(1);
        }
        let times = Times::default();
        all.insert(Self { policy, times });
    }

    /// Puts a plan that has changed where it was.
    pub(crate) fn put_back(self, request: &mut Request<Body>) {
        let all = request.extensions_mut();
        match all.get_mut() {
            Some(place) => *place = self,
            None => {
                all.insert(self);
            }
        }
    }

    /// That of a request, or else one by a layer's own policy.
    pub(crate) fn of(request: &Request<Body>, own: &Policy) -> Self {
        request.extensions().get().copied().unwrap_or(Self {
            policy: *own,
            times: Times::default(),
        })
    }

    /// Whether repeating the request is safe: it is declared so, its method says so, or it has an idempotency key.
    pub(crate) fn is_safe(&self, request: &Request<Body>) -> bool {
        self.policy.idempotent.unwrap_or_else(|| {
            request.method().is_idempotent()
                || request
                    .headers()
                    .contains_key(&crate::headers::IDEMPOTENCY_KEY)
        })
    }
}
