//! What a process shows and whom it trusts, read from files.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use trunkline_core::{Env, Error, ErrorKind, Result, Timestamp};

use super::certificates::CertificatesConfig;
use super::identity::{Identity, parse};

/// The largest file.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// The most roots, and the most certificates of a chain.
const CERTIFICATES_MAX: usize = 32;

/// The bytes of the files, to tell whether they have changed.
#[derive(PartialEq, Eq)]
pub(super) struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    roots: Vec<u8>,
}

/// What is shown and who is trusted.
pub(super) struct Material {
    pub(super) identity: Identity,
    pub(super) expires_at: Timestamp,
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) roots: RootCertStore,
    pub(super) clients: Arc<dyn ClientCertVerifier>,
}

impl Files {
    pub(super) fn read(config: &CertificatesConfig) -> Result<Self> {
        private(&config.key)?;
        Ok(Self {
            cert: bytes(&config.cert)?,
            key: bytes(&config.key)?,
            roots: bytes(&config.roots)?,
        })
    }

    /// What the files hold, if it fits together and is valid now.
    pub(super) fn parse(
        &self,
        config: &CertificatesConfig,
        provider: &Arc<CryptoProvider>,
        env: &Env,
    ) -> Result<Material> {
        let in_cert = |error: Error| error.with("file", config.cert.display());
        let chain = certificates(&self.cert).map_err(in_cert)?;
        let own = chain
            .first()
            .ok_or_else(|| in_cert(bad("no certificate")))?;
        let identity = Identity::of(own).map_err(in_cert)?;
        if *identity.trust_domain() != *config.trust_domain {
            return Err(in_cert(bad("the certificate is of another trust domain"))
                .with("expected", &config.trust_domain)
                .with("found", identity.trust_domain()));
        }
        let expires_at = expires_at(own).map_err(in_cert)?;
        let roots =
            roots(&self.roots).map_err(|error| error.with("file", config.roots.display()))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| bad("expected a private key in PEM").with("file", config.key.display()))?;
        let now = unix_time(env);
        let rest = chain.get(1..).unwrap_or_default();
        let algorithms = provider.signature_verification_algorithms.all;
        ParsedCertificate::try_from(own)
            .and_then(|own| {
                verify_server_cert_signed_by_trust_anchor(&own, &roots, rest, now, algorithms)
            })
            .map_err(|error| {
                in_cert(bad("none of the roots vouches for the certificate now").with_source(error))
            })?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
            let text = "the private key is not the certificate's";
            bad(text)
                .with("file", config.key.display())
                .with_source(error)
        })?;
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone())
                .build()
                .map_err(|error| bad("the roots can't verify clients").with_source(error))?;
        Ok(Material {
            identity,
            expires_at,
            certified: Arc::new(certified),
            roots,
            clients,
        })
    }
}

pub(super) fn unix_time(env: &Env) -> UnixTime {
    let seconds = u64::try_from(env.now().as_second()).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        if found.len() == CERTIFICATES_MAX {
            return Err(bad("expected at most 32 certificates in a file"));
        }
        found.push(certificate.map_err(|_| bad("expected certificates in PEM"))?);
    }
    if found.is_empty() {
        return Err(bad("expected a certificate in PEM"));
    }
    Ok(found)
}

pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in certificates(pem)? {
        roots
            .add(root)
            .map_err(|error| bad("a root can't be used").with_source(error))?;
    }
    Ok(roots)
}

pub(super) fn expires_at(certificate: &CertificateDer<'_>) -> Result<Timestamp> {
    let seconds = parse(certificate)?.validity().not_after.timestamp();
    Timestamp::from_second(seconds).map_err(|_| bad("the certificate's end is out of range"))
}

pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| {
        Error::unavailable(
            "certificate_unreadable",
            "a file of the certificates can't be read",
        )
        .with("file", path.display())
        .with_source(error)
    };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(bad("expected a file of at most 256 KiB").with("file", path.display()));
    }
    Ok(bytes)
}

/// A private key that others may read is none.
fn private(path: &Path) -> Result<()> {
    let Ok(meta) = fs::metadata(path) else {
        // Reading it says why.
        return Ok(());
    };
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "private_key_exposed",
            "expected a key file that its owner alone may read (chmod 600)",
        )
        .with("file", path.display())
        .with("mode", format!("{mode:03o}")));
    }
    Ok(())
}

pub(super) fn bad(message: &'static str) -> Error {
    Error::invalid("certificate_invalid", message)
}
