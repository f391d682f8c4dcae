//! The headers that carry a [`Context`] from hop to hop.

use std::time::Duration;

use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use trunkline_core::{ByteString, Context, Env, Error, Retry, Timestamp, TraceContext};

/// W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The flow that a request belongs to.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// The one request, as it came in from outside.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Milliseconds that are left for the work; only ever shortened on the way.
pub const DEADLINE_MS: HeaderName = HeaderName::from_static("x-trunkline-deadline-ms");
/// The same as gRPC says it; see [`DEADLINE_MS`].
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The verified user; set by the gateway, taken off whatever comes from outside.
pub const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
/// What the verified user may act as, separated by commas; set and taken off with [`USER_ID`].
pub const USER_ROLES: HeaderName = HeaderName::from_static("x-user-roles");
/// The service that calls.
pub const CALLER: HeaderName = HeaderName::from_static("x-trunkline-caller");
/// What sessions of the instance that is called are known by; see [`Session`](crate::balance::Session).
pub const INSTANCE: HeaderName = HeaderName::from_static("x-trunkline-instance");
/// The event that caused the call.
pub const CAUSATION_ID: HeaderName = HeaderName::from_static("x-trunkline-causation-id");
/// Makes a request that changes something safe to repeat.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Whether what failed may be tried again, in an answer: `transient`, `unknown` or `permanent`.
pub const RETRY: HeaderName = HeaderName::from_static("x-trunkline-retry");
/// How often it was tried further down, in the answer of what failed all the same: nobody further up tries it again.
pub const RETRIED: HeaderName = HeaderName::from_static("x-trunkline-retried");

/// The fact of an error that [`RETRIED`] is made of.
pub(crate) const ATTEMPTS: &str = "attempts";
/// The code of an error that a circuit breaker refuses a call with.
pub(crate) const CIRCUIT_OPEN: &str = "circuit_open";
/// The code of an error of a call that found no place.
pub(crate) const BULKHEAD_FULL: &str = "bulkhead_full";

/// What is another one in each message, as a rule.
const PASSING: [&str; 8] = [
    "traceparent",
    "tracestate",
    "x-request-id",
    "x-correlation-id",
    "x-trunkline-deadline-ms",
    "x-trunkline-causation-id",
    "grpc-timeout",
    "idempotency-key",
];

/// Keeps values that come once out of the table that both ends of a connection of HTTP/2 keep (RFC 7541, 2.3.2): there
/// they would push out what comes again, and finding that costs more than it saves. `is_passing` names some besides. What
/// is said in the first message of a connection is best left as it is: then the table has the names.
pub fn spare_table(headers: &mut HeaderMap, is_passing: impl Fn(&str) -> bool) {
    for (name, value) in headers.iter_mut() {
        let name = name.as_str();
        if PASSING.contains(&name) || is_passing(name) {
            value.set_sensitive(true);
        }
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const OF_CONNECTIONS: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    KEEP_ALIVE,
    PROXY_CONNECTION,
];

/// Takes off what HTTP/2 says by frames (RFC 9113, 8.2.2), and what `Connection` names: no message of it may say such a thing.
pub fn strip_connection(headers: &mut HeaderMap) {
    let is_kept = |(name, value): (&HeaderName, &HeaderValue)| match *name {
        TE => value == "trailers",
        ref name => !OF_CONNECTIONS.contains(name),
    };
    if headers.iter().all(is_kept) {
        return;
    }
    let named = headers.remove(CONNECTION);
    let named = named.as_ref().and_then(|named| named.to_str().ok());
    for name in named.unwrap_or_default().split(',') {
        headers.remove(name.trim());
    }
    for name in OF_CONNECTIONS {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        headers.remove(TE);
    }
}

/// Longer ids from outside are not taken over.
const ID_BYTES_MAX: usize = 128;
/// More roles than this are not taken over.
const ROLES_MAX: usize = 64;

/// What a request carries of a [`Context`]; what it lacks or garbles is none.
#[derive(Default)]
pub(crate) struct Carried<'a> {
    pub(crate) trace: Option<TraceContext>,
    /// How long whoever waits goes on waiting.
    pub(crate) left: Option<Duration>,
    correlation_id: Option<&'a str>,
    causation_id: Option<&'a str>,
    request_id: Option<&'a str>,
    user_id: Option<&'a str>,
    roles: Option<&'a str>,
}

impl<'a> Carried<'a> {
    /// Reads the headers once, rather than looking each name up. Of several of a name the first counts.
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let mut carried = Self::default();
        let (mut trace, mut left, mut timeout) = (None, None, None);
        for (name, value) in headers {
            let place = match name.as_str() {
                "traceparent" => &mut trace,
                "x-trunkline-deadline-ms" => &mut left,
                "grpc-timeout" => &mut timeout,
                "x-correlation-id" => &mut carried.correlation_id,
                "x-trunkline-causation-id" => &mut carried.causation_id,
                "x-request-id" => &mut carried.request_id,
                "x-user-id" => &mut carried.user_id,
                "x-user-roles" => &mut carried.roles,
                _ => continue,
            };
            if place.is_none() {
                *place = Some(value.to_str().unwrap_or_default());
            }
        }
        carried.trace = trace.and_then(|text| text.parse().ok());
        let left = left.and_then(|text| Some(Duration::from_millis(text.parse().ok()?)));
        carried.left = left.into_iter().chain(timeout.and_then(time_of)).min();
        carried
    }

    /// The context of the work; what was not carried begins anew. It has the deadline that is given.
    pub(crate) fn context(&self, env: &Env, deadline: Option<Timestamp>) -> Context {
        let correlation = id(self.correlation_id).or_else(|| id(self.request_id));
        let user_id = id(self.user_id);
        // Roles without a user are nobody's.
        let roles = self.roles.filter(|_| user_id.is_some());
        Context {
            trace: self.trace.unwrap_or_else(|| TraceContext::root(env)),
            correlation_id: correlation.unwrap_or_else(|| env.id().to_string().into()),
            causation_id: id(self.causation_id),
            request_id: id(self.request_id),
            user_roles: roles.map(split_roles).unwrap_or_default(),
            user_id,
            deadline,
        }
    }
}

/// The context that a request carries; what it lacks or garbles begins anew.
pub fn context_of(headers: &HeaderMap, env: &Env) -> Context {
    let carried = Carried::of(headers);
    carried.context(env, carried.left.map(|left| env.after(left)))
}

/// The trace that a request came with, if it has one.
pub(crate) fn parent_of(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get(&TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// How long whoever waits for a request goes on waiting, by whichever header says so; the shorter of two.
pub(crate) fn left(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let millis = text(DEADLINE_MS).and_then(|text| text.parse().ok());
    let grpc = text(GRPC_TIMEOUT).and_then(time_of);
    millis
        .map(Duration::from_millis)
        .into_iter()
        .chain(grpc)
        .min()
}

/// Reads a time as `grpc-timeout` writes it; what is not of its form says nothing.
///
/// # Source
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub fn time_of(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number =
        (1..=8).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes a context into a request's headers.
pub fn write(context: &Context, headers: &mut HeaderMap, env: &Env) {
    if let Ok(trace) = HeaderValue::try_from(context.trace.to_string()) {
        headers.insert(TRACEPARENT, trace);
    }
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
        put(headers, USER_ROLES, &roles.join(",").into());
    }
}

fn split_roles(roles: &str) -> Vec<ByteString> {
    let roles = roles.split(',').map(str::trim);
    roles
        .filter(|role| !role.is_empty())
        .take(ROLES_MAX)
        .map(ByteString::from)
        .collect()
}

/// What services say among themselves begins so.
pub const OURS: &str = "x-trunkline-";

/// Takes off who the user is and what services say among themselves.
pub(crate) fn strip_inner(headers: &mut HeaderMap) {
    headers.remove(USER_ID);
    headers.remove(USER_ROLES);
    strip_ours(headers);
}

/// Takes off what services say among themselves.
pub fn strip_ours(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(OURS))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Puts a text into a header, which shares it.
pub(crate) fn put(headers: &mut HeaderMap, name: HeaderName, value: &ByteString) {
    // What can't be a header value (a foreign id with control characters) does not travel.
    if let Ok(value) = HeaderValue::from_maybe_shared(value.as_bytes().clone()) {
        headers.insert(name, value);
    }
}

/// How often a call was tried again, as its error or one of its sources says.
pub(crate) fn attempts_of(error: &Error) -> Option<u32> {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = at {
        let error = cause.downcast_ref::<Error>();
        let mut facts = error.into_iter().flat_map(Error::context);
        if let Some((_, attempts)) = facts.find(|(key, _)| *key == ATTEMPTS) {
            return attempts.parse().ok();
        }
        at = cause.source();
    }
    None
}

/// Whether a call was refused on this side: it did not leave, and trying again at once would meet the same.
pub(crate) fn is_local(error: &Error) -> bool {
    matches!(error.code(), CIRCUIT_OPEN | BULKHEAD_FULL)
}

/// What an answer says of trying again.
pub(crate) fn class_of(headers: &HeaderMap) -> Option<Retry> {
    match headers.get(&RETRY)?.as_bytes() {
        b"transient" => Some(Retry::Transient),
        b"unknown" => Some(Retry::Unknown),
        b"permanent" => Some(Retry::Permanent),
        _ => None,
    }
}

fn id(text: Option<&str>) -> Option<ByteString> {
    let id = text?;
    (1..=ID_BYTES_MAX).contains(&id.len()).then(|| id.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_read_and_written_in_both_ways() {
        let read = |name: &'static str, text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(text));
            Carried::of(&headers).left
        };
        let millis = Duration::from_millis;
        for (text, left) in [
            ("2H", Some(millis(7_200_000))),
            ("3M", Some(millis(180_000))),
            ("4S", Some(millis(4_000))),
            ("5m", Some(millis(5))),
            ("6000u", Some(millis(6))),
            ("7000000n", Some(millis(7))),
            ("99999999H", Some(Duration::from_secs(359_999_996_400))),
            ("999999999m", None),
            ("+5m", None),
            ("5", None),
            ("m", None),
            ("", None),
            ("5x", None),
        ] {
            assert_eq!(read("grpc-timeout", text), left, "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("2S"));
        headers.insert(DEADLINE_MS, HeaderValue::from_static("3000"));
        assert_eq!(Carried::of(&headers).left, Some(millis(2_000)));
        assert_eq!(left(&headers), Some(millis(2_000)));
    }

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
