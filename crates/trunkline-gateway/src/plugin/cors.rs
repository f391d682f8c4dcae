//! `cors`: which other sites' pages may call.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use serde::Deserialize;
use serde_json::Value;
use trunkline_call::Body;

use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};

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
        }
    }
}

#[derive(Debug)]
struct Cors {
    /// `None`: any origin.
    origins: Option<Vec<String>>,
    methods: HeaderValue,
    /// `None`: whatever is asked for.
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    credentials: bool,
    max_age: Option<HeaderValue>,
    forwards_preflights: bool,
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    let any = settings.origins.iter().any(|origin| origin == "*");
    if any && settings.credentials {
        let expected = "expected named origins: with credentials, any site could act for a user";
        return Err(mistake("origins", expected));
    }
    for (index, origin) in settings.origins.iter().enumerate() {
        if origin != "*" && !is_origin(origin) {
            let expected = "expected * or an origin such as https://shop.example.com";
            return Err(mistake(&format!("origins[{index}]"), expected));
        }
    }
    for (index, method) in settings.methods.iter().enumerate() {
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let expected = "expected a method in capitals, such as GET";
            return Err(mistake(&format!("methods[{index}]"), expected));
        }
    }
    Ok(Arc::new(Cors {
        origins: (!any).then_some(settings.origins),
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
    /// What `Access-Control-Allow-Origin` says to this origin.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => {
                let allows =
                    |known: &String| origin.as_bytes().eq_ignore_ascii_case(known.as_bytes());
                origins.iter().any(allows).then(|| origin.clone())
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
        let origin = headers.get(ORIGIN);
        if origin.and_then(|origin| self.allowed(origin)).is_some() {
            said.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            let wanted = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
            if let Some(allowed) = self.headers.as_ref().or(wanted) {
                said.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
            }
            if let Some(age) = &self.max_age {
                said.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
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
        let Some(origin) = exchange.request.headers.get(ORIGIN) else {
            return;
        };
        let Some(allowed) = self.allowed(origin) else {
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
