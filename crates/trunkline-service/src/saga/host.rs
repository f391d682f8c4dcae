//! What an engine of sagas works with: a service.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use trunkline_core::{ByteString, Context, Error, Result};
use trunkline_saga::{At, Begin, Committed, Data, Host, Instance, State, Went};
use trunkline_telemetry::SpanKind;

use crate::Cx;
use crate::alerts::Alerts;
use crate::runtime::Runtime;

/// The longest idempotency key that every service takes has 255 bytes; calls add their number.
const KEY_BYTES_MAX: usize = 240;

/// A service, as its sagas see it: each attempt of a step is a span and has a [`Cx`] of its own.
#[derive(Clone)]
pub struct SagaHost {
    runtime: Arc<Runtime>,
    alerts: Alerts,
}

/// What an instance keeps of the work that started it.
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    /// W3C `traceparent`.
    trace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<ByteString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    causation_id: Option<ByteString>,
}

/// What an instance has of this work.
pub(super) fn begin(cx: &Cx) -> Result<Begin> {
    let context = cx.context();
    let started = Started {
        trace: context.trace.to_string(),
        user_id: context.user_id.clone(),
        causation_id: context.causation_id.clone(),
    };
    Ok(Begin {
        context: Data::of(&started)?,
        ..Begin::flow(context.correlation_id.clone())
    })
}

impl SagaHost {
    pub(super) fn new(runtime: Arc<Runtime>, alerts: Alerts) -> Self {
        Self { runtime, alerts }
    }

    /// The context that an instance was started in. What can't be read of it, as one that an older program wrote, is new.
    fn context(&self, instance: &Instance) -> Context {
        let mut context = Context::root(&self.runtime.env);
        context.correlation_id = instance.correlation_id.clone();
        if let Ok(started) = instance.context.get::<Started>() {
            context.trace = started.trace.parse().unwrap_or(context.trace);
            context.user_id = started.user_id;
            context.causation_id = started.causation_id;
        }
        context
    }
}

impl Host for SagaHost {
    type Work = Cx;

    fn begin(&self, at: &At) -> Cx {
        let context = self.context(&at.instance);
        let undo = if at.undo { "undo " } else { "" };
        let name = format!("saga {} {undo}{}", at.instance.saga, at.name);
        let (telemetry, service) = (&self.runtime.telemetry, &self.runtime.name);
        let mut span = telemetry.span(SpanKind::Internal, name, service, Some(context.trace));
        if span.is_recorded() {
            span.set("saga.id", at.instance.id.to_string());
            span.set("saga.attempt", i64::from(at.attempt));
        }
        Cx::of_step(
            self.runtime.clone(),
            context,
            (key(at), at.stable_id(), span),
        )
    }

    fn commit<'a>(&'a self, work: &'a Cx, went: Went) -> BoxFuture<'a, Result<Committed>> {
        Box::pin(async move {
            let committed = work.finish_step(went).await;
            work.end_step(committed.as_ref().err());
            committed
        })
    }

    fn abandon<'a>(&'a self, work: &'a Cx, error: &'a Error) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            work.undo().await;
            work.end_step(Some(error));
        })
    }

    fn settled(&self, instance: &Instance) {
        if instance.state == State::Parked {
            self.alerts.saga_parked(&self.runtime.name, instance);
        }
    }
}

/// The step's idempotency key, in a form that can be sent.
fn key(at: &At) -> ByteString {
    let key = at.idempotency_key();
    let sends = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if sends && key.len() <= KEY_BYTES_MAX {
        key.into()
    } else {
        at.stable_id().to_string().into()
    }
}

impl fmt::Debug for SagaHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SagaHost")
            .field("service", &self.runtime.name)
            .finish_non_exhaustive()
    }
}
