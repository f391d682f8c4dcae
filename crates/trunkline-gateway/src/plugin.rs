//! Plugins: what happens to a request before and after its service.

mod acl;
mod bot_detection;
mod correlation_id;
mod cors;
mod ended;
mod exchange;
mod file_log;
mod grpc_web;
mod http_log;
mod ip_restriction;
mod jwt;
mod key_auth;
mod log;
mod mistakes;
mod opentelemetry;
mod prometheus;
mod proxy_cache;
mod queue;
mod rate_limiting;
mod request_size_limiting;
mod request_termination;
mod request_transformer;
mod request_validator;
mod response_transformer;
mod shown;
mod transform;

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use trunkline_call::Body;
use trunkline_core::{ByteString, Env, Error};

use crate::Means;
use crate::consumers::{Consumers, Member};
use crate::workers::Workers;

pub(crate) use cors::preflight;
pub use ended::Ended;
pub(crate) use ended::Listeners;
pub use exchange::{AnswerHeaders, Exchange};
pub(crate) use exchange::{Held, Trace};
pub(crate) use grpc_web::called;

/// Looks at requests and answers.
///
/// # Guarantees
/// `access` runs in the order of Kong's priorities, until one does not say [`Verdict::Next`]; `answer` runs for
/// every plugin of the route that sees answers, on whatever is sent, the gateway's own refusals included; `ended` runs once for each
/// answer to a request that found its route, when its last byte was sent or is lost. All but `wait` compute and never wait.
pub trait Plugin: Send + Sync + fmt::Debug {
    /// Before the request goes to its service.
    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let _ = exchange;
        Verdict::Next
    }

    /// What `access` could not tell without waiting, where it said [`Verdict::Later`]. It is dropped where it stands when
    /// the client goes away, and the request fails (504) when it takes longer than 60 s.
    fn wait<'a>(&'a self, exchange: &'a mut Exchange) -> BoxFuture<'a, Verdict> {
        let _ = exchange;
        let unsaid = Error::internal("a plugin waits and does not say for what");
        Box::pin(std::future::ready(Verdict::Refuse(unsaid)))
    }

    /// Whether it remembers requests. If so it goes on when a new configuration has it with the same settings.
    fn remembers(&self) -> bool {
        false
    }

    /// When the service has answered, before anybody changes what it said.
    fn received(&self, exchange: &mut Exchange, response: &mut Response<Body>) {
        let _ = (exchange, response);
    }

    /// Whether it has something to do with answers: only then `received` and `answer` are called. Where no plugin of a route has,
    /// an answer is on its way sooner.
    fn sees_answers(&self) -> bool {
        true
    }

    /// Before the head of the answer goes to the client.
    fn answer(&self, exchange: &Exchange, response: &mut Response<Body>) {
        let _ = (exchange, response);
    }

    /// Whether it wants to hear how requests end.
    fn hears_ends(&self) -> bool {
        false
    }

    /// How a request ended, if it wants to hear that.
    fn ended(&self, ended: &Ended<'_>) {
        let _ = ended;
    }
}

/// What a plugin decides.
#[derive(Debug)]
pub enum Verdict {
    /// The request goes on.
    Next,
    /// It has to wait for something: `wait` decides.
    Later,
    /// This is the answer.
    Answer(Response<Body>),
    /// It is refused, with a problem.
    Refuse(Error),
}

/// What plugins are made from.
pub(crate) struct Making<'a> {
    pub(crate) means: &'a Means,
    pub(crate) workers: &'a Workers,
    pub(crate) consumers: Consumers,
    pub(crate) env: &'a Env,
    /// Where it stands: the same in every gateway with the same file.
    pub(crate) scope: String,
    /// The one service that it is for, if it is for one.
    pub(crate) service: Option<&'a str>,
}

/// Why a plugin could not be made: where in its settings, and what was expected.
pub(crate) type Mistake = (String, String);

type Made = Result<Arc<dyn Plugin>, Mistake>;
type Make = fn(Value, &Making<'_>) -> Made;

/// The plugins that there are, with Kong's priorities: the higher, the earlier one runs.
const KINDS: &[(&str, u32, Make)] = &[
    ("correlation-id", 100_001, correlation_id::make),
    ("bot-detection", 2_500, bot_detection::make),
    ("cors", 2_000, cors::make),
    ("jwt", 1_450, jwt::make),
    ("key-auth", 1_250, key_auth::make),
    ("ip-restriction", 990, ip_restriction::make),
    ("request-size-limiting", 951, request_size_limiting::make),
    ("acl", 950, acl::make),
    ("rate-limiting", 910, rate_limiting::make),
    // Kong's is 999. Here nobody's body is read who is refused for another reason.
    ("request-validator", 905, request_validator::make),
    ("request-transformer", 801, request_transformer::make),
    ("response-transformer", 800, response_transformer::make),
    ("proxy-cache", 100, proxy_cache::make),
    ("opentelemetry", 14, opentelemetry::make),
    ("prometheus", 13, prometheus::make),
    ("http-log", 12, http_log::make),
    ("file-log", 9, file_log::make),
    ("grpc-web", 3, grpc_web::make),
    ("request-termination", 2, request_termination::make),
];

/// The place of a plugin that the gateway has itself in the order.
pub(crate) fn place(name: &str) -> Option<Order> {
    let mut kinds = KINDS.iter();
    let kind = kinds.find(|(known, ..)| *known == name);
    kind.map(|(name, priority, _)| order(name, *priority))
}

/// Whether it can't be for one consumer alone: it runs before anybody knows who asks, or is for all by its nature.
pub(crate) fn is_for_all(name: &str) -> bool {
    ["acl", "bot-detection", "cors", "jwt", "key-auth"].contains(&name)
}

/// Where a plugin stands among others: by its priority, then by its name.
pub(crate) type Order = (Reverse<u32>, ByteString);

fn order(name: &str, priority: u32) -> Order {
    (Reverse(priority), ByteString::from(name))
}

impl Making<'_> {
    /// Makes a plugin of this name, and tells its place in the order; none if there is none of this name.
    pub(crate) fn make(
        &self,
        name: &str,
        config: impl FnOnce() -> Value,
        before: Option<Arc<dyn Plugin>>,
    ) -> Option<(Order, Made)> {
        // The storefront's file has this name for it.
        let name = if name == "response-cache" {
            "proxy-cache"
        } else {
            name
        };
        if let Some((name, priority, make)) = KINDS.iter().find(|(known, ..)| *known == name) {
            let made = before.map_or_else(|| make(config(), self), Ok);
            return Some((order(name, *priority), made));
        }
        let own = self.means.own.iter().find(|own| own.name == *name)?;
        let made = before.map_or_else(
            || (own.make)(config()).map_err(|expected| mistake("", expected)),
            Ok,
        );
        Some((order(name, own.priority), made))
    }

    /// The names of all plugins.
    pub(crate) fn names(&self) -> String {
        let ours = KINDS.iter().map(|(name, ..)| *name);
        let own = self.means.own.iter().map(|own| &*own.name);
        ours.chain(own).collect::<Vec<_>>().join(", ")
    }
}

/// A plugin's settings; none at all are those by default.
fn settings<T: DeserializeOwned>(mut config: Value) -> Result<T, Mistake> {
    if config.is_null() {
        config = Value::Object(serde_json::Map::new());
    }
    leave_out_unsaid(&mut config);
    serde_path_to_error::deserialize(config).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { String::new() } else { path };
        (at, error.into_inner().to_string())
    })
}

/// Takes away fields that say nothing: `deck` writes each setting that a plugin could have, and `null` where it has none.
fn leave_out_unsaid(config: &mut Value) {
    if let Value::Object(fields) = config {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(leave_out_unsaid);
    }
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
