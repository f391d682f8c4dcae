//! One span and one count for each call.

use std::future::Future;
use std::sync::OnceLock;

use futures::FutureExt;
use http::{HeaderValue, Request, Response};
use metrics::{Counter, Histogram, counter, histogram};
use tokio::time::Instant;
use trunkline_core::{ByteString, Result};
use trunkline_telemetry::{Span, SpanKind, Telemetry};

use super::{Around, Next, Outcome};
use crate::{Body, headers};

/// Opens the call's span, says who calls, and counts and times the call: once, however often it is tried.
pub(crate) struct Trace {
    telemetry: Telemetry,
    caller: ByteString,
    target: ByteString,
    meters: OnceLock<Meters>,
}

struct Meters {
    answered: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Trace {
    pub(crate) fn new(telemetry: Telemetry, caller: ByteString, target: ByteString) -> Self {
        Self {
            telemetry,
            caller,
            target,
            meters: OnceLock::new(),
        }
    }

    fn meters(&self) -> &Meters {
        self.meters.get_or_init(|| {
            let labels = [
                ("service", self.caller.to_string()),
                ("target", self.target.to_string()),
            ];
            let with = |outcome: &'static str| {
                let outcome = [("outcome", outcome.to_owned())];
                labels.iter().cloned().chain(outcome).collect::<Vec<_>>()
            };
            Meters {
                answered: counter!("trunkline_calls_total", &with("answered")),
                failed: counter!("trunkline_calls_total", &with("failed")),
                seconds: histogram!("trunkline_call_seconds", &labels),
            }
        })
    }

    /// Opens the call's span and puts its context on the request.
    fn open(&self, request: &mut Request<Body>) -> Span {
        let parent = headers::parent_of(request.headers());
        let mut span = self
            .telemetry
            .span(SpanKind::Client, "call", &self.caller, parent);
        if span.is_recorded() {
            span.rename(format!("{} {}", request.method(), self.target));
            span.set("server.address", self.target.clone());
        }
        let all = request.headers_mut();
        // One that nobody records is its parent, which is on the request already.
        if parent != Some(span.context())
            && let Ok(value) = HeaderValue::try_from(span.context().to_string())
        {
            all.insert(headers::TRACEPARENT, value);
        }
        if let Ok(value) = HeaderValue::from_maybe_shared(self.caller.as_bytes().clone()) {
            all.insert(headers::CALLER, value);
        }
        span
    }
}

impl Around for Trace {
    fn around<N: Next>(
        &self,
        mut request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        let began = Instant::now();
        let mut span = self.open(&mut request);
        next.call(request).map(move |answer| {
            let meters = self.meters();
            meters.seconds.record(began.elapsed());
            match answer {
                Ok(response) => {
                    meters.answered.increment(1);
                    if Outcome::of_response(&response).is_some_and(Outcome::is_failure) {
                        span.fail_with(response.status().to_string());
                    }
                    Ok(response)
                }
                Err(error) => {
                    meters.failed.increment(1);
                    span.fail(&error);
                    Err(error
                        .with("caller", &self.caller)
                        .with("target", &self.target))
                }
            }
        })
    }
}
