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
/// What the verified user may act as, separated by commas; set and taken off with [`USER_ID`].
pub const USER_ROLES: HeaderName = HeaderName::from_static("x-user-roles");
/// The service that calls.
pub const CALLER: HeaderName = HeaderName::from_static("x-trunkline-caller");
/// The event that caused the call.
pub const CAUSATION_ID: HeaderName = HeaderName::from_static("x-trunkline-causation-id");
/// Makes a request that changes something safe to repeat.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longer ids from outside are not taken over.
const ID_BYTES_MAX: usize = 128;
/// More roles than this are not taken over.
const ROLES_MAX: usize = 64;

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
        request_id: id(headers, &REQUEST_ID),
        user_id: id(headers, &USER_ID),
        user_roles: roles(headers),
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
    if let Some(id) = &context.request_id {
        put(headers, REQUEST_ID, id);
    }
    if let Some(id) = &context.user_id {
        put(headers, USER_ID, id);
    }
    write_roles(headers, &context.user_roles);
    if let Some(left) = context.remaining(env) {
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        headers.insert(DEADLINE_MS, HeaderValue::from(millis));
    }
}

/// Says what the user may act as. A role that can't be told from two others, or is no visible ASCII, is left out, and
/// so is what is beyond 64: who gets too few roles is refused something, who gets a wrong one is not.
pub fn write_roles(headers: &mut HeaderMap, roles: &[ByteString]) {
    let is_role = |role: &&ByteString| {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b',';
        (1..=ID_BYTES_MAX).contains(&role.len()) && role.bytes().all(plain)
    };
    let roles: Vec<&str> = roles
        .iter()
        .filter(is_role)
        .take(ROLES_MAX)
        .map(|role| &**role)
        .collect();
    if roles.is_empty() {
        headers.remove(USER_ROLES);
    } else {
        put(headers, USER_ROLES, &roles.join(","));
    }
}

/// Roles without a user are nobody's.
fn roles(headers: &HeaderMap) -> Vec<ByteString> {
    let (Some(_), Some(roles)) = (id(headers, &USER_ID), text(headers, &USER_ROLES)) else {
        return Vec::new();
    };
    let roles = roles.split(',').map(str::trim);
    roles
        .filter(|role| !role.is_empty())
        .take(ROLES_MAX)
        .map(ByteString::from)
        .collect()
}

pub(crate) fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_travel_with_their_user_and_two_make_no_third() {
        let env = Env::seeded(1);
        let mut context = Context::root(&env).with_user("ann");
        context.user_roles = ["buyer", "a,admin", "", "ro ot", "audit:eu"]
            .map(ByteString::from)
            .to_vec();
        let mut headers = HeaderMap::new();
        write(&context, &mut headers, &env);
        assert_eq!(headers.get(USER_ROLES).unwrap(), "buyer,audit:eu");
        assert_eq!(context_of(&headers, &env).user_roles, ["buyer", "audit:eu"]);
        headers.remove(USER_ID);
        assert_eq!(context_of(&headers, &env).user_roles, [""; 0]);

        // A context without roles leaves none of somebody else's.
        context.user_roles.clear();
        write(&context, &mut headers, &env);
        assert_eq!(headers.get(USER_ROLES), None);
    }
}
