//! A request on its way, as plugins see it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body as HttpBody;
use tokio::time::timeout;
use trunkline_call::Body;
use trunkline_core::{ByteString, Error, Timestamp, TraceContext};
use trunkline_security::Claims;

use super::cors::preflight;
use crate::body::{ClientBody, Inbound, Progress};
use crate::consumers::Member;
use crate::problem;

/// A body that a plugin reads has to be whole within this time, however steadily it comes.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Headers with ids, which each answer gets at last.
const IDS: usize = 2;

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
    pub answer_headers: AnswerHeaders,
    pub(crate) body: Held,
    pub(crate) trace: Trace,
}

/// Headers that an answer gets in place of those of their names, whoever gives it.
#[derive(Debug, Default)]
pub struct AnswerHeaders {
    /// Each name once.
    all: Vec<(HeaderName, HeaderValue)>,
    /// A bit for each length that a name has: most others have another one.
    lengths: u64,
}

impl AnswerHeaders {
    /// Sets a header; of those of one name the last one counts.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        let length = length_bit(&name);
        if self.lengths & length != 0
            && let Some((_, before)) = self.all.iter_mut().find(|(known, _)| *known == name)
        {
            *before = value;
            return;
        }
        self.lengths |= length;
        self.all.push((name, value));
    }

    /// Leaves room for so many headers, and for those that every answer gets.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.all.reserve_exact(more + IDS);
    }

    /// Whether there is one of this name.
    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.lengths & length_bit(name) != 0 && self.all.iter().any(|(known, _)| known == name)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&HeaderName, &HeaderValue)> {
        self.all.iter().map(|(name, value)| (name, value))
    }

    /// Gives them to an answer.
    pub(crate) fn set(self, headers: &mut HeaderMap) {
        headers.reserve(self.all.len());
        for (name, value) in self.all {
            headers.insert(name, value);
        }
    }
}

fn length_bit(name: &HeaderName) -> u64 {
    1 << (name.as_str().len() % 64)
}

/// The span of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace {
    /// Its own.
    pub(crate) own: TraceContext,
    /// That of whoever sent it.
    pub(crate) parent: Option<TraceContext>,
    /// Whether the gateway's telemetry records it.
    pub(crate) is_recorded: bool,
}

/// The body of the client, until it goes on.
#[derive(Debug)]
pub(crate) enum Held {
    /// As it comes, with the longest pause that it may make.
    Coming(Inbound, Duration),
    /// A plugin has read all of it.
    Read(Bytes, Arc<Progress>),
    /// A plugin could not read all of it, or it went on.
    Gone,
}

impl Exchange {
    pub(crate) fn consumer_name(&self) -> Option<&str> {
        self.consumer.as_ref().map(|member| &*member.username)
    }

    /// Whether a browser asks if it may send a request.
    pub fn is_preflight(&self) -> bool {
        preflight(&self.request.method, &self.request.headers).is_some()
    }

    /// Reads the whole body, which then goes on as it was read, without trailers. The longest that a plugin
    /// before this one allows holds, too.
    ///
    /// # Errors
    /// `TooLarge` (`body_too_large`), `DeadlineExceeded` (`request_body_slow`) for a body that pauses longer than the
    /// gateway's limits allow or is not whole within 30 s, `InvalidInput` for one that breaks off.
    pub async fn read_body(&mut self, bytes_max: u64) -> Result<Bytes, Error> {
        let (body, idle_max) = match std::mem::replace(&mut self.body, Held::Gone) {
            Held::Coming(body, idle_max) => (body, idle_max),
            Held::Read(bytes, progress) => {
                self.body = Held::Read(bytes.clone(), progress);
                return within(bytes, bytes_max);
            }
            Held::Gone => return Err(problem::malformed("the request's body broke off")),
        };
        let bytes_max = self.body_bytes_max.unwrap_or(u64::MAX).min(bytes_max);
        if self.body_bytes.is_some_and(|bytes| bytes > bytes_max) {
            return Err(problem::body_too_large(bytes_max));
        }
        let body = ClientBody::new(body, Some(bytes_max), idle_max);
        let progress = body.progress();
        let bytes = timeout(READ_WITHIN, whole(body))
            .await
            .map_err(|_| problem::body_slow())??;
        self.body_bytes = Some(bytes.len() as u64);
        self.body = Held::Read(bytes.clone(), progress);
        Ok(bytes)
    }
}

fn within(bytes: Bytes, bytes_max: u64) -> Result<Bytes, Error> {
    if bytes.len() as u64 > bytes_max {
        return Err(problem::body_too_large(bytes_max));
    }
    Ok(bytes)
}

async fn whole(body: impl HttpBody<Data = Bytes, Error = Error>) -> Result<Bytes, Error> {
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    // Most bodies come in one piece.
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

impl Held {
    /// The body as it goes on, with the longest pause that it may make there, and how it fares; none where the client
    /// sends none.
    pub(crate) fn onward(
        self,
        bytes_max: Option<u64>,
        idle_max: Duration,
    ) -> Option<(Body, Arc<Progress>)> {
        match self {
            Self::Coming(body, _) if body.is_end_stream() => None,
            Self::Coming(body, _) => {
                let body = ClientBody::new(body, bytes_max, idle_max);
                let progress = body.progress();
                Some((Body::new(body), progress))
            }
            Self::Read(bytes, progress) => Some((Body::from(bytes), progress)),
            Self::Gone => None,
        }
    }

    /// How it fares, if a plugin has read it.
    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Read(_, progress) => Some(progress.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_are_set_stand_in_place_of_those_of_their_name() {
        let mut said = AnswerHeaders::default();
        for (name, value) in [("b", "3"), ("c", "4"), ("b", "5")] {
            let name = HeaderName::from_static(name);
            said.insert(name, HeaderValue::from_static(value));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "1"), ("b", "2"), ("b", "6")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert!(said.has(&HeaderName::from_static("c")));
        assert!(!said.has(&HeaderName::from_static("a")));
        said.set(&mut headers);
        let mut told: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        told.sort_unstable();
        assert_eq!(told, [("a", "1"), ("b", "5"), ("c", "4")]);
    }
}
