//! TLS on the way out: the service at the other end has to have the name that is called.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trunkline_core::{Error, Result, Retry, report};

use super::dial::{Asks, Dial, Dialled, Stream};
use super::line::Verdict;
use super::wire::{PROTOCOL_REFUSED, WireTls};
use super::{CONNECT_WITHIN, Goal, Nowhere, tcp, unreached};
use crate::server::Peer;

/// The protocols that are agreed on.
pub(crate) const H2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// Gives the configuration by which a caller connects to a service, both by their names.
type Configs = dyn Fn(&str, &str) -> Result<Arc<ClientConfig>> + Send + Sync;

/// How connections to `https://` addresses are made. Cheap to clone.
///
/// # Guarantees
/// A configuration is asked for at each new connection; those that are open go on. Two callers share no connection:
/// each shows its own certificate.
#[derive(Clone)]
pub struct TlsClient(Arc<Configs>);

impl TlsClient {
    /// Connections by the configuration that `configs` gives for a caller and the service that it calls. The verifier of
    /// that configuration has to hold the other end to the service's name, as those of `trunkline_security` do: a request
    /// is sent to whoever passes it, and the host in the address does not count.
    pub fn new(
        configs: impl Fn(&str, &str) -> Result<Arc<ClientConfig>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(configs))
    }

    async fn connect(
        &self,
        stream: TcpStream,
        goal: &Goal,
        asks: Asks,
    ) -> Result<(Judged, Verdict)> {
        let wants_h2 = asks != Asks::Http1;
        let mut config = ClientConfig::clone(&*(self.0)(&goal.caller, &goal.service)?);
        config.alpn_protocols = vec![if wants_h2 { H2 } else { HTTP_1 }.to_vec()];
        let host = server_name(goal.authority.host())?;
        let connector = TlsConnector::from(Arc::new(config));
        let by = Instant::now() + CONNECT_WITHIN;
        let (judged, verdict, is_h2) = shake(&connector, host, stream, by).await?;
        if is_h2 != wants_h2 {
            let text = "expected the service to speak HTTP/2 over TLS (ALPN h2), and HTTP/1.1 for WebSocket";
            return Err(Error::unavailable(PROTOCOL_REFUSED, text).with_retry(Retry::Permanent));
        }
        Ok((judged, verdict))
    }
}

/// Connects to a service of the platform, which has to prove its name.
pub(super) struct ToService {
    goal: Goal,
    tls: Arc<ArcSwapOption<TlsClient>>,
}

impl ToService {
    pub(super) fn new(goal: Goal, tls: Arc<ArcSwapOption<TlsClient>>) -> Self {
        Self { goal, tls }
    }
}

impl Dial for ToService {
    fn dial(&self, asks: Asks) -> BoxFuture<'_, Result<Dialled>> {
        Box::pin(async move {
            let Some(tls) = self.tls.load_full() else {
                return Nowhere.dial(asks).await;
            };
            let stream = tcp(&self.goal.authority, 443).await?;
            let (judged, verdict) = tls.connect(stream, &self.goal, asks).await?;
            Ok(Dialled {
                stream: Stream::Secured(Box::new(judged)),
                peer: None,
                is_h2: asks != Asks::Http1,
                verdict,
            })
        })
    }
}

/// TLS to one place: the same for each connection, whichever protocols it is asked for.
pub(super) struct Secured {
    name: ServerName<'static>,
    http1: TlsConnector,
    http2: TlsConnector,
    either: TlsConnector,
}

impl Secured {
    pub(super) fn new(tls: &WireTls) -> Result<Self> {
        let asking = |protocols: &[&[u8]]| {
            let mut config = ClientConfig::clone(&tls.config);
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self {
            name: server_name(&tls.name)?,
            http1: asking(&[HTTP_1]),
            http2: asking(&[H2]),
            either: asking(&[H2, HTTP_1]),
        })
    }

    /// What was connected, and whether HTTP/2 was agreed on.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        asks: Asks,
        by: Instant,
    ) -> Result<(Judged, Verdict, bool)> {
        let connector = match asks {
            Asks::Http1 => &self.http1,
            Asks::Http2 => &self.http2,
            Asks::Either => &self.either,
        };
        let (judged, verdict, is_h2) = shake(connector, self.name.clone(), stream, by).await?;
        // Who agrees on nothing speaks HTTP/1.1.
        if is_h2 == (asks == Asks::Http1) && asks != Asks::Either {
            let text = "the service does not speak the protocol that it is asked for";
            return Err(Error::unavailable(PROTOCOL_REFUSED, text));
        }
        Ok((judged, verdict, is_h2))
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>> {
    let name = host.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(name).map_err(|error| {
        Error::invalid("address_invalid", "expected a host's name or address")
            .with("address", host)
            .with_source(error)
    })
}

async fn shake(
    connector: &TlsConnector,
    name: ServerName<'static>,
    stream: TcpStream,
    by: Instant,
) -> Result<(Judged, Verdict, bool)> {
    let shaken = timeout_at(by, connector.connect(name, stream)).await;
    let shaken = shaken.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
    let stream = shaken.map_err(|error| untrusted(unreached(true, error)))?;
    let (_, session) = stream.get_ref();
    let is_h2 = session.alpn_protocol() == Some(H2);
    let verdict = Verdict::default();
    let judged = Judged {
        inner: stream,
        verdict: verdict.clone(),
    };
    Ok((judged, verdict, is_h2))
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

/// The name in the first certificate of a chain that was verified. One with several names has none: which of them
/// counted would be anybody's guess.
pub(crate) fn peer_of(chain: Option<&[CertificateDer<'_>]>) -> Option<Peer> {
    let certificate = webpki::EndEntityCert::try_from(chain?.first()?).ok()?;
    let mut names = certificate.valid_uri_names().filter_map(Peer::new);
    let name = names.next()?;
    names.next().is_none().then_some(name)
}

/// The error of a handshake that failed. What certificates have to do with it will not pass by itself.
fn untrusted(error: Error) -> Error {
    let mut cause = std::error::Error::source(&error);
    while let Some(why) = cause {
        let why_io = why.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let why_tls = why_io.and_then(|why| why.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(fault)) = why_tls {
            if is_name(fault) {
                let text = "the certificate at the service's address is another's";
                return Error::unavailable("certificate_of_another", text)
                    .with_retry(Retry::Permanent)
                    .with("why", report(why));
            }
            let text = "the service's certificate is not trusted";
            return Error::unavailable("certificate_untrusted", text)
                .with_retry(Retry::Permanent)
                .with("why", report(why));
        }
        if let Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) = why_tls
        {
            let text = "the service does not speak the protocol that it is asked for";
            return Error::unavailable(PROTOCOL_REFUSED, text);
        }
        if let Some(rustls::Error::AlertReceived(_)) = why_tls {
            let text = "the service refused this process's certificate";
            return Error::unavailable("certificate_refused", text)
                .with_retry(Retry::Permanent)
                .with("why", report(why));
        }
        cause = why.source();
    }
    error
}

/// Whether a certificate was refused for its name alone. What a verifier says in its own words is that.
fn is_name(fault: &CertificateError) -> bool {
    matches!(
        fault,
        CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. }
            | CertificateError::Other(_)
    )
}

/// A connection that remembers why the other end ended it: with TLS 1.3 it says so only after the handshake.
pub(super) struct Judged {
    inner: TlsStream<TcpStream>,
    verdict: Verdict,
}

impl AsyncRead for Judged {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_read(cx, into);
        if let Poll::Ready(Err(error)) = &poll
            && let Some(why) = error.get_ref()
            && let Some(why @ rustls::Error::AlertReceived(_)) = why.downcast_ref()
        {
            let _first = self.verdict.0.set(why.to_string());
        }
        poll
    }
}

impl AsyncWrite for Judged {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
