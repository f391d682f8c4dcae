//! `cors`: which other sites' pages may call.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use trunkline_call::Body;

use crate::route::why;

use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};

const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Option<Vec<String>>,
    exposed_headers: Vec<String>,
    credentials: bool,
    max_age: Option<u64>,
    preflight_continue: bool,
    private_network: bool,
    allow_origin_absent: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let methods = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"];
        Self {
            origins: vec!["*".to_owned()],
            methods: methods.map(str::to_owned).to_vec(),
            headers: None,
            exposed_headers: Vec::new(),
            credentials: false,
            max_age: None,
            preflight_continue: false,
            private_network: false,
            allow_origin_absent: true,
        }
    }
}

#[derive(Debug)]
struct Cors {
    /// `None`: any origin.
    origins: Option<Vec<Origin>>,
    methods: HeaderValue,
    /// `None`: whatever is asked for.
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    credentials: bool,
    max_age: Option<HeaderValue>,
    forwards_preflights: bool,
    /// Whether a page may call into a network that is not public.
    private_network: bool,
    /// Whether who names no origin is told, too: a cache may give that answer to who does.
    tells_all: bool,
}

/// Whose pages may call.
#[derive(Debug)]
enum Origin {
    One(HeaderValue),
    /// An expression for the whole origin, or for the host alone.
    Matches {
        regex: Regex,
        host: bool,
    },
}

impl Origin {
    /// # Source
    /// Kong takes what has a character that no plain origin has for an expression, and one without a colon for one of hosts.
    fn parse(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:/-".contains(&byte);
        if text.bytes().all(plain) {
            let value = HeaderValue::from_str(text).ok();
            let value = value.filter(|_| is_origin(text));
            return value.map(Self::One).ok_or_else(|| {
                "expected * or an origin such as https://shop.example.com, or an expression"
                    .to_owned()
            });
        }
        let regex = Regex::new(&format!("(?i)^(?:{text})$"));
        let regex = regex.map_err(|error| format!("expected an expression: {}", why(&error)))?;
        let host = !text.contains(':');
        Ok(Self::Matches { regex, host })
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::One(known) => origin.as_bytes().eq_ignore_ascii_case(known.as_bytes()),
            Self::Matches { regex, host } => {
                let text = origin.to_str().ok().filter(|text| is_origin(text));
                let uri = text.and_then(|text| text.parse::<Uri>().ok());
                let part = match host {
                    true => uri.as_ref().and_then(Uri::host),
                    false => text,
                };
                part.is_some_and(|part| regex.is_match(part))
            }
        }
    }
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    let all = &settings.origins;
    let any = all.is_empty() || all.iter().any(|origin| origin == "*");
    if any && settings.credentials {
        let expected = "expected named origins: with credentials, any site could act for a user";
        return Err(mistake("origins", expected));
    }
    let origins = all.iter().enumerate().filter(|(_, text)| *text != "*");
    let origins = origins.map(|(index, text)| {
        let at = format!("origins[{index}]");
        Origin::parse(text).map_err(|expected| mistake(&at, expected))
    });
    let origins = origins.collect::<Result<Vec<_>, _>>()?;
    for (index, method) in settings.methods.iter().enumerate() {
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let expected = "expected a method in capitals, such as GET";
            return Err(mistake(&format!("methods[{index}]"), expected));
        }
    }
    Ok(Arc::new(Cors {
        origins: (!any).then_some(origins),
        methods: list("methods", &settings.methods)?,
        headers: settings
            .headers
            .map(|names| names_list("headers", &names))
            .transpose()?,
        exposed: (!settings.exposed_headers.is_empty())
            .then(|| names_list("exposed_headers", &settings.exposed_headers))
            .transpose()?,
        credentials: settings.credentials,
        max_age: settings.max_age.map(HeaderValue::from),
        forwards_preflights: settings.preflight_continue,
        private_network: settings.private_network,
        tells_all: settings.allow_origin_absent,
    }))
}

fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    uri.authority().is_some()
        && matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.path() == "/"
        && !text.ends_with('/')
        && !text.contains(['?', '#', '@'])
}

fn names_list(at: &str, names: &[String]) -> Result<HeaderValue, Mistake> {
    for (index, name) in names.iter().enumerate() {
        if name.parse::<HeaderName>().is_err() {
            let expected = "expected the name of a header";
            return Err(mistake(&format!("{at}[{index}]"), expected));
        }
    }
    list(at, names)
}

fn list(at: &str, items: &[String]) -> Result<HeaderValue, Mistake> {
    HeaderValue::from_str(&items.join(", "))
        .map_err(|_| mistake(at, "expected names without special characters"))
}

/// Whether a request asks what a page may send, rather than sending it.
pub(crate) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(wanted.as_bytes()).ok()
}

impl Cors {
    /// What `Access-Control-Allow-Origin` says to this origin, or to who names none.
    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match (&self.origins, origin) {
            (_, None) if !self.tells_all => None,
            (None, _) => Some(HeaderValue::from_static("*")),
            (Some(origins), None) => match &**origins {
                [Origin::One(only)] => Some(only.clone()),
                _ => None,
            },
            (Some(origins), Some(origin)) => {
                let mut origins = origins.iter();
                let is_known = origins.any(|known| known.allows(origin));
                is_known.then(|| origin.clone())
            }
        }
    }
}

impl Plugin for Cors {
    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let headers = &exchange.request.headers;
        if self.forwards_preflights || preflight(&exchange.request.method, headers).is_none() {
            return Verdict::Next;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let said = response.headers_mut();
        if self.allowed(headers.get(ORIGIN)).is_some() {
            said.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            let wanted = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
            if let Some(allowed) = self.headers.as_ref().or(wanted) {
                said.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
            }
            if let Some(age) = &self.max_age {
                said.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
            }
            let wanted = headers.get(REQUEST_PRIVATE_NETWORK);
            if self.private_network && wanted.is_some_and(|wanted| wanted == "true") {
                said.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
            }
        }
        if self.headers.is_none() {
            let varies = HeaderValue::from_static("access-control-request-headers");
            said.append(VARY, varies);
        }
        Verdict::Answer(response)
    }

    fn answer(&self, exchange: &Exchange, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        // The gateway's word holds, not the service's.
        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        if self.origins.is_some() {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(allowed) = self.allowed(exchange.request.headers.get(ORIGIN)) else {
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if let Some(exposed) = &self.exposed {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}
