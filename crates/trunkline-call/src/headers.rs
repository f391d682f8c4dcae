//! The headers that carry a [`Context`] from hop to hop.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use trunkline_core::{ByteString, Context, Env, TraceContext};

/// W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The flow that a request belongs to.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// The one request, as it came in from outside.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Milliseconds that are left for the work; only ever shortened on the way.
pub const DEADLINE_MS: HeaderName = HeaderName::from_static("x-trunkline-deadline-ms");
/// The verified user; set by the gateway, taken off whatever comes from outside.
pub const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
/// The service that calls.
pub const CALLER: HeaderName = HeaderName::from_static("x-trunkline-caller");
/// The event that caused the call.
pub const CAUSATION_ID: HeaderName = HeaderName::from_static("x-trunkline-causation-id");
/// Makes a request that changes something safe to repeat.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longer ids from outside are not taken over.
const ID_BYTES_MAX: usize = 128;

/// The context that a request carries; what it lacks or garbles begins anew.
pub fn context_of(headers: &HeaderMap, env: &Env) -> Context {
    let trace = text(headers, &TRACEPARENT).and_then(|text| text.parse::<TraceContext>().ok());
    let deadline = text(headers, &DEADLINE_MS)
        .and_then(|text| text.parse::<u64>().ok())
        .map(|millis| env.after(Duration::from_millis(millis)));
    let correlation = id(headers, &CORRELATION_ID).or_else(|| id(headers, &REQUEST_ID));
    Context {
        trace: trace.unwrap_or_else(|| TraceContext::root(env)),
        correlation_id: correlation.unwrap_or_else(|| env.id().to_string().into()),
        causation_id: id(headers, &CAUSATION_ID),
        user_id: id(headers, &USER_ID),
        deadline,
    }
}

/// Whether a request came with a trace of its own.
pub(crate) fn parent_of(headers: &HeaderMap) -> Option<TraceContext> {
    text(headers, &TRACEPARENT)?.parse().ok()
}

/// Writes a context into a request's headers.
pub fn write(context: &Context, headers: &mut HeaderMap, env: &Env) {
    put(headers, TRACEPARENT, &context.trace.to_string());
    put(headers, CORRELATION_ID, &context.correlation_id);
    if let Some(id) = &context.causation_id {
        put(headers, CAUSATION_ID, id);
    }
    if let Some(id) = &context.user_id {
        put(headers, USER_ID, id);
    }
    if let Some(left) = context.remaining(env) {
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        headers.insert(DEADLINE_MS, HeaderValue::from(millis));
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // What can't be a header value (a foreign id with control characters) does not travel.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn id(headers: &HeaderMap, name: &HeaderName) -> Option<ByteString> {
    let id = text(headers, name)?;
    (1..=ID_BYTES_MAX).contains(&id.len()).then(|| id.into())
}
