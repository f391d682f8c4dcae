//! A development CA in a folder.

mod folder;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use serde::{Deserialize, Serialize};
use trunkline_core::{ByteString, Env, Error, Result, Timestamp};

use super::identity::Identity;
use super::issue;
use super::material::{bytes, certificates, expires_at, unix_time};

use folder::{Folder, NEXT, OLD, ROOT};

/// A development CA: a folder with a root and a folder for each service.
///
/// # Guarantees
/// Roots change without an outage, in three steps: the new root is trusted beside the old one everywhere (`Begin`),
/// then it vouches for every leaf (`Switch`), then the old one is trusted no longer (`Finish`). A step that some
/// service is not ready for is refused with the services' names.
///
/// # Shape
/// `<service>/{cert,key,ca}.pem` is what a service needs and all that may leave the folder. The root's file holds its
/// private key. All files are their owner's alone (0600). It is made for development and tests: whoever can read the
/// folder can be any service.
pub struct Authority {
    folder: Folder,
    state: State,
    settle: Duration,
    env: Env,
}

/// What the folder remembers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    trust_domain: String,
    /// The second of the last change that services have to notice.
    changed_at: i64,
}

/// A step of a change of roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotateStep {
    /// Make a new root, and have it trusted beside the old one.
    Begin,
    /// Let the new root vouch for every leaf.
    Switch,
    /// Trust the old root no longer.
    Finish,
}

/// A leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issued {
    /// Whose it is.
    pub identity: Identity,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Where it is.
    pub folder: PathBuf,
    /// Whether the root that vouches now vouches for it.
    pub by_current_root: bool,
    /// How many roots the service trusts.
    pub trusts: usize,
}

/// What a development CA holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overview {
    /// The platform's name in certificates.
    pub trust_domain: ByteString,
    /// When the root ends.
    pub root_expires_at: Timestamp,
    /// The step that comes next.
    pub next_step: RotateStep,
    /// The leaves, by service.
    pub issued: Vec<Issued>,
}

impl Authority {
    /// How long services get to notice a change before the next step builds on it: 30 s, six looks at their files.
    pub const SETTLE: Duration = Duration::from_secs(30);
    /// How long a leaf lives by default: a day.
    pub const LEAF_LIFETIME: Duration = Duration::from_secs(86_400);
    /// How long a root lives: a year.
    pub const ROOT_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

    /// Makes a CA with a root in `folder`.
    ///
    /// # Errors
    /// `Conflict` where there is one already; `InvalidInput` for a trust domain that is none; `Unavailable` where
    /// the folder can't be written.
    pub fn init(folder: impl Into<PathBuf>, trust_domain: &str, env: Env) -> Result<Self> {
        let folder = Folder::new(folder.into());
        if folder.exists(ROOT) {
            return Err(Error::conflict(
                "authority_exists",
                "there is a CA in this folder already",
            )
            .with("folder", folder.path().display()));
        }
        Identity::new(trust_domain, "any")?;
        let authority = Self {
            state: State {
                trust_domain: trust_domain.to_owned(),
                changed_at: 0,
            },
            settle: Self::SETTLE,
            folder,
            env,
        };
        authority.save_state()?;
        authority.new_root(ROOT)?;
        Ok(authority)
    }

    /// The CA in `folder`.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Corrupt` for one that can't be read.
    pub fn open(folder: impl Into<PathBuf>, env: Env) -> Result<Self> {
        let folder = Folder::new(folder.into());
        if !folder.exists(ROOT) {
            let text = "there is no CA in this folder: make one with `trunkline certs init`";
            return Err(
                Error::not_found("authority_missing", text).with("folder", folder.path().display())
            );
        }
        Ok(Self {
            state: folder.read_state()?,
            settle: Self::SETTLE,
            folder,
            env,
        })
    }

    /// Gives services another time to notice a change.
    #[must_use]
    pub fn settle(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    /// Makes a leaf for a service, and writes down which roots it trusts. A service that has one gets another.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none; `Unavailable` where the folder can't be written.
    pub fn issue(&self, service: &str, dns_names: &[String], lifetime: Duration) -> Result<Issued> {
        let identity = Identity::new(&self.state.trust_domain, service)?;
        let mut names = dns_names.to_vec();
        if names.is_empty() {
            names = vec![service.to_owned(), "localhost".to_owned()];
        }
        let order = folder::Order {
            dns_names: names,
            lifetime_seconds: lifetime.as_secs(),
        };
        self.leaf(&identity, &order)?;
        self.issued(service)
    }

    /// Makes every leaf anew.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn renew(&self) -> Result<Vec<Issued>> {
        self.folder
            .services()?
            .iter()
            .map(|service| {
                let identity = Identity::new(&self.state.trust_domain, service)?;
                self.leaf(&identity, &self.folder.order(service)?)?;
                self.issued(service)
            })
            .collect()
    }

    /// Takes a step of a change of roots.
    ///
    /// # Errors
    /// `Conflict`: `rotation_order` for a step whose turn it is not, `rotation_unsettled` where services have not had
    /// the time to notice the last one, `rotation_unready` naming the services that it would cut off.
    pub fn rotate(&mut self, step: RotateStep) -> Result<()> {
        let turn = self.next_step();
        if step != turn {
            let text = "this step comes later or was taken: each has its turn";
            return Err(Error::conflict("rotation_order", text)
                .with("asked_for", format!("{step:?}"))
                .with("turn_of", format!("{turn:?}")));
        }
        match step {
            RotateStep::Begin => {
                self.new_root(NEXT)?;
                self.distribute()?;
            }
            RotateStep::Switch => {
                self.settled()?;
                self.all(|service| self.trusts_root(service, NEXT))?;
                // The old root goes on being trusted, but vouches no more: its key is not kept.
                self.folder.write(OLD, &self.folder.cert(ROOT)?)?;
                self.folder.rename(NEXT, ROOT)?;
                self.renew()?;
            }
            RotateStep::Finish => {
                self.settled()?;
                // Whoever was cut short between the roots and the leaves gets there now.
                self.all(|service| Ok(self.issued(service)?.by_current_root))?;
                self.folder.remove(OLD)?;
                self.distribute()?;
            }
        }
        self.state.changed_at = self.env.now().as_second();
        self.save_state()
    }

    /// The step whose turn it is.
    pub fn next_step(&self) -> RotateStep {
        if self.folder.exists(NEXT) {
            RotateStep::Switch
        } else if self.folder.exists(OLD) {
            RotateStep::Finish
        } else {
            RotateStep::Begin
        }
    }

    /// What there is.
    ///
    /// # Errors
    /// `InvalidInput` or `Unavailable` for what can't be read.
    pub fn overview(&self) -> Result<Overview> {
        let root = first(&self.folder.file(ROOT))?;
        let services = self.folder.services()?;
        Ok(Overview {
            trust_domain: self.state.trust_domain.clone().into(),
            root_expires_at: expires_at(&root)?,
            next_step: self.next_step(),
            issued: services
                .iter()
                .map(|service| self.issued(service))
                .collect::<Result<_>>()?,
        })
    }

    fn issued(&self, service: &str) -> Result<Issued> {
        let folder = self.folder.of(service);
        let cert = first(&folder.join("cert.pem"))?;
        Ok(Issued {
            identity: Identity::of(&cert)?,
            expires_at: expires_at(&cert)?,
            by_current_root: self.vouches(&cert)?,
            trusts: certificates(&bytes(&folder.join("ca.pem"))?)?.len(),
            folder,
        })
    }

    /// Whether the root that vouches now vouches for a leaf.
    fn vouches(&self, cert: &CertificateDer<'_>) -> Result<bool> {
        let mut roots = RootCertStore::empty();
        let root = first(&self.folder.file(ROOT))?;
        roots
            .add(root)
            .map_err(|error| Error::internal("the root can't be used").with_source(error))?;
        let provider = ring::default_provider();
        let algorithms = provider.signature_verification_algorithms.all;
        let verified = ParsedCertificate::try_from(cert).and_then(|parsed| {
            let now = unix_time(&self.env);
            verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, algorithms)
        });
        Ok(verified.is_ok())
    }

    fn trusts_root(&self, service: &str, root: &str) -> Result<bool> {
        let trusted = certificates(&bytes(&self.folder.of(service).join("ca.pem"))?)?;
        Ok(trusted.contains(&first(&self.folder.file(root))?))
    }

    fn all(&self, ready: impl Fn(&str) -> Result<bool>) -> Result<()> {
        let mut behind = Vec::new();
        for service in self.folder.services()? {
            if !ready(&service)? {
                behind.push(service);
            }
        }
        if behind.is_empty() {
            return Ok(());
        }
        let text = "this step would cut services off: issue their certificates again first";
        Err(Error::conflict("rotation_unready", text).with("services", behind.join(", ")))
    }

    fn settled(&self) -> Result<()> {
        let settle = i64::try_from(self.settle.as_secs()).unwrap_or(i64::MAX);
        let from = self.state.changed_at.saturating_add(settle);
        let left = from.saturating_sub(self.env.now().as_second());
        if left > 0 {
            let text = "services may not have noticed the last step yet";
            return Err(Error::conflict("rotation_unsettled", text).with("seconds_left", left));
        }
        Ok(())
    }

    fn new_root(&self, name: &str) -> Result<()> {
        let pair = issue::root(&self.state.trust_domain, Self::ROOT_LIFETIME, &self.env)?;
        self.folder
            .write(name, &format!("{}{}", pair.cert, pair.key))
    }

    fn leaf(&self, identity: &Identity, order: &folder::Order) -> Result<()> {
        let root = self.folder.read(ROOT)?;
        let lifetime = Duration::from_secs(order.lifetime_seconds);
        let pair = issue::leaf(&root, identity, &order.dns_names, lifetime, &self.env)?;
        let bundle = self.bundle()?;
        self.folder
            .write_leaf(identity.service(), order, &pair, &bundle)
    }

    /// Writes to every service which roots are trusted.
    fn distribute(&self) -> Result<()> {
        let bundle = self.bundle()?;
        for service in self.folder.services()? {
            self.folder.write(&format!("{service}/ca.pem"), &bundle)?;
        }
        Ok(())
    }

    fn bundle(&self) -> Result<String> {
        let mut bundle = String::new();
        for name in [ROOT, NEXT, OLD] {
            if self.folder.exists(name) {
                bundle.push_str(&self.folder.cert(name)?);
            }
        }
        Ok(bundle)
    }

    fn save_state(&self) -> Result<()> {
        self.folder.write_state(&self.state)
    }
}

fn first(path: &Path) -> Result<CertificateDer<'static>> {
    certificates(&bytes(path)?)
        .and_then(|all| {
            all.into_iter()
                .next()
                .ok_or_else(|| Error::internal("a list of certificates is never empty"))
        })
        .map_err(|error| error.with("file", path.display()))
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("folder", &self.folder.path())
            .field("trust_domain", &self.state.trust_domain)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
