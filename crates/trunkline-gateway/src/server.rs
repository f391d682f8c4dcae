//! Connections: accepted, bounded, and let go without losing a request.

mod frames;
mod h2;
mod opening;
mod wire;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use trunkline_call::Stall;
use trunkline_call::server::{Accepted, accept};
use trunkline_core::{ByteString, Error, Result, report};

use self::opening::Opening;
use self::wire::Wire;
use crate::arrival::Arrival;
use crate::body::Answered;
use crate::client::{Client, Session};
use crate::{Gateway, tls};

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
    /// After `shutdown`, connections that wait to be accepted are still served. In HTTP/1.1 every answer says
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
        let door = Door {
            gateway: self.clone(),
            way,
            port: listener.local_addr().map_or(0, |address| address.port()),
            stopping: Stopping(stopping),
            cut: is_cut,
        };
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
                connections.spawn(door.clone().open(accepted));
            }
        }
        self.inner.is_serving.store(false, Ordering::Release);
        // Their clients believe that they are connected, and have perhaps sent a request.
        while let Some(Some(accepted)) = accept(&listener, &places, unaccepted).now_or_never() {
            connections.spawn(door.clone().open(accepted));
        }
        drop(listener);
        stop.send_replace(true);
        let limits = &self.limits;
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(limits.linger + limits.drain_within, drained)
            .await
            .is_err()
        {
            tracing::warn!("requests were still under way at the limit and were cut off");
        }
        cut.send_replace(true);
        connections.shutdown().await;
    }
}

/// How bytes become requests.
#[derive(Clone)]
enum Way {
    Plain,
    /// With places for handshakes.
    Tls(Arc<Semaphore>),
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

/// What connections come in by.
#[derive(Clone)]
struct Door {
    gateway: Gateway,
    way: Way,
    port: u16,
    stopping: Stopping,
    cut: watch::Receiver<bool>,
}

impl Door {
    /// Serves a connection until it ends.
    async fn open(self, accepted: Accepted) {
        let Accepted {
            stream,
            remote,
            place,
        } = accepted;
        let open = Open::new(&self.gateway);
        let ended = match &self.way {
            Way::Plain => self.plain(stream, remote).await,
            Way::Tls(handshakes) => Box::pin(self.secure(stream, remote, handshakes)).await,
        };
        if let Err(error) = ended {
            tracing::debug!(service = "gateway", %remote, error = %report(&*error), "connection ended");
        }
        drop((open, place));
    }

    async fn plain(&self, mut stream: TcpStream, remote: SocketAddr) -> Ended {
        let mut stopping = self.stopping.clone();
        let limits = &self.gateway.limits;
        let silent = async {
            stopping.begun().await;
            sleep(limits.linger).await;
        };
        let opening = tokio::select! {
            biased;
            opening = timeout(limits.head_within, Opening::of(&mut stream)) => opening??,
            () = silent => return Ok(()),
        };
        let line = self.line(remote, None);
        let is_h2 = opening.is_h2();
        self.answer(line, stream, opening, is_h2).await
    }

    async fn secure(&self, stream: TcpStream, remote: SocketAddr, handshakes: &Semaphore) -> Ended {
        let tls = self.gateway.tls().ok_or("there is no certificate")?;
        let shaken = async {
            let _place = handshakes.acquire().await.map_err(io::Error::other)?;
            TlsAcceptor::from(tls.config.clone()).accept(stream).await
        };
        let stream = timeout(self.gateway.limits.handshake_within, shaken).await??;
        let (_, agreed) = stream.get_ref();
        let sni = agreed.server_name().map(str::to_ascii_lowercase);
        let is_h2 = agreed.alpn_protocol() == Some(tls::H2);
        let session = Session {
            shown: tls.shown(sni.as_deref()).clone(),
            sni: sni.map(ByteString::from),
        };
        let line = self.line(remote, Some(session));
        self.answer(line, stream, Opening::default(), is_h2).await
    }

    fn line(&self, remote: SocketAddr, session: Option<Session>) -> Arc<Line> {
        Arc::new(Line {
            client: Arc::new(Client::new(remote, self.port, session)),
            gateway: self.gateway.clone(),
        })
    }

    async fn answer<S>(&self, line: Arc<Line>, stream: S, opening: Opening, is_h2: bool) -> Ended
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = &self.gateway.limits;
        let stream = Stall::new(stream, limits.write_stall_max);
        if is_h2 {
            let stream = opening.before(stream);
            Box::pin(line.answer_h2(stream, self.stopping.clone())).await?;
            return Ok(());
        }
        let (client, idle_max) = (line.client.clone(), limits.tunnel_idle_max);
        let (wire, gone) = Wire::new(
            opening.before(stream),
            client.clone(),
            (idle_max, self.cut.clone()),
        );
        line.answer_h1(wire, self.stopping.clone()).await?;
        if client.is_tunnel() {
            match client.take_ends() {
                Some(ends) => Box::pin(ends.carry()).await?,
                // A service of this process has it.
                None => drop(gone.await),
            }
        }
        Ok(())
    }
}

type Ended = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A connection that requests come on.
struct Line {
    gateway: Gateway,
    client: Arc<Client>,
}

impl Line {
    fn service(
        self: &Arc<Self>,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Answered<Arrival>>,
        Error = Infallible,
        Future: Send,
    > + use<> {
        let line = self.clone();
        service_fn(move |request: Request<Incoming>| {
            let line = line.clone();
            async move { Ok::<_, Infallible>(line.gateway.handle(request, &line.client).await) }
        })
    }

    /// Answers the requests of a connection of HTTP/1.1 until it ends or becomes a tunnel.
    async fn answer_h1<S>(self: Arc<Self>, stream: S, mut stopping: Stopping) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = &self.gateway.limits;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_within)
            .max_header_size(limits.head_bytes_max)
            .serve_connection(TokioIo::new(stream), self.service())
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let silent = async {
            stopping.begun().await;
            sleep(limits.linger).await;
        };
        tokio::select! {
            biased;
            ended = &mut connection => ended,
            () = silent => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
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
