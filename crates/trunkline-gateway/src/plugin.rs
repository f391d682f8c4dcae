//! Plugins: what happens to a request before and after its service.

mod acl;
mod bot_detection;
mod correlation_id;
mod cors;
mod grpc_web;
mod ip_restriction;
mod jwt;
mod key_auth;
mod proxy_cache;
mod rate_limiting;
mod request_size_limiting;
mod request_termination;
mod request_transformer;
mod response_transformer;
mod transform;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use trunkline_call::Body;
use trunkline_core::{ByteString, Env, Error, Timestamp};
use trunkline_security::{Claims, Verifier};

use crate::consumers::{Consumers, Member};

pub(crate) use cors::preflight;
pub(crate) use grpc_web::called;

/// Looks at requests and answers. Both phases are synchronous: they compute and never wait.
///
/// # Guarantees
/// `access` runs in the order of Kong's priorities, until one does not say [`Verdict::Next`]; `answer` runs for
/// every plugin of the route on whatever is sent, the gateway's own refusals included.
pub trait Plugin: Send + Sync + fmt::Debug {
    /// Before the request goes to its service.
    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let _ = exchange;
        Verdict::Next
    }

    /// Whether it remembers requests. If so it goes on when a new configuration has it with the same settings.
    fn remembers(&self) -> bool {
        false
    }

    /// When the service has answered, before anybody changes what it said.
    fn received(&self, exchange: &mut Exchange, response: &mut Response<Body>) {
        let _ = (exchange, response);
    }

    /// Before the head of the answer goes to the client.
    fn answer(&self, exchange: &Exchange, response: &mut Response<Body>) {
        let _ = (exchange, response);
    }
}

/// What a plugin decides.
#[derive(Debug)]
pub enum Verdict {
    /// The request goes on.
    Next,
    /// This is the answer.
    Answer(Response<Body>),
    /// It is refused, with a problem.
    Refuse(Error),
}

/// A request on its way and what is known about it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exchange {
    /// The request as it will go on: normalised, without what only the gateway may say.
    pub request: http::request::Parts,
    /// The length of its body, if it is known.
    pub body_bytes: Option<u64>,
    /// Who sent it.
    pub remote: IpAddr,
    /// The route's name.
    pub route: ByteString,
    /// The service's name.
    pub service: ByteString,
    /// What its token says, once a plugin has verified it.
    pub claims: Option<Claims>,
    /// The consumer that it comes from, once a plugin knows.
    pub consumer: Option<Arc<Member>>,
    /// By which of their keys or tokens they are known, once a plugin knows.
    pub credential: Option<ByteString>,
    /// Whether that is somebody whom nobody has proved to be.
    pub is_anonymous: bool,
    /// What the expression of the route's path captured: each by its number, and by its name if it has one.
    pub captures: Vec<(ByteString, ByteString)>,
    /// When it came.
    pub now: Timestamp,
    /// The request's own id.
    pub request_id: ByteString,
    /// A longer body is cut off and refused.
    pub body_bytes_max: Option<u64>,
    /// What plugins remember of it from one phase to the other.
    pub extensions: http::Extensions,
    /// Headers that the answer gets, whatever it is.
    pub answer_headers: HeaderMap,
}

impl Exchange {
    pub(crate) fn consumer_name(&self) -> Option<&str> {
        self.consumer.as_ref().map(|member| &*member.username)
    }

    /// Whether a browser asks if it may send a request.
    pub fn is_preflight(&self) -> bool {
        preflight(&self.request.method, &self.request.headers).is_some()
    }
}

/// What plugins are made from.
pub(crate) struct Making<'a> {
    pub(crate) verifier: Option<&'a Verifier>,
    pub(crate) consumers: Consumers,
    pub(crate) env: &'a Env,
}

/// Why a plugin could not be made: where in its settings, and what was expected.
pub(crate) type Mistake = (String, String);

type Make = fn(Value, &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake>;

/// The plugins that there are, in the order in which they run: Kong's priorities, highest first.
const KINDS: &[(&str, Make)] = &[
    ("correlation-id", correlation_id::make),
    ("bot-detection", bot_detection::make),
    ("cors", cors::make),
    ("jwt", jwt::make),
    ("key-auth", key_auth::make),
    ("ip-restriction", ip_restriction::make),
    ("request-size-limiting", request_size_limiting::make),
    ("acl", acl::make),
    ("rate-limiting", rate_limiting::make),
    ("request-transformer", request_transformer::make),
    ("response-transformer", response_transformer::make),
    ("proxy-cache", proxy_cache::make),
    ("request-termination", request_termination::make),
    ("grpc-web", grpc_web::make),
];

/// The place of a plugin in the order, and how it is made.
pub(crate) fn kind(name: &str) -> Option<(usize, Make)> {
    // The storefront's file has this name for it.
    let name = if name == "response-cache" {
        "proxy-cache"
    } else {
        name
    };
    let place = KINDS.iter().position(|(known, _)| *known == name)?;
    KINDS.get(place).map(|(_, make)| (place, *make))
}

pub(crate) fn names() -> String {
    let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// A plugin's settings; none at all are those by default.
fn settings<T: DeserializeOwned>(config: Value) -> Result<T, Mistake> {
    let config = if config.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        config
    };
    serde_path_to_error::deserialize(config).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { String::new() } else { path };
        (at, error.into_inner().to_string())
    })
}

/// The consumer that stands for those who show nothing, by its name.
fn anonymous(name: Option<&str>, making: &Making<'_>) -> Result<Option<Arc<Member>>, Mistake> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let member = making.consumers.named(name).cloned();
    let expected = || {
        mistake(
            "anonymous",
            format!("expected the name of a consumer, found `{name}`"),
        )
    };
    member.map(Some).ok_or_else(expected)
}

/// An answer of the gateway's own in Kong's form: `{"message": "..."}`.
fn told(status: StatusCode, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "message": message }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn mistake(at: &str, expected: impl Into<String>) -> Mistake {
    (at.to_owned(), expected.into())
}
