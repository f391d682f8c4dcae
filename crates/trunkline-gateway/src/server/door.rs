//! How a connection comes in, and becomes requests.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use metrics::gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use trunkline_call::Stall;
use trunkline_call::server::{Accepted, KeptTimer};
use trunkline_core::{ByteString, report};

use super::Stopping;
use super::h1::Rest;
use super::lot::Lot;
use super::opening::{Resumed, begin, is_h2};
use super::wait::Wait;
use super::wire::Wire;
use crate::arrival::Arrival;
use crate::body::{Answered, Inbound};
use crate::client::{Client, Session};
use crate::proxy::Inner;
use crate::{Gateway, tls};

/// How bytes become requests.
#[derive(Clone)]
pub(super) enum Way {
    Plain,
    /// With places for handshakes.
    Tls(Arc<Semaphore>),
}

/// What connections come in by.
pub(super) struct Door {
    pub(super) gateway: Gateway,
    pub(super) way: Way,
    pub(super) port: u16,
    /// Where connections in the clear are that say nothing.
    pub(super) lot: Option<Lot>,
    pub(super) stopping: Stopping,
    pub(super) cut: watch::Receiver<bool>,
}

/// A connection on its way to a task. It is closed before it is counted no more.
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) remote: SocketAddr,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) open: Open,
    pub(super) wait: Wait,
}

impl Door {
    /// A connection that was accepted just now.
    pub(super) fn welcome(&self, accepted: Accepted) -> Guest {
        Guest {
            stream: accepted.stream,
            remote: accepted.remote,
            place: accepted.place,
            open: Open::new(&self.gateway),
            wait: Wait::new(self.gateway.limits.head_within, self.lot.is_some()),
        }
    }

    /// Serves a connection until it ends or is parked.
    pub(super) async fn open(self: Arc<Self>, guest: Guest) {
        let remote = guest.remote;
        let ended = match &self.way {
            Way::Plain => self.plain(guest).await,
            Way::Tls(handshakes) => Box::pin(self.secure(guest, handshakes)).await,
        };
        if let Err(error) = ended {
            tracing::debug!(service = "gateway", %remote, error = %report(&*error), "connection ended");
        }
    }

    async fn plain(self: &Arc<Self>, mut guest: Guest) -> Ended {
        let limits = &self.gateway.limits;
        loop {
            let line = self.line(guest.remote, None);
            let mut stream = Stall::new(guest.stream, limits.write_stall_max);
            match line.answer_plain(&mut stream, &mut guest.wait).await? {
                Rest::Ended => return Ok(()),
                Rest::Other(held) if guest.wait.is_new => {
                    let opening = begin(&mut stream, held);
                    let opening = timeout_at(guest.wait.until, opening).await??;
                    let is_h2 = is_h2(&opening);
                    return line.answer_rest(stream, opening, is_h2).await;
                }
                Rest::Other(held) => return line.answer_rest(stream, held, false).await,
                Rest::Silent => guest.stream = stream.into_inner(),
            }
            let Some(lot) = &self.lot else { continue };
            match lot.park(guest)? {
                Some(back) => guest = back,
                None => return Ok(()),
            }
        }
    }

    async fn secure(self: &Arc<Self>, guest: Guest, handshakes: &Semaphore) -> Ended {
        let tls = self.gateway.tls().ok_or("there is no certificate")?;
        let shaken = async {
            let _place = handshakes.acquire().await.map_err(io::Error::other)?;
            TlsAcceptor::from(tls.config.clone())
                .accept(guest.stream)
                .await
        };
        let stream = timeout(self.gateway.limits.handshake_within, shaken).await??;
        let (_, agreed) = stream.get_ref();
        let sni = agreed.server_name().map(str::to_ascii_lowercase);
        let is_h2 = agreed.alpn_protocol() == Some(tls::H2);
        let session = Session {
            shown: tls.shown(sni.as_deref()).clone(),
            sni: sni.map(ByteString::from),
        };
        let line = self.line(guest.remote, Some(session));
        line.answer(stream, is_h2).await
    }

    pub(super) fn line(self: &Arc<Self>, remote: SocketAddr, session: Option<Session>) -> Line {
        Line {
            client: Arc::new(Client::new(remote, self.port, session)),
            door: self.clone(),
        }
    }
}

/// How a connection ended.
pub(super) type Ended = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

pub(super) type Answer = Response<Answered<Arrival>>;
/// The work of a request.
type Work = BoxFuture<'static, std::result::Result<Answer, Infallible>>;

/// A connection that requests come on.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) door: Arc<Door>,
    pub(super) client: Arc<Client>,
}

impl Line {
    /// Answers requests until the connection ends.
    pub(super) async fn answer<S>(self, stream: S, is_h2: bool) -> Ended
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = &self.gateway().limits;
        let mut wait = Wait::new(limits.head_within, false);
        let mut stream = Stall::new(stream, limits.write_stall_max);
        if is_h2 {
            return self.answer_rest(stream, BytesMut::new(), true).await;
        }
        match self.answer_plain(&mut stream, &mut wait).await? {
            Rest::Ended | Rest::Silent => Ok(()),
            Rest::Other(held) => self.answer_rest(stream, held, false).await,
        }
    }

    /// Answers all that is not for [`Line::answer_plain`]; what is held of it was read beforehand.
    async fn answer_rest<S>(self, stream: Stall<S>, held: BytesMut, is_h2: bool) -> Ended
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = Resumed::new(stream, held);
        // In boxes: few plain connections need them.
        match is_h2 {
            true => Box::pin(self.answer_h2(stream)).await,
            false => Box::pin(self.answer_other(stream)).await,
        }
    }

    /// Answers requests of HTTP/1.1 of any kind, and carries a tunnel.
    async fn answer_other<S>(self, stream: S) -> Ended
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (client, idle_max) = (self.client.clone(), self.gateway().limits.tunnel_idle_max);
        let cut = self.door.cut.clone();
        let (wire, gone) = Wire::new(stream, client.clone(), (idle_max, cut));
        self.answer_h1(wire).await?;
        if client.is_tunnel() {
            match client.take_ends() {
                Some(ends) => Box::pin(ends.carry()).await?,
                // A service of this process has it.
                None => drop(gone.await),
            }
        }
        Ok(())
    }

    pub(super) fn gateway(&self) -> &Gateway {
        &self.door.gateway
    }

    /// Answers what hyper reads.
    fn service(
        &self,
    ) -> impl Service<Request<Incoming>, Response = Answer, Error = Infallible, Future = Work> + use<>
    {
        let line = self.clone();
        service_fn(move |request: Request<Incoming>| -> Work {
            let line = line.clone();
            let request = request.map(Inbound::Coming);
            // In a box: hyper and the runtime move what they are given, and it is some kilobytes.
            Box::pin(async move { Ok(line.gateway().handle(request, &line.client).await) })
        })
    }

    /// Answers the requests of a connection of HTTP/1.1 until it ends or becomes a tunnel.
    async fn answer_h1<S>(self, stream: S) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = &self.gateway().limits;
        let mut stopping = self.door.stopping.clone();
        let service = self.service();
        let connection = http1::Builder::new()
            .timer(KeptTimer::default())
            .header_read_timeout(limits.head_within)
            .max_header_size(limits.head_bytes_max)
            .serve_connection(TokioIo::new(stream), service)
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

/// Counts an open connection for as long as it lives.
pub(super) struct Open {
    inner: Arc<Inner>,
    is_parked: bool,
}

impl Open {
    pub(super) fn new(gateway: &Gateway) -> Self {
        gateway.inner.connections.fetch_add(1, Ordering::Relaxed);
        gauge!("trunkline_gateway_connections").increment(1);
        Self {
            inner: gateway.inner.clone(),
            is_parked: false,
        }
    }

    /// Counts it among those that are parked.
    pub(super) fn park(&mut self) {
        self.is_parked = true;
        self.inner.parked.fetch_add(1, Ordering::Relaxed);
        gauge!("trunkline_gateway_connections_parked").increment(1);
    }

    pub(super) fn unpark(&mut self) {
        if std::mem::take(&mut self.is_parked) {
            self.inner.parked.fetch_sub(1, Ordering::Relaxed);
            gauge!("trunkline_gateway_connections_parked").decrement(1);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.unpark();
        self.inner.connections.fetch_sub(1, Ordering::Relaxed);
        gauge!("trunkline_gateway_connections").decrement(1);
    }
}
