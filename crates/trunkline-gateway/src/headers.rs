//! Headers that concern one connection alone, that only the gateway may set, or that it tells its services.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, TE};
use http::{HeaderMap, HeaderValue};
pub(crate) use trunkline_call::headers::strip_ours;
use trunkline_call::headers::{OURS, USER_ID, USER_ROLES};
use trunkline_core::ByteString;

use crate::client::Client;
use crate::consumers::Member;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Takes off what holds for one connection only, and what `Connection` names besides.
///
/// # Source
/// RFC 9110, 7.6.1. `TE: trailers` is kept, for gRPC; `Host` is never taken off by `Connection: host`.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip(headers, is_hop_by_hop);
}

/// Takes off the same of a client's request, and what only the gateway may say: who the user is and may act as, where the request
/// came from, and what services say among themselves.
pub(crate) fn strip_of_client(headers: &mut HeaderMap) {
    strip(headers, |name| {
        is_hop_by_hop(name) || is_claim(name) || name.as_str().starts_with(OURS)
    });
}

/// Takes off these headers, and what `Connection` names besides.
fn strip(headers: &mut HeaderMap, is_one: impl Fn(&HeaderName) -> bool) {
    // Most have none of them, or what calls of gRPC say, which is kept: one look at all names costs less than asking for each.
    let is_kept = |name: &HeaderName| *name == TE && says_trailers(headers);
    let goes = |name: &&HeaderName| is_one(name) && !is_kept(name);
    let own: Vec<HeaderName> = headers.keys().filter(goes).cloned().collect();
    if own.is_empty() {
        return;
    }
    let trailers = asks_for_trailers(headers);
    let named = match own.contains(&CONNECTION) {
        true => named_by_connection(headers),
        false => Vec::new(),
    };
    for name in named.iter().chain(&own) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether `TE` says what it may say, and nothing else.
fn says_trailers(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TE).iter();
    values.all(|value| value == "trailers")
}

fn asks_for_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Headers that hold for one connection only because `Connection` says so.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    // What most say names no header that is not taken off anyway.
    let is_usual = |value: &HeaderValue| {
        let usual: [&[u8]; 2] = [b"keep-alive", b"close"];
        usual
            .iter()
            .any(|usual| value.as_bytes().eq_ignore_ascii_case(usual))
    };
    let values = headers.get_all(CONNECTION).iter();
    let words = values
        .filter(|value| !is_usual(value))
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let names = words.filter_map(|word| word.trim().parse::<HeaderName>().ok());
    names.filter(|name| *name != HOST).collect()
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

const CONSUMER_USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
const CONSUMER_CUSTOM_ID: HeaderName = HeaderName::from_static("x-consumer-custom-id");
const ANONYMOUS_CONSUMER: HeaderName = HeaderName::from_static("x-anonymous-consumer");

/// Whether Kong tells services of the consumer by it.
fn is_of_consumer(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "x-consumer-username"
            | "x-consumer-custom-id"
            | "x-consumer-groups"
            | "x-anonymous-consumer"
            | "x-consumer-id"
    )
}

/// Whether a header is one that no plugin may be told to change: of framing, of the connection, or the gateway's word.
pub(crate) fn is_ours(name: &HeaderName) -> bool {
    is_hop_by_hop(name)
        || is_of_consumer(name)
        || [CONTENT_LENGTH, HOST, USER_ID, USER_ROLES].contains(name)
        || name.as_str().starts_with(OURS)
}

/// Tells the service which consumer it is.
pub(crate) fn tell_consumer(
    more: &mut Vec<(HeaderName, HeaderValue)>,
    member: &Member,
    is_anonymous: bool,
) {
    more.extend(shared(CONSUMER_USERNAME, &member.username));
    let id = member.custom_id.as_ref();
    more.extend(id.and_then(|id| shared(CONSUMER_CUSTOM_ID, id)));
    if is_anonymous {
        more.push((ANONYMOUS_CONSUMER, HeaderValue::from_static("true")));
    }
}

/// Whether only the gateway may say it.
fn is_claim(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "x-user-id"
            | "x-user-roles"
            | "expect"
            | "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-forwarded-port"
            | "x-forwarded-prefix"
            | "x-real-ip"
    ) || is_of_consumer(name)
}

/// Tells the service where the request came from, as Kong does.
pub(crate) fn forward(headers: &mut HeaderMap, client: &Client, prefix: Option<&str>) {
    let scheme = if client.session.is_some() {
        "https"
    } else {
        "http"
    };
    headers.insert(FORWARDED_FOR, client.address.clone());
    headers.insert(REAL_IP, client.address.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    headers.insert(FORWARDED_PORT, client.port.clone());
    if let Some(host) = headers.remove(HOST) {
        headers.insert(FORWARDED_HOST, host);
    }
    if let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) {
        put(headers, FORWARDED_PREFIX, prefix);
    }
}

/// Makes one `Cookie` of several, as which HTTP/2 may send it and HTTP/1.1 may not (RFC 9113, 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(COOKIE).iter();
    if all.next().is_none() || all.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

/// A header with a text that it shares, unless its value can't be one.
pub(crate) fn shared(name: HeaderName, value: &ByteString) -> Option<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_maybe_shared(value.as_bytes().clone()).ok()?;
    Some((name, value))
}

/// Sets a header, unless its value can't be one.
pub(crate) fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn what_holds_for_one_connection_stays_there() {
        let mut headers = map(&[
            ("connection", "close, X-Secret, host, te"),
            ("x-secret", "1"),
            ("host", "h"),
            ("te", "gzip, Trailers"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut headers);
        let expected = map(&[("host", "h"), ("te", "trailers"), ("accept", "*/*")]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_client_can_not_say_who_it_is() {
        let mut headers = map(&[
            ("x-user-id", "admin"),
            ("x-user-roles", "admin"),
            ("x-trunkline-caller", "order-service"),
            ("x-trunkline-deadline-ms", "9999999"),
            ("x-trunkline-anything", "1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("x-forwarded-port", "443"),
            ("host", "shop"),
        ]);
        strip_of_client(&mut headers);
        let client = Client::new("[::ffff:10.1.2.3]:1".parse().unwrap(), 8000, None);
        forward(&mut headers, &client, Some("/api"));
        let expected = map(&[
            ("x-forwarded-for", "10.1.2.3"),
            ("x-real-ip", "10.1.2.3"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-port", "8000"),
            ("x-forwarded-host", "shop"),
            ("x-forwarded-prefix", "/api"),
        ]);
        assert_eq!(headers, expected);
    }
}
