//! TLS on the way out: the service at the other end has to have the name that is called.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use http::uri::Authority;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trunkline_core::{ByteString, Error, Result, Retry, report};

use super::in_time;
use super::line::Verdict;
use crate::server::Peer;

/// The protocol that is agreed on.
pub(crate) const H2: &[u8] = b"h2";

/// How connections to `https://` addresses are made. Cheap to clone.
///
/// # Guarantees
/// A request is sent only to a service whose certificate the configuration trusts and names as
/// `spiffe://<trust domain>/<service>`. A configuration that is stored anew is that of the next connection; those that
/// are open go on.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ArcSwap<ClientConfig>>,
    trust_domain: ByteString,
}

impl TlsClient {
    /// Connections with this configuration, to services of this trust domain. Its verifier has to leave names alone, as
    /// [`ChainVerifier`] does: services are known by the URIs in their certificates, not by the hosts that they are on.
    pub fn new(config: Arc<ArcSwap<ClientConfig>>, trust_domain: impl Into<ByteString>) -> Self {
        Self {
            config,
            trust_domain: trust_domain.into(),
        }
    }

    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        (authority, service): (&Authority, &ByteString),
    ) -> Result<(Judged, Verdict)> {
        let mut config = ClientConfig::clone(&self.config.load());
        config.alpn_protocols = vec![H2.to_vec()];
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let host = ServerName::try_from(host).map_err(|error| {
            Error::invalid("address_invalid", "expected a host's name or address")
                .with("address", authority)
                .with_source(error)
        })?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = in_time(connector.connect(host, stream)).await;
        let stream = stream.map_err(untrusted)?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(H2) {
            let text = "expected the service to speak HTTP/2 over TLS (ALPN h2)";
            return Err(Error::unavailable("protocol_refused", text).with_retry(Retry::Permanent));
        }
        self.check(session.peer_certificates(), service)?;
        let verdict = Verdict::default();
        let judged = Judged {
            inner: stream,
            verdict: verdict.clone(),
        };
        Ok((judged, verdict))
    }

    /// Checks that a certificate names the service that was called.
    fn check(&self, chain: Option<&[CertificateDer<'_>]>, service: &ByteString) -> Result<()> {
        let found = peer_of(chain);
        let fits = |peer: &Peer| {
            peer.trust_domain() == &*self.trust_domain && peer.service() == &**service
        };
        if found.as_ref().is_some_and(fits) {
            return Ok(());
        }
        let found = found.as_ref().map_or("none", |peer| &**peer.name());
        let text = "the certificate at the service's address is another's";
        let expected = format!("spiffe://{}/{service}", self.trust_domain);
        Err(Error::unavailable("certificate_of_another", text)
            .with_retry(Retry::Permanent)
            .with("expected", expected)
            .with("found", found))
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("trust_domain", &self.trust_domain)
            .finish_non_exhaustive()
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
        if let Some(rustls::Error::InvalidCertificate(_)) = why_tls {
            let text = "the service's certificate is not trusted";
            return Error::unavailable("certificate_untrusted", text)
                .with_retry(Retry::Permanent)
                .with("why", report(why));
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

/// Verifies that a server's certificate is of a trusted authority and in its time, and leaves its name to
/// [`TlsClient`], which knows the service that is called.
#[derive(Debug)]
pub struct ChainVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ChainVerifier {
    /// Trusts whatever these roots have signed.
    pub fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Self {
        Self { roots, provider }
    }
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, between, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
