//! TLS to services: whom to trust, and what to show.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// What a configuration is made of.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct TlsKey {
    pub(super) is_verified: bool,
    pub(super) depth: Option<u8>,
    /// PEM; the system's, if there is none.
    pub(super) authorities: Vec<String>,
    /// A certificate and its key, both PEM.
    pub(super) own: Option<(String, String)>,
}

/// A configuration for connections to services.
///
/// # Errors
/// The field that is wrong, and what was expected.
pub(super) fn config(key: &TlsKey) -> Result<ClientConfig, (&'static str, String)> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(key, &provider).map_err(|why| ("ca_certificates", why))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ("tls_verify", error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some((certificate, private)) = &key.own else {
        return Ok(builder.with_no_client_auth());
    };
    let wrong = |why: String| ("client_certificate", why);
    let chain = certificates(certificate).map_err(wrong)?;
    let private = PrivateKeyDer::from_pem_slice(private.as_bytes())
        .map_err(|_| wrong("expected its private key as PEM".to_owned()))?;
    let shown = builder.with_client_auth_cert(chain, private);
    shown.map_err(|error| wrong(format!("expected a certificate and its own key: {error}")))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.unwrap_or_default();
    match all.is_empty() {
        true => Err("expected certificates as PEM".to_owned()),
        false => Ok(all),
    }
}

fn verifier(
    key: &TlsKey,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let mut trust = Trust {
        is_verified: key.is_verified,
        depth: key.depth.map_or(usize::MAX, usize::from),
        verifier: None,
        provider: provider.clone(),
    };
    let roots = match key.authorities.is_empty() {
        true => system(),
        false => {
            let mut roots = RootCertStore::empty();
            for pem in &key.authorities {
                for certificate in certificates(pem)? {
                    let added = roots.add(certificate);
                    added.map_err(|error| format!("expected an authority: {error}"))?;
                }
            }
            Arc::new(roots)
        }
    };
    if key.is_verified && !roots.is_empty() {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
        trust.verifier = Some(verifier.build().map_err(|error| error.to_string())?);
    }
    Ok(Arc::new(trust))
}

/// The authorities of the machine, which are read once.
fn system() -> Arc<RootCertStore> {
    static KNOWN: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (count, _) = roots.add_parsable_certificates(found.certs);
        if count == 0 {
            tracing::warn!(service = "gateway", errors = ?found.errors, "the system trusts no authorities");
        }
        Arc::new(roots)
    });
    known.clone()
}

/// Whom connections are trusted with: whoever an authority vouches for by a chain that is not too long, or, as
/// `tls_verify: false` says, whoever is there. That the other end has its certificate's key is asked in either case.
#[derive(Debug)]
struct Trust {
    is_verified: bool,
    depth: usize,
    /// Nothing where there is no authority, and so nobody to be trusted.
    verifier: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.is_verified {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.verifier {
            Some(verifier) if intermediates.len() <= self.depth => verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            _ => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
