//! Whether a request is let in, and where it leads.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, LOCATION, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Response, StatusCode, Uri, Version};
use regex::Regex;
use trunkline_call::Body;
use trunkline_core::{ByteString, Error, Result};

use crate::client::{Client, Session};
use crate::config::Schemes;
use crate::path::normalise;
use crate::plugin::preflight;
use crate::problem::{
    CODING, CONNECT, malformed, misdirected, route_unknown, too_many_headers, unsupported,
    wrong_method,
};
use crate::route::{Asked, Found, Table, Target};
use crate::upstream::path::join;

/// More headers are refused. HTTP/1.1 refuses them itself, by this same number.
const HEADERS_MAX: usize = 100;

/// Where a request leads.
pub(crate) enum Entry {
    Target(Way),
    Probe(Probe),
    /// The route is for TLS alone, and this came without.
    Insecure(Response<Body>),
}

/// The way that a request takes.
pub(crate) struct Way {
    pub(crate) target: Arc<Target>,
    /// The prefix that was taken off the path.
    pub(crate) prefix: Option<String>,
    /// What the expression of its path captured.
    pub(crate) captures: Vec<(ByteString, ByteString)>,
}

/// A question about the gateway itself, where no route has its path.
pub(crate) enum Probe {
    Live,
    Ready,
}

impl Probe {
    pub(crate) fn answer(self, is_serving: bool) -> Response<Body> {
        let (word, well) = match self {
            Self::Live => ("alive", true),
            Self::Ready if is_serving => ("ready", true),
            Self::Ready => ("not_ready", false),
        };
        let mut response = Response::new(Body::from(format!("{{\"status\":\"{word}\"}}")));
        if !well {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

/// Checks the head of a request, normalises its path and finds its route. The request's URI is then the one that
/// goes on: path and query alone.
pub(crate) fn enter(
    request: &mut Parts,
    client: &Client,
    table: &Table<Arc<Target>>,
) -> Result<Entry> {
    check(request)?;
    if request.headers.len() > HEADERS_MAX {
        return Err(too_many_headers(HEADERS_MAX));
    }
    let host = host(request)?;
    if client
        .session
        .as_ref()
        .is_some_and(|session| !session.is_for(host.name()))
    {
        return Err(misdirected());
    }
    let path = normalise(request.uri.path())?;
    let session = client.session.as_ref();
    let (target, prefix, captures) = match find(table, request, session, (&host, &path)) {
        Found::Target {
            target,
            matched,
            regex,
        } => {
            let captures = regex.map(|regex| captured(regex, &path));
            (target.clone(), matched, captures.unwrap_or_default())
        }
        Found::WrongMethod(allowed) => return Err(wrong_method(&allowed)),
        Found::Nothing => {
            return match (&request.method, &*path) {
                (&Method::GET, "/health/live") => Ok(Entry::Probe(Probe::Live)),
                (&Method::GET, "/health/ready") => Ok(Entry::Probe(Probe::Ready)),
                _ => Err(route_unknown()),
            };
        }
    };
    match (target.schemes, session) {
        (Schemes::Https, None) => {
            return Ok(Entry::Insecure(insecure(target.redirect, &host, request)?));
        }
        (Schemes::Http, Some(_)) => return Err(route_unknown()),
        _ => {}
    }
    let strips = target.strip_path && prefix > 0;
    let (prefix, rest) = path.split_at_checked(prefix).unwrap_or(("", &path));
    let query = request.uri.query();
    let onward = match &target.base {
        None if strips => Some(onward_uri(rest, query)?),
        // Most go on as they came, but for the host.
        None if is_onward(&request.uri, &path) => None,
        None if path.len() > 1 && request.uri.path() == path => {
            request.uri.path_and_query().cloned().map(Uri::from)
        }
        None => Some(onward_uri(&path, query)?),
        Some(base) => Some(onward_uri(
            &join(base, &path, strips.then_some(rest)),
            query,
        )?),
    };
    if let Some(onward) = onward {
        request.uri = onward;
    }
    Ok(Entry::Target(Way {
        target,
        prefix: strips.then(|| prefix.trim_end_matches('/').to_owned()),
        captures,
    }))
}

/// Refuses what a service could read as something else than we do.
fn check(request: &Parts) -> Result<()> {
    let method = &request.method;
    if *method == Method::CONNECT {
        return Err(unsupported(CONNECT, "tunnels are not offered here"));
    }
    if *method == Method::TRACE {
        return Err(wrong_method(&[]));
    }
    // A route may be for GET alone, and its service take `get` for the same.
    if method
        .as_str()
        .bytes()
        .any(|byte| byte.is_ascii_lowercase())
    {
        return Err(malformed("expected a method in capitals"));
    }
    let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if is_chunked(coding) => Ok(()),
        _ => Err(unsupported(
            CODING,
            "expected no transfer coding but chunked",
        )),
    }
}

/// Each group by its number and, if it has one, by its name.
fn captured(regex: &Regex, path: &str) -> Vec<(ByteString, ByteString)> {
    let Some(found) = regex.captures(path).filter(|found| found.len() > 1) else {
        return Vec::new();
    };
    let mut captures = Vec::new();
    for (number, name) in regex.capture_names().enumerate().skip(1) {
        let Some(group) = found.get(number) else {
            continue;
        };
        let value = ByteString::from(group.as_str());
        if let Some(name) = name {
            captures.push((ByteString::from(name), value.clone()));
        }
        captures.push((ByteString::from(number.to_string()), value));
    }
    captures
}

/// Asks for the same with TLS (RFC 9110, 15.5.22), or sends the client there.
fn insecure(status: StatusCode, host: &Host, request: &Parts) -> Result<Response<Body>> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let secured = HeaderValue::from_static("TLS/1.3, HTTP/1.1");
        headers.insert(UPGRADE, secured);
    } else {
        let rest = request
            .uri
            .path_and_query()
            .map_or("/", PathAndQuery::as_str);
        let there = HeaderValue::try_from(format!("https://{}{rest}", host.name()));
        let there = there.map_err(|_| malformed("expected Host to be a host"))?;
        headers.insert(LOCATION, there);
    }
    Ok(response)
}

/// A preflight is routed by the method that it asks about, where OPTIONS itself is not taken and `cors` answers.
fn find<'a>(
    table: &'a Table<Arc<Target>>,
    request: &Parts,
    session: Option<&Session>,
    (host, path): (&Host, &str),
) -> Found<'a, Arc<Target>> {
    let asked = Asked {
        host: host.name(),
        port: host
            .port
            .unwrap_or(if session.is_some() { 443 } else { 80 }),
        path,
        method: &request.method,
        headers: &request.headers,
        // Who asked for no name has none, and that is not any name.
        sni: session.map(|session| session.sni.as_deref().unwrap_or_default()),
    };
    let found = table.find(asked);
    if matches!(found, Found::WrongMethod(_))
        && let Some(method) = preflight(&request.method, &request.headers)
        && let preflight @ Found::Target { target, .. } = table.find(Asked {
            method: &method,
            ..asked
        })
        && target.answers_preflights
    {
        return preflight;
    }
    found
}

/// A host, and perhaps a port.
struct Host {
    text: HeaderValue,
    /// So long is the host itself.
    length: usize,
    port: Option<u16>,
}

impl Host {
    fn of(text: &HeaderValue) -> Option<Self> {
        let named = text.to_str().ok()?;
        // Most are a name and perhaps a port, which is quickly seen.
        let (host, port) = match named.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (named, None),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        let number = port.and_then(|port| port.parse().ok().filter(|_| !port.starts_with('+')));
        if !host.is_empty() && host.bytes().all(is_name) && number.is_some() == port.is_some() {
            return Some(Self {
                text: text.clone(),
                length: host.len(),
                port: number,
            });
        }
        let authority: Authority = named.parse().ok()?;
        // Before its host there is only what is refused.
        let fits =
            !named.contains('@') && !authority.host().is_empty() && has_good_port(&authority);
        fits.then(|| Self {
            text: text.clone(),
            length: authority.host().len(),
            port: authority.port_u16(),
        })
    }

    /// All of it.
    fn text(&self) -> &str {
        // It was read from text.
        self.text.to_str().unwrap_or_default()
    }

    /// The host without its port.
    fn name(&self) -> &str {
        self.text().get(..self.length).unwrap_or_default()
    }
}

/// The one host that the request names (RFC 9112, 3.2): a second one could be read by somebody else. HTTP/2 names it as
/// its `:authority`, and from here on it stands in `Host`.
fn host(request: &mut Parts) -> Result<Host> {
    let mut given = request.headers.get_all(HOST).iter();
    let host = match (given.next(), given.next(), request.uri.authority()) {
        (Some(host), None, _) => Host::of(host),
        (None, None, Some(named)) if request.version == Version::HTTP_2 => {
            let named = HeaderValue::from_str(named.as_str()).ok();
            if let Some(named) = &named {
                request.headers.insert(HOST, named.clone());
            }
            named.as_ref().and_then(Host::of)
        }
        _ => return Err(malformed("expected exactly one Host")),
    };
    let host = host.ok_or_else(|| malformed("expected Host to be a host and perhaps a port"))?;
    match request.uri.authority() {
        Some(absolute) if !absolute.as_str().eq_ignore_ascii_case(host.text()) => Err(malformed(
            "expected Host to be the host of the request's target",
        )),
        _ => Ok(host),
    }
}

/// Whether what stands behind the host is nothing, or a port: another text would be no port here, and perhaps one elsewhere.
pub(crate) fn has_good_port(host: &Authority) -> bool {
    let rest = host.as_str().get(host.host().len()..).unwrap_or_default();
    let port = rest.strip_prefix(':').unwrap_or(rest);
    port.is_empty()
        || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

/// Whether it is this path, perhaps with a query, and nothing else.
fn is_onward(uri: &Uri, path: &str) -> bool {
    uri.scheme().is_none() && uri.authority().is_none() && uri.path() == path
}

fn onward_uri(path: &str, query: Option<&str>) -> Result<Uri> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let text = match query {
        Some(query) => format!("{slash}{path}?{query}"),
        None => format!("{slash}{path}"),
    };
    let path = PathAndQuery::try_from(text)
        .map_err(|_| Error::invalid("path_invalid", "expected a path and a query"))?;
    Ok(Uri::from(path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is seen quickly is what `Authority` says.
        #[test]
        fn a_host_is_read_as_an_authority_is(
            text in "([a-zA-Z0-9.-]{0,6}|\\[[0-9a-f:]{0,6}\\]|[ -~]{0,8})(:[+0-9a-z]{0,6})?",
        ) {
            let value = HeaderValue::from_str(&text).unwrap();
            let read = Host::of(&value).map(|host| (host.name().to_owned(), host.port));
            let authority = text.parse::<Authority>().ok();
            let authority = authority.filter(|host| !text.contains('@') && !host.host().is_empty());
            let authority = authority.filter(has_good_port);
            let expected = authority.map(|host| (host.host().to_owned(), host.port_u16()));
            prop_assert_eq!(read, expected);
        }
    }
}
