//! Routers over TCP.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use axum::Router;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::Service;

use super::watched::Watched;
use super::{Limits, panicked};
use crate::{Body, Stall, problem};

/// More connections at once wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// A client that is slower with its headers is cut off, and so is one that keeps a connection and sends nothing.
pub(crate) const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// A client that stops reading for longer is cut off.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Requests under way get this long after the shutdown begins.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Serves a router until `shutdown`, then lets requests under way end, for at most 10 s.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &places, unaccepted) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Some(Accepted { stream, place, .. }) = accepted else {
            continue;
        };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .serve_connection(
                TokioIo::new(Stall::new(stream, WRITE_STALL_MAX)),
                TowerToHyperService::new(Boxed(router.clone())),
            );
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %trunkline_core::report(&error), "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if timeout(DRAIN_WITHIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way at the limit and were cut off");
    }
    connections.shutdown().await;
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
struct Boxed(Router);

impl Service<Request<hyper::body::Incoming>> for Boxed {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let call = self.0.call(request.map(Body::new));
        Box::pin(async move {
            let response = match AssertUnwindSafe(call).catch_unwind().await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(panic) => problem::response(&panicked("the handler panicked", &*panic), None),
            };
            let pause_max = Limits::default().body_pause_max;
            Ok(response.map(|body| Watched::wrap(body, pause_max, None)))
        })
    }
}
