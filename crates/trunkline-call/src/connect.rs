//! How a request gets onto a connection.
//!
//! A request of HTTP/1.1 to an `http://` address takes a connection for itself from a pool. A request of HTTP/2, as gRPC
//! sends them, shares one of a few connections; to an `https://` address every request does, and TLS names the service at
//! the other end before anything is sent. An answer of 101 keeps its connection.

mod address;
mod dial;
mod exchange;
pub(crate) mod http1;
mod idle;
mod line;
mod pool;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod wire;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::header::UPGRADE;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, Version};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trunkline_core::{ByteString, Error, Result, Retry};

use crate::Body;
use crate::server::HEADERS_WITHIN;
use dial::{Dial, Dialled};
use line::Bundle;
use pool::Pool;

/// A connection that nobody uses is kept for so long.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// More connections that nobody uses are not kept.
const IDLE_COUNT_MAX: usize = 256;

/// A connection has to be there within this time, with everything that is agreed on first.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

// The other end closes it later than we do: no request is sent into a connection that is being closed.
const _: () = assert!(IDLE_MAX.as_secs() < HEADERS_WITHIN.as_secs());

/// Every connection out of this process.
pub(crate) struct Wires {
    pools: ArcSwap<HashMap<Authority, Arc<Pool>>>,
    bundles: ArcSwap<HashMap<Goal, Arc<Bundle>>>,
    #[cfg(feature = "tls")]
    tls: Arc<arc_swap::ArcSwapOption<tls::TlsClient>>,
}

/// What a request goes by.
pub(crate) enum Route {
    /// A connection for itself.
    Alone(Arc<Pool>),
    /// One that it shares.
    Shared(Arc<Bundle>),
}

/// What shared connections lead to, and whose they are. Two services at one address share none: each is asked for its
/// name.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Goal {
    scheme: Scheme,
    authority: Authority,
    service: ByteString,
    /// Who shows its certificate there; nobody in the clear.
    caller: ByteString,
}

impl Wires {
    pub(crate) fn new() -> Self {
        Self {
            pools: ArcSwap::default(),
            bundles: ArcSwap::default(),
            #[cfg(feature = "tls")]
            tls: Arc::default(),
        }
    }

    /// Says how connections to `https://` addresses are made. Those that are open stay.
    #[cfg(feature = "tls")]
    pub(crate) fn set_tls(&self, tls: tls::TlsClient) {
        self.tls.store(Some(Arc::new(tls)));
    }

    /// Whether it was said how connections to `https://` addresses are made.
    pub(crate) fn is_secured(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.load().is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }

    /// What a request from one service to another goes by, whose address is written on it where it has to be. What it is
    /// sent with gives these errors:
    ///
    /// # Errors
    /// `Unavailable`: `Transient` where nothing was sent, `Unknown` where the connection broke, `Permanent` where one
    /// side does not trust the other.
    pub(crate) fn route(
        &self,
        (caller, service): (&ByteString, &ByteString),
        (scheme, authority): (Scheme, Authority),
        request: &mut Request<Body>,
    ) -> Result<Route> {
        if scheme != Scheme::HTTP && request.headers().contains_key(UPGRADE) {
            *request.version_mut() = Version::HTTP_11;
            let goal = Goal {
                scheme,
                authority,
                service: service.clone(),
                caller: caller.clone(),
            };
            return Ok(Route::Alone(self.once(goal)?));
        }
        if scheme == Scheme::HTTP && request.version() != Version::HTTP_2 {
            *request.version_mut() = Version::HTTP_11;
            return Ok(Route::Alone(self.pool(authority)?));
        }
        *request.uri_mut() = absolute(request.uri(), scheme.clone(), authority.clone())?;
        *request.version_mut() = Version::HTTP_2;
        Ok(Route::Shared(self.bundle(Goal {
            service: service.clone(),
            caller: match scheme == Scheme::HTTPS {
                true => caller.clone(),
                false => ByteString::new(),
            },
            scheme,
            authority,
        })))
    }

    /// A connection for one request that may go on in another protocol, which there is none of in HTTP/2: nobody shares it, and it is
    /// not kept.
    fn once(&self, goal: Goal) -> Result<Arc<Pool>> {
        let host = HeaderValue::from_str(goal.authority.as_str()).map_err(|error| {
            Error::internal("an authority is a header's value").with_source(error)
        })?;
        let bounds = idle::Bounds {
            idle_max: IDLE_MAX,
            idle_count_max: 0,
        };
        Ok(Arc::new(Pool::to(host, self.dial(goal), bounds, None)))
    }

    fn pool(&self, authority: Authority) -> Result<Arc<Pool>> {
        if let Some(pool) = self.pools.load().get(&authority) {
            return Ok(pool.clone());
        }
        let made = Arc::new(Pool::new(authority.clone())?);
        self.pools.rcu(|pools| {
            // What leads to instances that are gone goes with them.
            let mut pools: HashMap<_, _> = pools
                .iter()
                .filter(|(_, pool)| pool.is_used())
                .map(|(authority, pool)| (authority.clone(), pool.clone()))
                .collect();
            pools
                .entry(authority.clone())
                .or_insert_with(|| made.clone());
            pools
        });
        let known = self.pools.load().get(&authority).cloned();
        Ok(known.unwrap_or(made))
    }

    fn bundle(&self, goal: Goal) -> Arc<Bundle> {
        if let Some(bundle) = self.bundles.load().get(&goal) {
            return bundle.clone();
        }
        let to = goal.authority.to_string();
        let made = Arc::new(Bundle::to(to, self.dial(goal.clone())));
        self.bundles.rcu(|bundles| {
            // What leads to instances that are gone goes with them.
            let mut bundles: HashMap<_, _> = bundles
                .iter()
                .filter(|(_, bundle)| bundle.is_used())
                .map(|(goal, bundle)| (goal.clone(), bundle.clone()))
                .collect();
            bundles.entry(goal.clone()).or_insert_with(|| made.clone());
            bundles
        });
        self.bundles.load().get(&goal).cloned().unwrap_or(made)
    }
}

impl Wires {
    fn dial(&self, goal: Goal) -> Arc<dyn Dial> {
        if goal.scheme != Scheme::HTTPS {
            return Arc::new(goal.authority);
        }
        #[cfg(feature = "tls")]
        return Arc::new(tls::ToService::new(goal, self.tls.clone()));
        #[cfg(not(feature = "tls"))]
        Arc::new(Nowhere)
    }
}

fn absolute(uri: &Uri, scheme: Scheme, authority: Authority) -> Result<Uri> {
    let path = uri
        .path_and_query()
        .cloned()
        .unwrap_or(PathAndQuery::from_static("/"));
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|error| {
            Error::invalid("path_invalid", "expected a path for the call").with_source(error)
        })
}

/// An address that can't be reached as it says.
struct Nowhere;

impl Dial for Nowhere {
    fn dial(&self, _: dial::Asks) -> BoxFuture<'_, Result<Dialled>> {
        let text = "an https address needs the feature `tls`, and certificates for the network";
        let error = Error::unavailable("tls_missing", text).with_retry(Retry::Permanent);
        Box::pin(std::future::ready(Err(error)))
    }
}

async fn tcp(authority: &Authority, port: u16) -> Result<TcpStream> {
    let host = authority.host().trim_matches(['[', ']']);
    let connect = TcpStream::connect((host, authority.port_u16().unwrap_or(port)));
    let stream = in_time(connect).await?;
    // Small requests go out at once; where the system refuses that, they go out later.
    drop(stream.set_nodelay(true));
    Ok(stream)
}

/// What a step of connecting comes to.
async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> Result<T> {
    match timeout(CONNECT_WITHIN, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(unreached(true, error)),
        Err(_) => Err(unreached(true, io::Error::from(io::ErrorKind::TimedOut))),
    }
}

fn unreached(before_sending: bool, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    if is_callers(&error) {
        return request_broken(error);
    }
    let (message, retry) = if before_sending {
        ("the service can't be connected to", Retry::Transient)
    } else {
        ("the connection to the service broke", Retry::Unknown)
    };
    Error::unavailable("service_unreachable", message)
        .with_retry(retry)
        .with_source(error)
}

fn request_broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let text = "the request's own body broke off";
    Error::invalid("request_broken", text).with_source(error)
}

/// Whether it is whoever sends the request who could not send it to its end: that says nothing of the service.
fn is_callers(error: &(dyn std::error::Error + 'static)) -> bool {
    let hyper = error.downcast_ref::<hyper::Error>();
    hyper.is_some_and(hyper::Error::is_user)
}
