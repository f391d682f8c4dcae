//! Routers over TCP: HTTP/1.1 and HTTP/2, with TLS or without.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use axum::Router;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::Service;

use super::timer::KeptTimer;
use super::watched::Watched;
use super::{Limits, Peer, is_grpc, panicked};
use crate::load::Load;
use crate::{Body, Stall, problem};

/// More connections at once wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// More requests at once on one connection of HTTP/2 wait to be sent.
const STREAMS_MAX: u32 = 256;
/// A client that is slower with its headers is cut off, and so is one that keeps a connection and sends nothing.
pub(crate) const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Headers beyond this are refused.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// A client that stops reading for longer is cut off.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Requests under way get this long after the shutdown begins.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// What one request's body may send ahead of its reader.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// What all bodies of a connection may send ahead of their readers.
const LINE_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// An answer is read this far ahead of its connection.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// A connection on which a certificate was shown takes no more requests after so long: the next one shows what is good then.
const CERTIFIED_MAX: Duration = Duration::from_secs(3_600);
/// A client that is silent with requests under way is asked after so long whether it is there,
const ASK_AFTER: Duration = Duration::from_secs(20);
/// and has so long to say so.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Serves a router until `shutdown`, then lets requests under way end, for at most 10 s.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    run(listener, router, Way::Plain, shutdown).await;
}

/// Serves a router as [`serve`] does, to whoever proves by a certificate that it may connect. Handlers find who that is
/// among the request's extensions, as a [`Peer`].
#[cfg(feature = "tls")]
pub async fn serve_tls(
    listener: TcpListener,
    router: Router,
    tls: super::tls::TlsServer,
    shutdown: impl Future<Output = ()>,
) {
    run(listener, router, Way::Tls(tls), shutdown).await;
}

/// How bytes become requests.
#[derive(Clone)]
enum Way {
    Plain,
    #[cfg(feature = "tls")]
    Tls(super::tls::TlsServer),
}

async fn run(listener: TcpListener, router: Router, way: Way, shutdown: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &places, unaccepted) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Some(accepted) = accepted else { continue };
        connections.spawn(open(
            accepted,
            router.clone(),
            way.clone(),
            stopping.clone(),
        ));
    }
    drop(listener);
    let _: bool = stop.send_replace(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN_WITHIN, ended).await.is_err() {
        tracing::warn!("requests were still under way at the limit and were cut off");
    }
    connections.shutdown().await;
}

async fn open(accepted: Accepted, router: Router, way: Way, stopping: watch::Receiver<bool>) {
    let Accepted {
        stream,
        remote,
        place,
    } = accepted;
    match way {
        Way::Plain => answer(stream, router, None, stopping).await,
        #[cfg(feature = "tls")]
        Way::Tls(tls) => match timeout(HEADERS_WITHIN, tls.accept(stream)).await {
            Ok(Ok((stream, peer))) => answer(stream, router, peer, stopping).await,
            Ok(Err(error)) => {
                let error = trunkline_core::report(&error);
                tracing::warn!(%remote, %error, "a connection was refused");
            }
            Err(_) => tracing::debug!(%remote, "a handshake took too long"),
        },
    }
    let _: SocketAddr = remote;
    drop(place);
}

/// Answers the requests of a connection until it ends.
async fn answer<S>(
    stream: S,
    router: Router,
    peer: Option<Peer>,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let load = Arc::<Load>::default();
    let certified_until = peer.as_ref().map(|_| Instant::now() + CERTIFIED_MAX);
    let boxed = Boxed {
        router,
        load: load.clone(),
        peer,
    };
    let builder = builder();
    let stream = TokioIo::new(Stall::new(stream, WRITE_STALL_MAX));
    // One that goes on in another protocol is whose who took it from then on.
    let boxed = TowerToHyperService::new(boxed);
    let connection = builder.serve_connection_with_upgrades(stream, boxed);
    let mut connection = pin!(connection);
    let mut idle = Idle::default();
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(error = %trunkline_core::report(&*error), "connection ended");
                }
                return;
            }
            _ = stopping.wait_for(|stop| *stop), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(certified_until.unwrap_or_else(Instant::now)), if certified_until.is_some() && !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep(HEADERS_WITHIN) => match idle.after(&load) {
                // One who does not even take its leave.
                true if told => return,
                true => {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
                false => {}
            },
        }
    }
}

/// For how long a connection has had nothing to do.
#[derive(Default)]
struct Idle {
    begun: Option<usize>,
    times: u32,
}

impl Idle {
    /// Whether that is too long, one more pause later. Who has never sent a request is given one pause, and one who has
    /// three: HTTP/1.1 has its own limit, and who shares a connection makes a new one less gladly.
    fn after(&mut self, load: &Load) -> bool {
        let begun = load.at_rest();
        self.times = match begun {
            Some(_) if begun == self.begun => self.times + 1,
            Some(_) => 1,
            None => 0,
        };
        self.begun = begun;
        self.times >= if begun == Some(0) { 1 } else { 3 }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(KeptTimer::default())
        .header_read_timeout(HEADERS_WITHIN);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(LINE_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(ASK_AFTER)
        .keep_alive_timeout(ANSWER_WITHIN);
    builder
}

fn unaccepted(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
}

/// How long to wait when the system gives no connection, for want of file handles, say: others may end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection that was accepted, with its place among those that may be open.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Who is at the other end.
    pub remote: SocketAddr,
    /// Held for as long as it is open.
    pub place: OwnedSemaphorePermit,
}

/// Accepts a connection once there is a place for it. None if the system gave none: `failed` is told why, and a pause
/// was made.
pub async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    failed: impl FnOnce(&std::io::Error),
) -> Option<Accepted> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, remote)) => {
            // Small answers go out at once; where the system refuses that, they go out later.
            drop(stream.set_nodelay(true));
            Some(Accepted {
                stream,
                remote,
                place,
            })
        }
        Err(error) => {
            failed(&error);
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// A router that takes hyper's bodies, and whose panics are problems.
#[derive(Clone)]
struct Boxed {
    router: Router,
    load: Arc<Load>,
    peer: Option<Peer>,
}

impl Service<Request<hyper::body::Incoming>> for Boxed {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let place = self.load.enter();
        let mut request = request.map(Body::new);
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        // A stream of gRPC pauses for as long as its deadline lets it.
        let pause_max = (!is_grpc(request.headers())).then(|| Limits::default().body_pause_max);
        let call = self.router.call(request);
        Box::pin(async move {
            let response = match AssertUnwindSafe(call).catch_unwind().await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(panic) => problem::response(&panicked("the handler panicked", &*panic), None),
            };
            Ok(response.map(|body| Watched::outermost(body, pause_max, place)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request every few seconds, for as long as the connection takes them; how long that is.
    async fn lasts(peer: Option<Peer>) -> Duration {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (_stop, stopping) = watch::channel(false);
        let router = Router::new().fallback(|| async { "there" });
        let mut tasks = JoinSet::new();
        tasks.spawn(answer(far, router, peer, stopping));
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let begun = builder.handshake::<_, Body>(TokioIo::new(near)).await;
        let (mut sender, connection) = begun.unwrap();
        tasks.spawn(async { drop(connection.await) });
        let began = Instant::now();
        while began.elapsed() < CERTIFIED_MAX * 2 {
            sleep(Duration::from_secs(7)).await;
            let request = Request::get("http://there/").body(Body::empty()).unwrap();
            if sender.ready().await.is_err() {
                break;
            }
            assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_is_asked_for_again_after_an_hour() {
        let certified = lasts(Peer::new("spiffe://shop/orders")).await;
        let soon = CERTIFIED_MAX + Duration::from_secs(15);
        assert!((CERTIFIED_MAX..soon).contains(&certified), "{certified:?}");
        assert!(lasts(None).await >= CERTIFIED_MAX * 2);
    }

    #[test]
    fn a_connection_is_idle_sooner_before_its_first_request() {
        let load = Arc::<Load>::default();
        let mut never = Idle::default();
        assert!(never.after(&load), "it has sent nothing for one pause");

        let mut idle = Idle::default();
        let place = load.enter();
        for _ in 0..10 {
            assert!(!idle.after(&load), "a request is under way");
        }
        drop(place);
        assert_eq!([0; 3].map(|_| idle.after(&load)), [false, false, true]);
        drop(load.enter());
        assert!(!idle.after(&load), "there was another request");
    }
}
