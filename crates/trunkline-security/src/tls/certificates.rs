//! A process's certificate and the roots that it trusts, replaced while it runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use trunkline_core::{ByteString, Env, Error, ErrorKind, Result, Timestamp, report};

use super::identity::Identity;
use super::material::{Files, Material, unix_time};
use super::peers::Peers;
use crate::Audit;

/// Where a process's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificatesConfig {
    /// The platform's name in certificates.
    pub trust_domain: ByteString,
    /// The certificate and those between it and the root, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM, for its owner alone (0600).
    pub key: PathBuf,
    /// The roots that are trusted, in PEM: at a change of roots the old and the new.
    pub roots: PathBuf,
    /// How often the files are looked at: every 5 s.
    pub poll_every: Duration,
}

impl CertificatesConfig {
    /// The files that `trunkline certs` writes for a service: `cert.pem`, `key.pem` and `ca.pem` in `folder`.
    pub fn in_folder(folder: impl Into<PathBuf>, trust_domain: impl Into<ByteString>) -> Self {
        let folder = folder.into();
        Self {
            trust_domain: trust_domain.into(),
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            roots: folder.join("ca.pem"),
            poll_every: Duration::from_secs(5),
        }
    }
}

/// What a look at the files came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// They are as they were.
    Unchanged,
    /// What they hold is in use from the next handshake on.
    Swapped,
}

/// A process's certificate and the roots that it trusts. Cheap to clone.
///
/// # Guarantees
/// The configurations that it gives decide at every handshake by what is loaded then, so connections are never
/// dropped for a change and none has to be made anew. Files that don't fit together, that are expired or that
/// nobody vouches for are told in the log once and change nothing. TLS 1.3 alone; both ends show certificates; no
/// session is resumed, so nobody gets in by a certificate that is trusted no longer.
///
/// A peer is known by the URI in its certificate (`spiffe://<trust domain>/<service>`), not by its DNS name.
/// Revocation lists are not read: leaves are short-lived instead.
#[derive(Clone)]
pub struct Certificates {
    inner: Arc<Inner>,
    audit: Option<Audit>,
}

struct Inner {
    config: CertificatesConfig,
    provider: Arc<CryptoProvider>,
    env: Env,
    live: Arc<ArcSwap<Material>>,
    /// What was read last, good or not.
    seen: Mutex<Files>,
    /// Why what was read last is not in use.
    broken: Mutex<Option<String>>,
}

impl Certificates {
    /// Reads the files. Refused peers are noted in `audit`.
    ///
    /// # Errors
    /// `Unavailable` for a file that can't be read; `PermissionDenied` for a private key that others may read;
    /// `InvalidInput` naming the file that is wrong.
    pub fn load(config: CertificatesConfig, audit: Option<Audit>, env: Env) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let files = Files::read(&config)?;
        let material = files.parse(&config, &provider, &env)?;
        let inner = Arc::new(Inner {
            config,
            provider,
            env,
            live: Arc::new(ArcSwap::from_pointee(material)),
            seen: Mutex::new(files),
            broken: Mutex::new(None),
        });
        Ok(Self { inner, audit })
    }

    /// The same, for configurations that are made from now on with refused peers noted in `audit`.
    #[must_use]
    pub fn noted_in(self, audit: Audit) -> Self {
        Self {
            audit: Some(audit),
            ..self
        }
    }

    /// Who this process is.
    pub fn identity(&self) -> Identity {
        self.inner.live.load().identity.clone()
    }

    /// Notes a client with which no connection came about because it has shown no certificate. Of one that it has shown
    /// the verifier has noted more already.
    pub fn note_failure(&self, why: &rustls::Error) {
        if let (rustls::Error::NoCertificatesPresented, Some(audit)) = (why, &self.audit) {
            let error = Error::new(
                ErrorKind::Unauthenticated,
                "certificate_missing",
                "a client has shown no certificate",
            );
            audit.refused("unknown", "tls.accept", self.identity().service(), &error);
        }
    }

    /// When the certificate ends.
    pub fn expires_at(&self) -> Timestamp {
        self.inner.live.load().expires_at
    }

    /// Looks at the files, and takes what they hold if it is new and good.
    ///
    /// # Errors
    /// As [`Certificates::load`]: what was in use stays in use.
    pub fn reload(&self) -> Result<Reloaded> {
        let inner = &*self.inner;
        let mut seen = inner.seen.lock();
        let files = Files::read(&inner.config)?;
        if files == *seen {
            return Ok(Reloaded::Unchanged);
        }
        let parsed = files.parse(&inner.config, &inner.provider, &inner.env);
        *seen = files;
        *inner.broken.lock() = parsed.as_ref().err().map(|error| report(error).to_string());
        inner.live.store(Arc::new(parsed?));
        Ok(Reloaded::Swapped)
    }

    /// Reloads until `stop`, every `poll_every`.
    pub async fn watch(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut told = None;
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = tokio::time::sleep(self.inner.config.poll_every) => {}
            }
            let said = match self.reload() {
                Ok(Reloaded::Unchanged) => continue,
                Ok(Reloaded::Swapped) => {
                    tracing::info!(identity = %self.identity(), until = %self.expires_at(), "certificates reloaded");
                    None
                }
                Err(error) => Some(report(&error).to_string()),
            };
            if let (Some(error), true) = (&said, said != told) {
                tracing::error!(
                    error,
                    "new certificates are not taken; the old ones stay in use"
                );
            }
            told = said;
        }
    }

    /// Whether all is well: for health checks.
    ///
    /// # Errors
    /// `Unavailable` when the certificate in use has ended, or the files hold something that can't be used.
    pub fn check(&self) -> Result<()> {
        let ended = self.expires_at();
        if ended <= self.inner.env.now() {
            let text = "the certificate has ended";
            return Err(Error::unavailable("certificate_expired", text).with("at", ended));
        }
        match &*self.inner.broken.lock() {
            Some(why) => Err(Error::unavailable(
                "certificate_broken",
                "the new certificates can't be used; the old ones still are",
            )
            .with("why", why)),
            None => Ok(()),
        }
    }

    /// For whoever accepts connections: clients have to show a certificate of the trust domain. `alpn` are the
    /// protocols that are offered.
    ///
    /// # Errors
    /// `Internal` where the crypto provider can't do TLS 1.3.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>> {
        let peers = self.peers(None);
        let mut config =
            ServerConfig::builder_with_details(self.inner.provider.clone(), self.clock())
                .with_protocol_versions(&[&TLS13])
                .map_err(no_tls)?
                .with_client_cert_verifier(peers.clone())
                .with_cert_resolver(peers);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// For whoever connects to `target`: the other end has to be that service, whatever name it was found by.
    ///
    /// # Errors
    /// As [`Certificates::server_config`].
    pub fn client_config(&self, target: &str, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>> {
        let peers = self.peers(Some(target.into()));
        let mut config =
            ClientConfig::builder_with_details(self.inner.provider.clone(), self.clock())
                .with_protocol_versions(&[&TLS13])
                .map_err(no_tls)?
                // Not less checked, but by another name: see `Peers`.
                .dangerous()
                .with_custom_certificate_verifier(peers.clone())
                .with_client_cert_resolver(peers);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    fn peers(&self, expected: Option<ByteString>) -> Arc<Peers> {
        Arc::new(Peers {
            live: self.inner.live.clone(),
            provider: self.inner.provider.clone(),
            trust_domain: self.inner.config.trust_domain.clone(),
            expected,
            audit: self.audit.clone(),
        })
    }

    fn clock(&self) -> Arc<dyn TimeProvider> {
        Arc::new(EnvClock(self.inner.env.clone()))
    }
}

fn no_tls(error: rustls::Error) -> Error {
    Error::internal("the crypto provider can't do TLS 1.3").with_source(error)
}

/// The environment's clock, for rustls.
#[derive(Debug)]
struct EnvClock(Env);

impl TimeProvider for EnvClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(&self.0))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("identity", &self.identity().to_string())
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
