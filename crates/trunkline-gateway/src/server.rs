//! Connections: accepted, bounded, and let go without losing a request.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::gauge;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use trunkline_call::Stall;
use trunkline_call::server::{Accepted, accept};
use trunkline_core::report;

use crate::Gateway;

/// What a client may take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// More connections wait in the system's queue. 4096 by default.
    pub connections_max: usize,
    /// A larger head is refused (431). 64 KiB by default.
    pub head_bytes_max: usize,
    /// A head has to be whole within this time, and a connection that is kept has to send its next one. 30 s by
    /// default.
    pub head_within: Duration,
    /// A body must not pause for longer (408). 10 s by default.
    pub body_idle_max: Duration,
    /// A client must not stop reading for longer. 30 s by default.
    pub write_stall_max: Duration,
    /// After shutdown, connections that are idle are kept for so long, so that a request which is already on its
    /// way gets its answer. 1 s by default.
    pub linger: Duration,
    /// After shutdown, requests under way get so long. 10 s by default.
    pub drain_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            head_bytes_max: 64 * 1024,
            head_within: Duration::from_secs(30),
            body_idle_max: Duration::from_secs(10),
            write_stall_max: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            drain_within: Duration::from_secs(10),
        }
    }
}

impl Gateway {
    /// Serves until `shutdown`, then lets go.
    ///
    /// # Guarantees
    /// After `shutdown`, connections that wait to be accepted are still served; every answer says
    /// `Connection: close`; an idle connection is closed only when it has been silent for the linger time; requests
    /// under way end, for at most the drain time. When this returns, no task is left.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(self.limits.connections_max));
        let (close, closing) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        self.inner.is_serving.store(true, Ordering::Release);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = accept(&listener, &places, unaccepted) => accepted,
            };
            while connections.try_join_next().is_some() {}
            if let Some(accepted) = accepted {
                connections.spawn(self.clone().connection(accepted, closing.clone()));
            }
        }
        self.inner.is_serving.store(false, Ordering::Release);
        // Their clients believe that they are connected, and have perhaps sent a request.
        while let Some(Some(accepted)) = accept(&listener, &places, unaccepted).now_or_never() {
            connections.spawn(self.clone().connection(accepted, closing.clone()));
        }
        drop(listener);
        close.send_replace(true);
        let limits = &self.limits;
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(limits.linger + limits.drain_within, drained)
            .await
            .is_err()
        {
            tracing::warn!("requests were still under way at the limit and were cut off");
        }
        connections.shutdown().await;
        self.flush().await;
    }

    async fn connection(self, accepted: Accepted, mut closing: watch::Receiver<bool>) {
        let Accepted {
            stream,
            remote,
            place,
        } = accepted;
        let (limits, remote) = (self.limits, remote.ip());
        let open = Open::new(&self);
        let gateway = self.clone();
        let service = service_fn(move |request| {
            let gateway = gateway.clone();
            async move { Ok::<_, Infallible>(gateway.handle(request, remote).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_within)
            .max_header_size(limits.head_bytes_max)
            .serve_connection(
                TokioIo::new(Stall::new(stream, limits.write_stall_max)),
                service,
            );
        let mut connection = std::pin::pin!(connection);
        let silent = async {
            // The sender lives as long as the server; if it is gone, so are we.
            if closing.wait_for(|closing| *closing).await.is_ok() {
                sleep(limits.linger).await;
            }
        };
        let ended = tokio::select! {
            biased;
            ended = &mut connection => ended,
            () = silent => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(service = "gateway", %remote, error = %report(&error), "connection ended");
        }
        drop((open, place));
    }
}

fn unaccepted(error: &std::io::Error) {
    tracing::warn!(service = "gateway", %error, "a connection could not be accepted");
}

/// Counts an open connection for as long as it lives.
struct Open(Gateway);

impl Open {
    fn new(gateway: &Gateway) -> Self {
        gateway.inner.connections.fetch_add(1, Ordering::Relaxed);
        gauge!("trunkline_gateway_connections").increment(1);
        Self(gateway.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.inner.connections.fetch_sub(1, Ordering::Relaxed);
        gauge!("trunkline_gateway_connections").decrement(1);
    }
}
