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
    if !key.is_verified {
        return Ok(Arc::new(Anybody(provider.clone())));
    }
    let roots = match key.authorities.is_empty() {
        true => system().ok_or("expected authorities: the system has none")?,
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
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| error.to_string())?;
    Ok(match key.depth {
        None => verifier,
        Some(depth) => Arc::new(Shallow { verifier, depth }),
    })
}

/// The authorities of the machine, which are read once.
fn system() -> Option<Arc<RootCertStore>> {
    static KNOWN: OnceLock<Option<Arc<RootCertStore>>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let (count, _) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        (count > 0).then(|| Arc::new(roots))
    });
    known.clone()
}

/// Trusts a chain that is not too long.
#[derive(Debug)]
struct Shallow {
    verifier: Arc<WebPkiServerVerifier>,
    depth: u8,
}

impl ServerCertVerifier for Shallow {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if intermediates.len() > usize::from(self.depth) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        self.verifier
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Trusts whoever is there, as `tls_verify: false` says. That the other end has its certificate's key is still asked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
