//! What travels with every piece of work.

use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;

use crate::{Env, Envelope, TraceContext};

/// What travels with a request or an event through every hop: trace, correlation, cause, user and
/// the time by which the work must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The span that this work is.
    pub trace: TraceContext,
    /// The id of the whole business flow (`x-correlation-id`, CloudEvents `correlationid`).
    pub correlation_id: ByteString,
    /// The id of the event that caused this work, if an event did.
    pub causation_id: Option<ByteString>,
    /// The one request from outside that it is part of; an event's work is part of none.
    pub request_id: Option<ByteString>,
    /// The user on whose behalf it is done.
    pub user_id: Option<ByteString>,
    /// What the user may act as, as the request's verified token says. An event does not carry them: by the time it is
    /// handled they may be others.
    pub user_roles: Vec<ByteString>,
    /// When whoever waits for it stops waiting.
    pub deadline: Option<Timestamp>,
}

impl Context {
    /// The beginning of a flow: a new trace, a new correlation id, nobody's, without a deadline.
    pub fn root(env: &Env) -> Self {
        Self {
            trace: TraceContext::root(env),
            correlation_id: env.id().to_string().into(),
            causation_id: None,
            request_id: None,
            user_id: None,
            user_roles: Vec::new(),
            deadline: None,
        }
    }

    /// The work that an event causes: its flow, its user and its trace go on, the event is the cause,
    /// and nobody waits. An event without a trace begins one.
    pub fn of_event(event: &Envelope, env: &Env) -> Self {
        Self {
            trace: event
                .trace
                .map_or_else(|| TraceContext::root(env), |trace| trace.child(env)),
            correlation_id: event.correlation_id.clone(),
            causation_id: Some(event.id.clone()),
            request_id: None,
            user_id: event.user_id.clone(),
            user_roles: Vec::new(),
            deadline: None,
        }
    }

    /// The same flow in a new span.
    #[must_use]
    pub fn child(&self, env: &Env) -> Self {
        Self {
            trace: self.trace.child(env),
            ..self.clone()
        }
    }

    /// The same work on behalf of a user.
    #[must_use]
    pub fn with_user(self, user_id: impl Into<ByteString>) -> Self {
        Self {
            user_id: Some(user_id.into()),
            ..self
        }
    }

    /// The same work, to be done within `limit` from now. A deadline is only ever shortened.
    #[must_use]
    pub fn within(self, limit: Duration, env: &Env) -> Self {
        let limit = env.after(limit);
        Self {
            deadline: Some(self.deadline.map_or(limit, |earlier| earlier.min(limit))),
            ..self
        }
    }

    /// How long whoever waits goes on waiting: zero when the deadline has passed, `None` without one.
    pub fn remaining(&self, env: &Env) -> Option<Duration> {
        let left = self.deadline?.duration_since(env.now());
        Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
    }
}

#[cfg(test)]
mod tests;
