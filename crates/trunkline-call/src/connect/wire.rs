//! Connections to one place, for whoever chooses places itself.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::BoxError;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::runtime;
use tokio::time::Instant;
use trunkline_core::{Error, Result};

use super::address::Address;
use super::dial::{Asks, Dial, Dialled, Stream};
use super::exchange::Carried;
use super::http1::{self, RequestHead};
use super::idle::Bounds;
use super::line::Bundle;
use super::pool::{self, Pool};
#[cfg(feature = "tls")]
use super::tls;
use super::{IDLE_COUNT_MAX, IDLE_MAX};
use crate::Body;

/// How a place is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speaks {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, in the clear by prior knowledge.
    Http2,
    /// What the place prefers, which TLS tells; in the clear HTTP/1.1.
    Either,
}

/// What a [`Wire`] leads to, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WireConfig {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The protocol.
    pub speaks: Speaks,
    /// With TLS, if this is given.
    #[cfg(feature = "tls")]
    pub tls: Option<WireTls>,
    /// A connection has to be there within this time, with everything that is agreed on first: 2 s.
    pub connect_within: Duration,
    /// A connection that nobody uses is kept for so long: 5 s.
    pub idle_max: Duration,
    /// More connections of HTTP/1.1 that nobody uses are not kept: 256.
    pub idle_count_max: usize,
}

/// How TLS is spoken with a place.
#[cfg(feature = "tls")]
#[derive(Debug, Clone)]
pub struct WireTls {
    /// Whom to trust, and what to show. Which protocols are asked for does not stand here.
    pub config: Arc<rustls::ClientConfig>,
    /// The name that the place has to prove: a host's, or an address.
    pub name: String,
}

impl WireConfig {
    /// A place in the clear that speaks HTTP/1.1.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            speaks: Speaks::Http1,
            #[cfg(feature = "tls")]
            tls: None,
            connect_within: super::CONNECT_WITHIN,
            idle_max: IDLE_MAX,
            idle_count_max: IDLE_COUNT_MAX,
        }
    }
}

/// The connections to one place: kept, shared, and made when they are needed.
///
/// # Guarantees
/// A name's addresses are looked up again when they are older than 10 s; a connection to an address that the name no
/// longer has is given no more requests. Each new connection goes to the next of its addresses, and to those after it
/// where that fails. A request of HTTP/1.1 has a connection for itself, which is driven by who waits for its answer and
/// reads it; those of HTTP/2 share a few, and more where many wait. Each runtime has connections of its own.
pub struct Wire {
    /// What requests say that they are for, if they say nothing else.
    authority: Authority,
    scheme: Scheme,
    speaks: Speaks,
    /// What was agreed on last, where that is open.
    agreed: AtomicU8,
    /// Who asks holds it.
    asking: tokio::sync::Mutex<()>,
    shards: ArcSwap<Vec<(runtime::Id, Arc<Shard>)>>,
    host: HeaderValue,
    bounds: Bounds,
    dial: Arc<To>,
}

/// More runtimes than this begin anew with their connections now and then.
const SHARDS_MAX: usize = 256;

/// The connections of one runtime: their events come there, and would wake the threads of another late.
struct Shard {
    pool: Arc<Pool>,
    /// For what has no body.
    plain: http1::Client,
    bundle: Arc<Bundle>,
}

const OPEN: u8 = 0;
const HTTP_1: u8 = 1;
const HTTP_2: u8 = 2;

/// How far a request has come, for whoever gives it a time for each step.
#[derive(Debug)]
pub struct Stage {
    began: Instant,
    is_connected: AtomicBool,
}

impl Default for Stage {
    /// It begins now.
    fn default() -> Self {
        Self {
            began: Instant::now(),
            is_connected: AtomicBool::new(false),
        }
    }
}

impl Stage {
    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Whether it has a connection, and is sent or answered on it.
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, connected: bool) {
        self.is_connected.store(connected, Ordering::Relaxed);
    }
}

/// Why a request has no answer; and the request again, if nothing of it was sent.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unanswered {
    /// What went wrong: `Transient` where nothing was sent, `Unknown` where it may have been received, `Permanent`
    /// where one side does not trust the other.
    pub error: Error,
    /// The request, as it was given.
    pub unsent: Option<Box<Request<Body>>>,
    /// Whether nothing of it was sent: it may go elsewhere.
    pub is_untouched: bool,
    /// Whether the connection had been kept and broke without a word: it was perhaps being closed when the request came.
    pub was_kept: bool,
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Self {
            error,
            unsent: None,
            is_untouched: false,
            was_kept: false,
        }
    }
}

impl Unanswered {
    pub(super) fn untouched(error: Error) -> Self {
        Self {
            is_untouched: true,
            ..Self::from(error)
        }
    }

    pub(super) fn unsent(error: Error, request: Request<Body>) -> Self {
        Self {
            error,
            unsent: Some(Box::new(request)),
            is_untouched: true,
            was_kept: false,
        }
    }
}

impl Wire {
    /// Connections to a place. None is made before it is needed.
    ///
    /// # Errors
    /// `InvalidInput` (`address_invalid`) where the host is none.
    pub fn new(config: WireConfig) -> Result<Self> {
        let invalid = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::invalid("address_invalid", "expected a host's name or address")
                .with("address", &config.host)
                .with_source(error)
        };
        #[cfg(feature = "tls")]
        let secured = config.tls.as_ref().map(tls::Secured::new).transpose()?;
        #[cfg(feature = "tls")]
        let scheme = if secured.is_some() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        #[cfg(not(feature = "tls"))]
        let scheme = Scheme::HTTP;
        let host = match config.host.contains(':') && !config.host.starts_with('[') {
            true => format!("[{}]", config.host),
            false => config.host.clone(),
        };
        // The port that the scheme has by itself is not said (RFC 9110, 7.2).
        let usual = if scheme == Scheme::HTTPS { 443 } else { 80 };
        let text = match config.port == usual {
            true => host,
            false => format!("{host}:{}", config.port),
        };
        let authority: Authority = text.parse().map_err(|error| invalid(Box::new(error)))?;
        let named = HeaderValue::from_str(&text).map_err(|error| invalid(Box::new(error)))?;
        let dial = Arc::new(To {
            address: Address::new(&config.host, config.port),
            within: config.connect_within,
            #[cfg(feature = "tls")]
            secured,
        });
        let bounds = Bounds {
            idle_max: config.idle_max,
            idle_count_max: config.idle_count_max,
        };
        Ok(Self {
            authority,
            shards: ArcSwap::default(),
            host: named,
            bounds,
            dial,
            speaks: match scheme == Scheme::HTTPS || config.speaks != Speaks::Either {
                true => config.speaks,
                false => Speaks::Http1,
            },
            scheme,
            agreed: AtomicU8::new(OPEN),
            asking: tokio::sync::Mutex::default(),
        })
    }

    /// Sends a request and waits for the head of its answer. Of its address path and query count; `Host` is the place's
    /// where the request has none. One with `Upgrade` is sent by HTTP/1.1 whatever the place prefers.
    ///
    /// # Errors
    /// [`Unanswered`]: `Unavailable`, with `name_unknown`, `service_unreachable`, `protocol_refused` or what has to do
    /// with certificates.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn send(
        &self,
        mut request: Request<Body>,
        stage: &Stage,
    ) -> Result<Response<WireBody>, Unanswered> {
        let shard = self.shard();
        let by_h2 = match self.speaks {
            Speaks::Either if request.headers().contains_key(UPGRADE) => false,
            _ => match self.is_by_h2(&shard).await {
                Ok(is_h2) => is_h2,
                Err(error) => return Err(Unanswered::unsent(error, request)),
            },
        };
        if !by_h2 {
            *request.version_mut() = Version::HTTP_11;
            let answer = shard.pool.clone().send(request, Some(stage)).await;
            return match answer {
                Ok(answer) => Ok(answer.map(|body| WireBody(Carrier::Http1(body)))),
                Err(error) => Err(self.disagreed(error)),
            };
        }
        *request.version_mut() = Version::HTTP_2;
        self.address(&mut request);
        match shard.bundle.send(request, stage).await {
            Ok(answer) => Ok(answer.map(|body| WireBody(Carrier::Http2(body)))),
            Err(error) => Err(self.disagreed(error)),
        }
    }

    /// Sends a request without a body as [`Wire::send`] does, from where its head stands.
    ///
    /// # Errors
    /// As [`Wire::send`]; the request is not given back.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn send_head(
        &self,
        head: RequestHead<'_>,
        stage: &Stage,
    ) -> Result<Response<WireBody>, Unanswered> {
        // What says something of a body, or changes the protocol, is better left to who knows all of HTTP.
        let others = [CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE];
        let shard = self.shard();
        let is_other = others.iter().any(|name| head.has(name));
        if is_other || self.is_by_h2(&shard).await.map_err(Unanswered::untouched)? {
            return Box::pin(self.send(head.to_request(Body::empty()), stage)).await;
        }
        match shard.plain.send(head, stage).await {
            Ok(answer) => Ok(answer.map(|body| WireBody(Carrier::Plain(body)))),
            Err(error) => Err(self.disagreed(error)),
        }
    }

    /// Whether HTTP/2 is spoken there; where that is open, it is asked.
    async fn is_by_h2(&self, shard: &Shard) -> Result<bool> {
        match self.speaks {
            Speaks::Http1 => Ok(false),
            Speaks::Http2 => Ok(true),
            Speaks::Either => match self.agreed.load(Ordering::Relaxed) {
                HTTP_1 => Ok(false),
                HTTP_2 => Ok(true),
                _ => Box::pin(self.agree(shard)).await,
            },
        }
    }

    /// The connections of the runtime that asks.
    fn shard(&self) -> Arc<Shard> {
        let runtime = runtime::Handle::current().id();
        let of = |shards: &[(runtime::Id, Arc<Shard>)]| {
            let mut known = shards.iter();
            let known = known.find(|(known, _)| *known == runtime);
            known.map(|(_, shard)| shard.clone())
        };
        if let Some(shard) = of(&self.shards.load()) {
            return shard;
        }
        let (dial, bounds) = (&self.dial, self.bounds);
        let plain = http1::Client::to(self.host.clone(), dial.clone(), bounds);
        let spare = Some(plain.idle());
        let made = Arc::new(Shard {
            pool: Arc::new(Pool::to(self.host.clone(), dial.clone(), bounds, spare)),
            plain,
            bundle: Arc::new(Bundle::to(self.authority.to_string(), dial.clone())),
        });
        self.shards.rcu(|shards| {
            let mut shards = Vec::clone(shards);
            if shards.len() >= SHARDS_MAX {
                shards.clear();
            }
            if of(&shards).is_none() {
                shards.push((runtime, made.clone()));
            }
            shards
        });
        of(&self.shards.load()).unwrap_or(made)
    }

    /// Makes a connection to see what the place speaks, and keeps it.
    async fn agree(&self, shard: &Shard) -> Result<bool> {
        let _asking = self.asking.lock().await;
        match self.agreed.load(Ordering::Relaxed) {
            HTTP_1 => return Ok(false),
            HTTP_2 => return Ok(true),
            _ => {}
        }
        let dialled = self.dial.dial(Asks::Either).await?;
        let is_h2 = dialled.is_h2;
        if is_h2 {
            shard.bundle.begin(dialled).await?;
        } else {
            shard.plain.begin(dialled);
        }
        let agreed = if is_h2 { HTTP_2 } else { HTTP_1 };
        self.agreed.store(agreed, Ordering::Relaxed);
        Ok(is_h2)
    }

    /// A place that has learned or forgotten a protocol is asked anew.
    fn disagreed(&self, unanswered: Unanswered) -> Unanswered {
        if unanswered.error.code() == PROTOCOL_REFUSED {
            self.agreed.store(OPEN, Ordering::Relaxed);
        }
        unanswered
    }

    /// What `Host` says stands in the address in HTTP/2.
    fn address(&self, request: &mut Request<Body>) {
        let host = request.headers_mut().remove(HOST);
        let host = host.filter(|host| *host != self.host);
        let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let path = request.uri().path_and_query().cloned();
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(host.unwrap_or_else(|| self.authority.clone()));
        parts.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

/// The code of a place that does not speak what is asked for.
pub(super) const PROTOCOL_REFUSED: &str = "protocol_refused";

/// Makes the connections of a wire.
struct To {
    address: Address,
    within: Duration,
    #[cfg(feature = "tls")]
    secured: Option<tls::Secured>,
}

impl Dial for To {
    fn dial(&self, asks: Asks) -> BoxFuture<'_, Result<Dialled>> {
        Box::pin(async move {
            let by = Instant::now() + self.within;
            let (stream, peer) = self.address.connect(by).await?;
            // Small requests go out at once; where the system refuses that, they go out later.
            drop(stream.set_nodelay(true));
            #[cfg(feature = "tls")]
            if let Some(secured) = &self.secured {
                let (judged, verdict, is_h2) = secured.connect(stream, asks, by).await?;
                return Ok(Dialled {
                    stream: Stream::Secured(Box::new(judged)),
                    peer: Some(peer),
                    is_h2,
                    verdict,
                });
            }
            let _: (Asks, Option<Stream>) = (asks, None);
            Ok(Dialled::plain(stream, Some(peer)))
        })
    }

    fn leads_to(&self, peer: Option<SocketAddr>) -> bool {
        peer.is_none_or(|peer| self.address.is_at(peer))
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.address.refresh())
    }
}

/// The body of an answer that came over a [`Wire`].
pub struct WireBody(Carrier);

enum Carrier {
    Plain(http1::Answer),
    Http1(pool::Answer),
    Http2(Carried),
}

impl HttpBody for WireBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Carrier::Plain(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Carrier::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Carrier::Http2(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Carrier::Plain(body) => body.is_end_stream(),
            Carrier::Http1(body) => body.is_end_stream(),
            Carrier::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Carrier::Plain(body) => body.size_hint(),
            Carrier::Http1(body) => body.size_hint(),
            Carrier::Http2(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("to", &self.authority)
            .field("speaks", &self.speaks)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WireBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireBody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
