//! The request's way from the gateway to its service and back.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use tower::ServiceExt;
use trunkline_call::balance::Session;
use trunkline_call::headers::{DEADLINE_MS, GRPC_TIMEOUT, USER_ID, USER_ROLES, write_roles};
use trunkline_call::{Body, Channel, RequestHead};
use trunkline_core::{ErrorKind, Result};

use crate::arrival::{Arrival, Speaks};
use crate::body::Progress;
use crate::plugin::{Exchange, Held};
use crate::route::Target;
use crate::upstream::{Backend, Sending, UpstreamState, key};
use crate::{Gateway, grpc, headers, plugin, problem};

/// As many headers are told beside those of the request, as a rule.
const MORE: usize = 4;

/// What the client said that it wants to speak to.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Where a route's requests go.
#[derive(Clone)]
pub(crate) enum Onward {
    /// To a service of the platform, wherever it runs; for so long.
    Channel(Channel, Option<Duration>),
    /// To targets that the file names.
    Upstream(Arc<Backend>),
}

impl Onward {
    /// Whether the headers that plugins have seen may say which target it is.
    fn looks_at_headers(&self) -> bool {
        match self {
            Self::Channel(..) => false,
            Self::Upstream(backend) => backend.group.hash_on().is_some(),
        }
    }
}

/// A request on its way: its head, its body and how that fares, its headers if they are not the head's, and the most bytes
/// that the body may have.
type Given<'a> = (
    RequestHead<'a>,
    Option<(Body, &'a Progress)>,
    Option<HeaderMap>,
    Option<u64>,
);

impl Gateway {
    /// The upstreams of the configuration and their targets, as they are now, by their names.
    pub fn upstreams(&self) -> Vec<UpstreamState> {
        self.inner.compiled.load().upstreams.states()
    }

    pub(crate) async fn forward(
        &self,
        target: &Target,
        (exchange, is_seen): (&mut Exchange, bool),
        body: Held,
        arrival: &mut Arrival,
    ) -> Result<Response<Body>> {
        let web = plugin::called(&exchange.extensions);
        if web.is_some() {
            arrival.speaks = Speaks::Grpc;
        }
        let left = arrival.left(&exchange.request.headers);
        let more = more_headers(target, exchange, left);
        let idle_max = match arrival.speaks {
            Speaks::Grpc => grpc::LASTS_MAX,
            Speaks::Http | Speaks::WebSocket(_) => self.limits.body_idle_max,
        };
        let (body, progress) = body.onward(exchange.body_bytes_max, idle_max).unzip();
        arrival.body.clone_from(&progress);
        let body = match web {
            Some(web) => body.map(|body| web.decode(body)),
            None => body,
        };
        // A request with a body is made anew for its service.
        let is_kept = is_seen || body.is_none() || target.onward.looks_at_headers();
        let headers = (!is_kept).then(|| std::mem::take(&mut exchange.request.headers));
        let exchange = &*exchange;
        let head = RequestHead {
            method: &exchange.request.method,
            uri: &exchange.request.uri,
            headers: &exchange.request.headers,
            more: &more,
            host: None,
            extensions: &exchange.request.extensions,
        };
        let answer = match &target.onward {
            Onward::Channel(channel, timeout) => {
                let headers = headers.unwrap_or_else(|| head.headers.clone());
                let (mut head, ()) = head.with_headers(headers, ()).into_parts();
                if let Some(session) = session(&head.uri) {
                    head.extensions.insert(session);
                }
                let channel = match arrival.speaks {
                    Speaks::Http => channel.clone(),
                    Speaks::Grpc => {
                        grpc::bound(&mut head, left);
                        channel.clone()
                    }
                    // A connection is joined once.
                    Speaks::WebSocket(_) => channel.clone().bare(),
                };
                let call = call(channel, *timeout, (head, body), progress.as_deref());
                // In a box of its own: it is long, and a request that goes elsewhere has no room for it.
                Box::pin(call).await
            }
            Onward::Upstream(backend) => {
                let body = body.zip(progress.as_deref());
                let bytes_max = exchange.body_bytes_max;
                let sent = pin!(self.send(backend, exchange, (head, body, headers, bytes_max)));
                match left {
                    None => sent.await,
                    Some(left) => grpc::within(left, sent).await,
                }
            }
        };
        if let Some(refusal) = progress.and_then(|told| told.refusal(exchange.body_bytes_max)) {
            return Err(refusal);
        }
        let mut response = answer?;
        // Which version was spoken there is nobody's business here.
        *response.version_mut() = Version::HTTP_11;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            headers::strip_hop_by_hop(response.headers_mut());
        }
        headers::strip_ours(response.headers_mut());
        Ok(response)
    }

    async fn send(
        &self,
        backend: &Backend,
        exchange: &Exchange,
        (head, body, headers, bytes_max): Given<'_>,
    ) -> Result<Response<Body>> {
        let hashed = backend.group.hash_on();
        let mut key = hashed.and_then(|by| key::of(by, exchange, &self.inner.env));
        let cookie = key.as_mut().and_then(|key| key.cookie.take());
        let sending = Sending {
            head,
            body,
            headers,
            bytes_max,
            key: key.as_ref().map(|key| &*key.bytes),
        };
        let mut response = backend.send(sending).await?;
        key::tell(cookie, response.headers_mut());
        Ok(response)
    }
}

/// What a service is told beside the request as plugins see it.
fn more_headers(
    target: &Target,
    exchange: &Exchange,
    left: Option<Duration>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut more = Vec::with_capacity(MORE);
    if let Some(left) = left.and_then(grpc::told) {
        more.push((GRPC_TIMEOUT, left));
    }
    if let Some(claims) = &exchange.claims {
        more.extend(headers::shared(USER_ID, &claims.sub));
        let mut roles = HeaderMap::new();
        write_roles(&mut roles, &claims.roles);
        more.extend(roles.remove(USER_ROLES).map(|roles| (USER_ROLES, roles)));
    }
    if let Some(member) = &exchange.consumer {
        headers::tell_consumer(&mut more, member, exchange.is_anonymous);
    }
    if target.preserve_host
        && let Some(host) = exchange.request.headers.get(FORWARDED_HOST)
    {
        more.push((HOST, host.clone()));
    }
    more
}

/// What a request of Engine.IO belongs to. The instance that has a connection put its tag behind the connection's id.
fn session(uri: &Uri) -> Option<Session> {
    let named = |name: &str| {
        let mut pairs = uri
            .query()?
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    named("EIO")?;
    let tag = named("sid").and_then(|id| id.rsplit_once('.'));
    Some(Session {
        tag: tag.map(|(_, tag)| Bytes::copy_from_slice(tag.as_bytes())),
    })
}

/// Sends a request through a channel.
async fn call(
    channel: Channel,
    timeout: Option<Duration>,
    (mut head, body): (Parts, Option<Body>),
    progress: Option<&Progress>,
) -> Result<Response<Body>> {
    if let Some(timeout) = timeout {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        head.headers.insert(DEADLINE_MS, millis.into());
    }
    let request = Request::from_parts(head, body.unwrap_or_default());
    match channel.oneshot(request).await {
        Err(error)
            if error.kind() == ErrorKind::DeadlineExceeded
                && progress.is_some_and(Progress::is_awaited) =>
        {
            Err(problem::body_slow().with_source(error))
        }
        answer => answer,
    }
}
