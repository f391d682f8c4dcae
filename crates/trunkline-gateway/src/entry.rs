//! Whether a request is let in, and where it leads.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, LOCATION, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Response, StatusCode, Uri};
use regex::Regex;
use trunkline_call::Body;
use trunkline_core::{ByteString, Error, ErrorKind, Result};

use crate::config::Schemes;
use crate::path::normalise;
use crate::plugin::preflight;
use crate::problem::{malformed, route_unknown, wrong_method};
use crate::route::{Asked, Found, Table, Target};
use crate::upstream::path::join;

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
pub(crate) fn enter(request: &mut Parts, table: &Table<Arc<Target>>) -> Result<Entry> {
    if request.method == Method::CONNECT {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "connect_unsupported",
            "tunnels are not offered here",
        ));
    }
    let host = host(request)?;
    let path = normalise(request.uri.path())?;
    let (target, prefix, captures) = match find(table, request, &host, &path) {
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
    if target.schemes == Schemes::Https {
        return Ok(Entry::Insecure(insecure(target.redirect, &host, request)?));
    }
    let strips = target.strip_path && prefix > 0;
    let (prefix, rest) = path.split_at_checked(prefix).unwrap_or(("", &path));
    let query = request.uri.query();
    request.uri = match &target.base {
        None => onward_uri(if strips { rest } else { &path }, query)?,
        Some(base) => onward_uri(&join(base, &path, strips.then_some(rest)), query)?,
    };
    Ok(Entry::Target(Way {
        target,
        prefix: strips.then(|| prefix.trim_end_matches('/').to_owned()),
        captures,
    }))
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
fn insecure(status: StatusCode, host: &Authority, request: &Parts) -> Result<Response<Body>> {
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
        let there = HeaderValue::try_from(format!("https://{}{rest}", host.host()));
        let there = there.map_err(|_| malformed("expected Host to be a host"))?;
        headers.insert(LOCATION, there);
    }
    Ok(response)
}

/// A preflight is routed by the method that it asks about, where OPTIONS itself is not taken and `cors` answers.
fn find<'a>(
    table: &'a Table<Arc<Target>>,
    request: &Parts,
    host: &Authority,
    path: &str,
) -> Found<'a, Arc<Target>> {
    let asked = Asked {
        host: host.host(),
        port: host.port_u16().unwrap_or(80),
        path,
        method: &request.method,
        headers: &request.headers,
        sni: None,
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

/// The one host that the request names (RFC 9112, 3.2): a second one could be read by somebody else.
fn host(request: &Parts) -> Result<Authority> {
    let mut given = request.headers.get_all(HOST).iter();
    let (Some(host), None) = (given.next(), given.next()) else {
        return Err(malformed("expected exactly one Host"));
    };
    let host = host
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Authority>().ok())
        .filter(|host| !host.as_str().contains('@') && !host.host().is_empty())
        .ok_or_else(|| malformed("expected Host to be a host and perhaps a port"))?;
    match request.uri.authority() {
        Some(absolute) if !absolute.as_str().eq_ignore_ascii_case(host.as_str()) => Err(malformed(
            "expected Host to be the host of the request's target",
        )),
        _ => Ok(host),
    }
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
