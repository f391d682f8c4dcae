//! What log plugins share: a request as Kong's tell of it, and its way into a queue.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, PROXY_AUTHORIZATION, SET_COOKIE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

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
    fn remembers(&self) -> bool {
        true
    }

    fn hears_ends(&self) -> bool {
        true
    }

    fn ended(&self, ended: &Ended<'_>) {
        self.0.push(of(ended).to_string());
    }
}

/// The entry of a request, by the names of Kong's log serializer. Sizes are those of bodies.
fn of(ended: &Ended<'_>) -> Value {
    let exchange = ended.exchange;
    let request = &exchange.request;
    let target = ended.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let host = ended.uri.host();
    let host = host.or_else(|| text(&request.headers, "x-forwarded-host"));
    let scheme = text(&request.headers, "x-forwarded-proto").unwrap_or("http");
    let began = exchange.now.as_millisecond();
    let mut entry = json!({
        "service": { "name": &*exchange.service },
        "route": { "name": &*exchange.route },
        "request": {
            "id": &*exchange.request_id,
            "method": ended.method.as_str(),
            "uri": target,
            "url": format!("{scheme}://{}{target}", host.unwrap_or_default()),
            "size": ended.bytes_in,
            "querystring": parameters(ended.uri.query().unwrap_or_default()),
            "headers": told(&request.headers),
        },
        "upstream_uri": request.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        "response": {
            "status": ended.status.as_u16(),
            "size": ended.bytes_out,
            "headers": told(ended.headers),
        },
        "latencies": latencies(ended),
        "client_ip": exchange.remote.to_canonical().to_string(),
        "started_at": began,
        "source": source(ended),
    });
    let Some(fields) = entry.as_object_mut() else {
        return entry;
    };
    if let Some(status) = ended.service_status {
        fields.insert(
            "upstream_status".to_owned(),
            status.as_u16().to_string().into(),
        );
    }
    if let Some(member) = &exchange.consumer {
        let consumer = match &member.custom_id {
            Some(id) => json!({ "username": &*member.username, "custom_id": &**id }),
            None => json!({ "username": &*member.username }),
        };
        fields.insert("consumer".to_owned(), consumer);
    }
    if let Some(credential) = &exchange.credential {
        let known = json!({ "id": &**credential });
        fields.insert("authenticated_entity".to_owned(), known);
    }
    if let Some(why) = ended.cut_off {
        fields.insert("error".to_owned(), why.into());
    }
    entry
}

/// Who answered: Kong's words for the service and for the gateway itself.
fn source(ended: &Ended<'_>) -> &'static str {
    match ended.service_status {
        Some(_) => "upstream",
        None => "kong",
    }
}

/// How long it took in milliseconds: all of it, the service, and the gateway.
fn latencies(ended: &Ended<'_>) -> Value {
    let millis = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    // A service that was not asked took no time, which Kong tells as -1.
    let proxy = ended
        .service_took
        .map_or(json!(-1), |took| millis(took).into());
    json!({
        "request": millis(ended.took),
        "proxy": proxy,
        "kong": millis(ended.took.saturating_sub(ended.service_took.unwrap_or_default())),
    })
}

/// Headers by their names, those of several values as lists. Secrets are struck out.
fn told(headers: &HeaderMap) -> Map<String, Value> {
    let values = |name: &HeaderName| {
        let mut all = headers.get_all(name).iter().map(|value| {
            if SECRET.contains(name) || value.is_sensitive() {
                return Value::from("REDACTED");
            }
            String::from_utf8_lossy(value.as_bytes()).into()
        });
        match (all.next(), all.next()) {
            (Some(only), None) => only,
            (first, second) => first.into_iter().chain(second).chain(all).collect(),
        }
    };
    let names = headers.keys();
    names.map(|name| (name.to_string(), values(name))).collect()
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
