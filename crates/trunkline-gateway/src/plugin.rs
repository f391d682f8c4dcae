//! Plugins: what happens to a request before and after its service.

mod correlation_id;
mod cors;
mod jwt;
mod rate_limiting;
mod request_size_limiting;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use trunkline_call::Body;
use trunkline_core::{ByteString, Env, Error, Timestamp};
use trunkline_security::{Claims, Verifier};

pub(crate) use cors::preflight;

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
    pub consumer: Option<ByteString>,
    /// When it came.
    pub now: Timestamp,
    /// The request's own id.
    pub request_id: ByteString,
    /// A longer body is cut off and refused.
    pub body_bytes_max: Option<u64>,
    /// Headers that the answer gets, whatever it is.
    pub answer_headers: HeaderMap,
}

/// What plugins are made from.
pub(crate) struct Making<'a> {
    pub(crate) verifier: Option<&'a Verifier>,
    pub(crate) env: &'a Env,
}

/// Why a plugin could not be made: where in its settings, and what was expected.
pub(crate) type Mistake = (String, String);

type Make = fn(Value, &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake>;

/// The plugins that there are, in the order in which they run: Kong's priorities, highest first.
const KINDS: &[(&str, Make)] = &[
    ("cors", cors::make),
    ("jwt", jwt::make),
    ("request-size-limiting", request_size_limiting::make),
    ("rate-limiting", rate_limiting::make),
    ("correlation-id", correlation_id::make),
];

/// The place of a plugin in the order, and how it is made.
pub(crate) fn kind(name: &str) -> Option<(usize, Make)> {
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

fn mistake(at: &str, expected: impl Into<String>) -> Mistake {
    (at.to_owned(), expected.into())
}
