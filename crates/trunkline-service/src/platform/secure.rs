//! Who the services of this process are to others, and who may call them.

mod door;
mod keys;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use parking_lot::RwLock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunkline_call::layer::{Identity, Outgoing};
use trunkline_call::server::TlsServer;
use trunkline_call::{Network, TlsClient};
use trunkline_core::{ByteString, Env, Error, ErrorKind, Result};
use trunkline_security::{
    Audit, Certificates, CertificatesConfig, Guard, Permissions, RemoteKeys, SERVICE_TOKEN,
    ServiceTokens, TokenKeys, TokenKeysPolicy,
};
use trunkline_telemetry::{Check, Health};

use super::Platform;
use super::development::Development;
use crate::config::place::{CONSOLE, GATEWAY};
use crate::{Config, Service};

pub(super) use door::{Gate, for_console};
pub(super) use keys::{JWKS_PATH, publish};

/// What the services of this process prove and check.
#[derive(Clone)]
pub(super) struct Secure(Arc<Inner>);

struct Inner {
    permissions: Permissions,
    /// Every service of the platform, wherever it runs, and the gateway: each signs its own tokens.
    issuers: BTreeSet<ByteString>,
    /// The certificate of each name that runs here; without `[tls]` none.
    certificates: RwLock<HashMap<ByteString, Certificates>>,
    /// The keys of each name that signs here; without certificates and tokens none.
    keys: HashMap<ByteString, TokenKeys>,
    is_secured: bool,
    signs: bool,
    env: Env,
}

impl Secure {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// What [`Certificates::load`] and [`TokenKeys::open`] say, with the service and the section.
    pub(super) fn open(
        config: &Arc<Config>,
        platform: &Platform,
    ) -> Result<(Self, Option<Development>)> {
        let Platform {
            name: platform_name,
            services,
            env,
            ..
        } = platform;
        let here = names_here(config, services);
        let names = services.iter().map(|service| service.name.clone());
        let mut inner = Inner {
            permissions: platform.permissions(),
            issuers: names.chain([ByteString::from_static(GATEWAY)]).collect(),
            certificates: RwLock::default(),
            keys: HashMap::new(),
            is_secured: config.tls.is_some(),
            signs: config.signs(),
            env: env.clone(),
        };
        let mut development = None;
        if let Some(tls) = &config.tls {
            let made = Development {
                config: config.clone(),
                platform: platform_name.clone(),
                names: here.clone(),
                env: env.clone(),
            };
            made.prepare()?;
            development = tls.development.then_some(made);
            for name in &here {
                let files = config.certificates_of(tls, platform_name, name);
                let own = own_certificate(files, name, env)?;
                inner.certificates.get_mut().insert(name.clone(), own);
            }
        }
        if inner.signs {
            for name in here.iter().filter(|name| **name != *CONSOLE) {
                let policy = TokenKeysPolicy::default();
                let opened = TokenKeys::open(config.keys_of(name), policy, env.clone());
                let opened =
                    opened.map_err(|error| error.with("section", "identity").with("service", name));
                inner.keys.insert(name.clone(), opened?);
            }
        }
        Ok((Self(Arc::new(inner)), development))
    }

    /// Has calls to other processes made by certificate and token, and both kept up until `stop`.
    pub(super) fn wire(&self, network: &Network, into: &mut JoinSet<()>, stop: &CancellationToken) {
        if self.0.is_secured {
            let own = self.0.clone();
            network.set_tls(TlsClient::new(move |caller, target| {
                let certificates = own.certificates.read();
                let own = certificates.get(caller).ok_or_else(|| nobody(caller))?;
                own.client_config(target, &[])
            }));
        }
        if self.0.signs {
            network.set_identity(Arc::new(Badges(self.badges())));
        }
        for certificates in self.0.certificates.read().values() {
            let (certificates, stop) = (certificates.clone(), stop.clone());
            into.spawn(async move { certificates.watch(stop.cancelled()).await });
        }
        for keys in self.0.keys.values() {
            let (keys, stop) = (keys.clone(), stop.clone());
            into.spawn(async move { keys.keep(stop.cancelled()).await });
        }
    }

    /// Who stands at the door of a service. Whoever is refused there, or at its connections, is noted in its audit log.
    pub(super) fn gate(
        &self,
        service: &ByteString,
        audit: &Audit,
        network: &Network,
    ) -> Result<Gate> {
        let inner = &*self.0;
        if let Some(own) = inner.certificates.write().get_mut(service) {
            *own = own.clone().noted_in(audit.clone());
        }
        let guard = Guard::new(service.clone(), audit.clone());
        let mut guard = guard.permissions(inner.permissions.clone());
        if inner.is_secured {
            guard = guard.needs_certificate();
        }
        let others = inner.issuers.iter().filter(|_| inner.signs);
        for issuer in others {
            guard = match inner.keys.get(issuer) {
                Some(keys) => guard.trust(issuer.clone(), keys.clone())?,
                None => {
                    let published = keys::Published::of(network, service, issuer);
                    let policy = keys::policy();
                    let keys = RemoteKeys::new(Arc::new(published), policy, inner.env.clone());
                    guard.trust_published(issuer.clone(), keys, subjects(issuer))?
                }
            };
        }
        Ok(Gate::new(guard, inner.signs))
    }

    /// How a service's own address takes connections; in the clear without `[tls]`.
    pub(super) fn tls(&self, service: &ByteString) -> Result<Option<TlsServer>> {
        if !self.0.is_secured {
            return Ok(None);
        }
        let certificates = self.0.certificates.read();
        let own = certificates.get(service).ok_or_else(|| nobody(service))?;
        let tls = TlsServer::new(&*own.server_config(&[])?);
        let own = own.clone();
        Ok(Some(tls.on_refusal(move |why| own.note_failure(why))))
    }

    /// The keys that sign a name's tokens, if it signs any here.
    pub(super) fn keys(&self, name: &str) -> Option<&TokenKeys> {
        self.0.keys.get(name)
    }

    /// What a name shows others.
    pub(super) fn certificates(&self, name: &str) -> Option<Certificates> {
        self.0.certificates.read().get(name).cloned()
    }

    /// Has a service's health say how its certificate is.
    pub(super) fn watch_over(&self, name: &str, health: &Health) {
        if let Some(own) = self.certificates(name) {
            health.register("certificate", Arc::new(CertificateCheck(own)));
        }
    }

    /// Whether connections from other processes have certificates.
    pub(super) fn is_secured(&self) -> bool {
        self.0.is_secured
    }

    /// Whether the console of another process is known by its token.
    pub(super) fn signs(&self) -> bool {
        self.0.signs
    }

    fn badges(&self) -> HashMap<ByteString, ServiceTokens> {
        let badge = |issuer: &ByteString, subject: ByteString, keys: &TokenKeys| {
            let permissions = self.0.permissions.clone();
            let tokens =
                ServiceTokens::new(issuer.clone(), subject.clone(), keys.clone(), permissions);
            (subject, tokens)
        };
        let keys = self.0.keys.iter();
        keys.flat_map(|(issuer, keys)| {
            let subjects = subjects(issuer).into_iter();
            subjects.map(move |subject| badge(issuer, subject, keys))
        })
        .collect()
    }
}

/// For whom an issuer speaks: itself, and the gateway for the console, which runs beside it.
fn subjects(issuer: &ByteString) -> Vec<ByteString> {
    let console = (**issuer == *GATEWAY).then(|| ByteString::from_static(CONSOLE));
    [issuer.clone()].into_iter().chain(console).collect()
}

/// The names by which this process is known to others.
pub(super) fn names_here(config: &Config, services: &[Service]) -> BTreeSet<ByteString> {
    let here = services.iter().map(|service| service.name.clone());
    let mut here: BTreeSet<_> = here.filter(|name| config.runs(name)).collect();
    if config.runs(GATEWAY) {
        here.extend([GATEWAY, CONSOLE].map(ByteString::from_static));
    }
    here
}

fn own_certificate(
    files: CertificatesConfig,
    name: &ByteString,
    env: &Env,
) -> Result<Certificates> {
    let hint = "trunkline certs issue, or `development = true`";
    let named = |error: Error| {
        error
            .with("section", "tls")
            .with("service", name)
            .with("made by", hint)
    };
    let loaded = Certificates::load(files, None, env.clone()).map_err(named)?;
    let found = loaded.identity();
    if found.service() == name {
        return Ok(loaded);
    }
    let text = "expected the service's own certificate";
    Err(named(
        Error::invalid("certificate_invalid", text).with("found", found),
    ))
}

fn nobody(name: &str) -> Error {
    let text = "there is no certificate of this name in this process";
    Error::new(ErrorKind::PermissionDenied, "certificate_missing", text).with("name", name)
}

/// Puts the caller's token on each call to another process.
struct Badges(HashMap<ByteString, ServiceTokens>);

impl Identity for Badges {
    fn prove<'a>(
        &'a self,
        call: Outgoing<'a>,
        headers: &'a mut HeaderMap,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            // Keys are public, and tokens are checked by them.
            let tokens = self.0.get(call.caller).filter(|_| call.path != JWKS_PATH);
            let Some(tokens) = tokens else {
                return Ok(());
            };
            let token = HeaderValue::from_maybe_shared(tokens.token(call.target)?.into_bytes());
            let mut token = token
                .map_err(|error| Error::internal("a token is visible ASCII").with_source(error))?;
            // It is nobody's to print, and nobody's to compress.
            token.set_sensitive(true);
            headers.insert(SERVICE_TOKEN, token);
            Ok(())
        })
    }
}

struct CertificateCheck(Certificates);

impl Check for CertificateCheck {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.0.check() })
    }
}
