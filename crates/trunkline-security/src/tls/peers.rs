//! Who is at the other end: decided anew at every handshake, by what is loaded then.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError,
    SignatureScheme,
};
use trunkline_core::{ByteString, Error, ErrorKind};

use super::identity::Identity;
use super::material::Material;
use crate::Audit;

/// A certificate that the roots vouch for, of somebody else.
#[derive(Debug, thiserror::Error)]
#[error("expected the name {expected}, found {found}")]
struct AnotherName {
    expected: String,
    found: String,
}

/// Shows what is loaded, and holds peers to it.
pub(super) struct Peers {
    pub(super) live: Arc<ArcSwap<Material>>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) trust_domain: ByteString,
    /// The service that is called; whoever accepts takes any of the trust domain.
    pub(super) expected: Option<ByteString>,
    pub(super) audit: Option<Audit>,
}

impl Peers {
    /// Whether a certificate that the roots vouch for is of whom it should be.
    fn named(&self, certificate: &CertificateDer<'_>) -> Result<(), TlsError> {
        let found = Identity::of(certificate).ok();
        let is_expected = |name: &Identity| {
            let expected = self.expected.as_ref();
            name.trust_domain() == &self.trust_domain
                && expected.is_none_or(|expected| name.service() == expected)
        };
        if found.as_ref().is_some_and(is_expected) {
            return Ok(());
        }
        let service = self.expected.as_deref().unwrap_or("<any service>");
        let another = AnotherName {
            expected: format!("spiffe://{}/{service}", self.trust_domain),
            found: found.map_or_else(|| "no name of ours".to_owned(), |name| name.to_string()),
        };
        Err(CertificateError::Other(OtherError(Arc::new(another))).into())
    }

    /// Notes a refusal. What a refused certificate calls itself is a claim, and is noted as one.
    fn noted<T>(
        &self,
        certificate: &CertificateDer<'_>,
        verified: Result<T, TlsError>,
    ) -> Result<T, TlsError> {
        if let (Err(error), Some(audit)) = (&verified, &self.audit) {
            let claim = Identity::of(certificate)
                .map_or_else(|_| "no name of ours".to_owned(), |name| name.to_string());
            let own = self.live.load().identity.service().clone();
            let (action, object) = match &self.expected {
                Some(expected) => ("tls.connect", expected.clone()),
                None => ("tls.accept", own),
            };
            let why = Error::new(
                ErrorKind::Unauthenticated,
                "certificate_refused",
                "the peer's certificate was refused",
            )
            .with("claims_to_be", claim)
            .with_source(error.clone());
            audit.refused("unknown", action, &object, &why);
        }
        verified
    }
}

impl ServerCertVerifier for Peers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let material = self.live.load();
        let algorithms = self.provider.signature_verification_algorithms.all;
        let verified = ParsedCertificate::try_from(end_entity)
            .and_then(|parsed| {
                let roots = &material.roots;
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    roots,
                    intermediates,
                    now,
                    algorithms,
                )
            })
            .and_then(|()| self.named(end_entity))
            .map(|()| ServerCertVerified::assertion());
        self.noted(end_entity, verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ClientCertVerifier for Peers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Which roots there are changes while this is shared; clients have one certificate to show anyway.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let clients = self.live.load().clients.clone();
        let verified = clients
            .verify_client_cert(end_entity, intermediates, now)
            .and_then(|verified| self.named(end_entity).map(|()| verified));
        self.noted(end_entity, verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

impl ResolvesServerCert for Peers {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.live.load().certified.clone())
    }
}

impl ResolvesClientCert for Peers {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.live.load().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("trust_domain", &self.trust_domain)
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}
