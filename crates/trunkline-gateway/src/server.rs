//! Connections: accepted, bounded, and let go without losing a request.

mod closing;
mod date;
mod door;
mod frames;
mod h1;
mod h2;
mod house;
#[cfg(unix)]
mod lot;
#[cfg(not(unix))]
#[path = "server/lot/none.rs"]
mod lot;
mod opening;
mod wait;
mod wire;
mod writes;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use trunkline_call::server::{Accepted, accept};
use trunkline_core::{Error, Result};

use self::door::{Door, Way};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::h1::{Read, read};
use self::house::House;
use crate::Gateway;

/// What a client may take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// More connections wait in the system's queue. 4096 by default.
    pub connections_max: usize,
    /// A larger head is refused (431), and so is one of more than 100 headers. 64 KiB by default.
    pub head_bytes_max: usize,
    /// A head has to be whole within this time, and a connection that is kept has to send its next one. 30 s by
    /// default.
    pub head_within: Duration,
    /// A handshake of TLS has to be done within this time. 10 s by default.
    pub handshake_within: Duration,
    /// More handshakes at once wait for others to be done. 1024 by default.
    pub handshakes_max: usize,
    /// More requests at once on one connection of HTTP/2 are refused. 128 by default.
    pub streams_max: u32,
    /// A tunnel, such as one of WebSocket, ends after such a silence in both directions. 60 s by default.
    pub tunnel_idle_max: Duration,
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
            handshake_within: Duration::from_secs(10),
            handshakes_max: 1024,
            streams_max: 128,
            tunnel_idle_max: Duration::from_secs(60),
            body_idle_max: Duration::from_secs(10),
            write_stall_max: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            drain_within: Duration::from_secs(10),
        }
    }
}

impl Gateway {
    /// Serves until `shutdown`, then lets go. Who begins with HTTP/2 is answered so, anybody else in HTTP/1.1.
    ///
    /// # Guarantees
    /// After `shutdown`, connections that were begun before are still served; who begins one then is not answered, and
    /// refused when the listener is gone (ADR 82; where the system can't, who comes at the very end may be reset). In HTTP/1.1 every answer says
    /// `Connection: close`, and an idle connection is closed only when it has been silent for the linger time; in HTTP/2
    /// the client is told to begin no further request, and what it began before it read that is answered. Requests
    /// under way and tunnels end, for at most the drain time. When this returns, no task is left.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        self.take(listener, shutdown, Way::Plain).await;
    }

    /// Serves as [`Gateway::serve`] does, with TLS and the certificates of the configuration that holds at each
    /// handshake. Which version of HTTP it is, is agreed on there (ALPN).
    ///
    /// # Errors
    /// `InvalidInput` (`certificate_missing`) where the configuration has none. After a
    /// [`reload`](Gateway::reload) to one without any, connections are refused.
    pub async fn serve_tls(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<()> {
        if self.tls().is_none() {
            let text = "expected a certificate in the gateway's configuration";
            return Err(Error::invalid("certificate_missing", text));
        }
        let handshakes = Arc::new(Semaphore::new(self.limits.handshakes_max));
        self.take(listener, shutdown, Way::Tls(handshakes)).await;
        Ok(())
    }

    async fn take(&self, listener: TcpListener, shutdown: impl Future<Output = ()>, way: Way) {
        let places = Arc::new(Semaphore::new(self.limits.connections_max));
        let (stop, stopping) = watch::channel(false);
        let (cut, is_cut) = watch::channel(false);
        let (lot, watcher) = house::lot(&way).unzip();
        let door = Door {
            gateway: self.clone(),
            way,
            port: listener.local_addr().map_or(0, |address| address.port()),
            lot,
            stopping: Stopping(stopping),
            cut: is_cut,
        };
        let mut house = House::new(door, watcher);
        self.inner.is_serving.store(true, Ordering::Release);
        self.inner.watch.begin(&self.inner.compiled);
        house.take(&listener, &places, shutdown).await;
        self.inner.is_serving.store(false, Ordering::Release);
        stop.send_replace(true);
        house.wake();
        if !self.inner.is_followed.load(Ordering::Acquire) {
            empty(&listener, &places, |accepted| house.admit(accepted)).await;
        }
        drop(listener);
        let limits = &self.limits;
        let drained = house.drained();
        if timeout(limits.linger + limits.drain_within, drained)
            .await
            .is_err()
        {
            tracing::warn!("requests were still under way at the limit and were cut off");
        }
        cut.send_replace(true);
        house.shutdown().await;
        self.inner.watch.end(&self.inner.compiled);
        self.flush().await;
    }
}

/// Lets in who was connected when the stop began, and nobody who comes later: their clients believe that they are connected, and
/// have perhaps sent a request.
async fn empty(listener: &TcpListener, places: &Arc<Semaphore>, mut open: impl FnMut(Accepted)) {
    let made_within = match closing::begin(listener) {
        Ok(()) => closing::MADE_WITHIN,
        Err(error) => {
            tracing::debug!(%error, "whoever connects at the very end of a listener may be reset");
            Duration::ZERO
        }
    };
    let mut all_made = std::pin::pin!(sleep(made_within));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut all_made => break,
            accepted = accept(listener, places, unaccepted) => accepted,
        };
        if let Some(accepted) = accepted {
            open(accepted);
        }
    }
    while let Some(Some(accepted)) = accept(listener, places, unaccepted).now_or_never() {
        open(accepted);
    }
}

/// Tells when the gateway begins to stop.
#[derive(Clone)]
struct Stopping(watch::Receiver<bool>);

impl Stopping {
    async fn begun(&mut self) {
        // The sender lives as long as the server; if it is gone, so are we.
        drop(self.0.wait_for(|stops| *stops).await);
    }
}

fn unaccepted(error: &std::io::Error) {
    tracing::warn!(service = "gateway", %error, "a connection could not be accepted");
}
