//! What log plugins share: a request as Kong's tell of it, and its way into a queue.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, PROXY_AUTHORIZATION, SET_COOKIE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::queue::{Policy, Queue, Sink};
use super::{Ended, Making, Mistake, Plugin, mistake};

/// Headers that hold what nobody who reads a log is to know.
const SECRET: [HeaderName; 4] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE];

/// Tells a sink of each request.
///
/// # Guarantees
/// A request waits for nothing here; what becomes of an entry is the [`Queue`]'s to say.
#[derive(Debug)]
pub(super) struct Log(Queue<String>);

impl Log {
    pub(super) fn new(
        name: &'static str,
        policy: Policy,
        sink: impl Sink<String>,
        making: &Making<'_>,
    ) -> Self {
        Self(Queue::new(
            name,
            &making.scope,
            policy,
            sink,
            making.workers,
        ))
    }
}

impl Plugin for Log {
    fn sees_answers(&self) -> bool {
        false
    }

    fn remembers(&self) -> bool {
        true
    }

    fn hears_ends(&self) -> bool {
        true
    }

    fn ended(&self, ended: &Ended<'_>) {
        self.0.push(line(ended));
    }
}

/// The entry of a request, by the names of Kong's log serializer. Sizes are those of bodies.
#[derive(Serialize)]
struct Entry<'a> {
    service: Named<'a>,
    route: Named<'a>,
    request: Asked<'a>,
    upstream_uri: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_status: Option<&'a str>,
    response: Answered<'a>,
    latencies: Latencies,
    client_ip: IpAddr,
    started_at: i64,
    /// Who answered: Kong's words for the service and for the gateway itself.
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<Who<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticated_entity: Option<Credential<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Credential<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Who<'a> {
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Asked<'a> {
    id: &'a str,
    method: &'a str,
    uri: &'a str,
    url: String,
    size: u64,
    querystring: Map<String, Value>,
    headers: Headers<'a>,
}

#[derive(Serialize)]
struct Answered<'a> {
    status: u16,
    size: u64,
    headers: Headers<'a>,
}

/// How long it took in milliseconds: all of it, the service, and the gateway.
#[derive(Serialize)]
struct Latencies {
    request: i64,
    /// A service that was not asked took no time, which Kong tells as -1.
    proxy: i64,
    kong: i64,
}

/// Headers by their names, those of several values as lists. Secrets are struck out.
struct Headers<'a>(&'a HeaderMap);

fn line(ended: &Ended<'_>) -> String {
    let exchange = ended.exchange;
    let request = &exchange.request;
    let target = ended.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let host = ended.uri.host();
    let host = host.or_else(|| text(&request.headers, "x-forwarded-host"));
    let scheme = text(&request.headers, "x-forwarded-proto").unwrap_or("http");
    let onward = request.uri.path_and_query();
    let millis = |took: Duration| i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    let own = ended
        .took
        .saturating_sub(ended.service_took.unwrap_or_default());
    let entry = Entry {
        service: Named {
            name: &exchange.service,
        },
        route: Named {
            name: &exchange.route,
        },
        request: Asked {
            id: &exchange.request_id,
            method: ended.method.as_str(),
            uri: target,
            url: format!("{scheme}://{}{target}", host.unwrap_or_default()),
            size: ended.bytes_in,
            querystring: parameters(ended.uri.query().unwrap_or_default()),
            headers: Headers(&request.headers),
        },
        upstream_uri: onward.map_or("/", PathAndQuery::as_str),
        upstream_status: ended.service_status.as_ref().map(StatusCode::as_str),
        response: Answered {
            status: ended.status.as_u16(),
            size: ended.bytes_out,
            headers: Headers(ended.headers),
        },
        latencies: Latencies {
            request: millis(ended.took),
            proxy: ended.service_took.map_or(-1, millis),
            kong: millis(own),
        },
        client_ip: exchange.remote.to_canonical(),
        started_at: exchange.now.as_millisecond(),
        source: match ended.service_status {
            Some(_) => "upstream",
            None => "kong",
        },
        consumer: exchange.consumer.as_ref().map(|member| Who {
            username: &member.username,
            custom_id: member.custom_id.as_deref(),
        }),
        authenticated_entity: exchange.credential.as_deref().map(|id| Credential { id }),
        error: ended.cut_off,
    };
    // Texts and numbers can always be written.
    serde_json::to_string(&entry).unwrap_or_default()
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(headers) = self;
        let mut map = to.serialize_map(Some(headers.keys_len()))?;
        for name in headers.keys() {
            let is_secret = SECRET.contains(name);
            let mut values = headers.get_all(name).iter().map(|value| {
                if is_secret || value.is_sensitive() {
                    return Cow::Borrowed("REDACTED");
                }
                String::from_utf8_lossy(value.as_bytes())
            });
            match (values.next(), values.next()) {
                (Some(only), None) => map.serialize_entry(name.as_str(), &only)?,
                (first, second) => {
                    let all: Vec<_> = first.into_iter().chain(second).chain(values).collect();
                    map.serialize_entry(name.as_str(), &all)?;
                }
            }
        }
        map.end()
    }
}

fn parameters(query: &str) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = Value::from(&*value);
        match all.get_mut(&*name) {
            None => drop(all.insert(name.into_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    all
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Refuses code in settings.
pub(super) fn no_lua(code: Option<&BTreeMap<String, String>>) -> Result<(), Mistake> {
    match code {
        Some(code) if !code.is_empty() => {
            let expected = "expected nothing: there is no Lua here";
            Err(mistake("custom_fields_by_lua", expected))
        }
        _ => Ok(()),
    }
}

/// Headers of the settings, for what is sent elsewhere.
pub(super) fn headers(given: &BTreeMap<String, String>) -> Result<HeaderMap, Mistake> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let at = format!("headers.{name}");
        let name = HeaderName::try_from(&**name)
            .ok()
            .filter(|name| ![HOST, CONTENT_LENGTH, CONTENT_TYPE].contains(name))
            .ok_or_else(|| {
                mistake(
                    &at,
                    "expected the name of a header, not Host nor one of the content",
                )
            })?;
        let value = HeaderValue::from_str(value);
        headers.insert(
            name,
            value.map_err(|_| mistake(&at, "expected a text for a header"))?,
        );
    }
    Ok(headers)
}
