//! A CA for development, made and kept up by the platform itself.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trunkline_core::{ByteString, Env, Error, Result, report};
use trunkline_security::Authority;

use crate::Config;
use crate::config::Tls;

/// Certificates are made anew with so much of their time left: a half.
const RENEW_WITHIN: Duration = Duration::from_secs(Authority::LEAF_LIFETIME.as_secs() / 2);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// Whose certificates a process keeps up, and where.
pub(super) struct Development {
    pub(super) config: Arc<Config>,
    pub(super) platform: ByteString,
    pub(super) names: BTreeSet<ByteString>,
    pub(super) env: Env,
}

impl Development {
    /// Makes the CA if there is none, and a certificate for each name that has none or whose ends soon. Processes that
    /// start together wait for each other.
    ///
    /// # Errors
    /// `Unavailable` where the folder can't be written; what [`Authority`] says.
    pub(super) fn prepare(&self) -> Result<()> {
        let Some(tls) = self.config.tls.as_ref().filter(|tls| tls.development) else {
            return Ok(());
        };
        let folder = self.config.authority(tls)?;
        let _alone = claim(&folder).map_err(|error| unusable(&folder, error))?;
        let authority = self.authority(&folder, tls)?;
        let soon = self.env.after(RENEW_WITHIN);
        let issued = authority.overview()?.issued;
        for name in &self.names {
            let own = issued.iter().find(|leaf| leaf.identity.service() == name);
            let lasts = own.is_some_and(|leaf| leaf.by_current_root && leaf.expires_at > soon);
            if !lasts {
                authority.issue(name, &[], Authority::LEAF_LIFETIME)?;
            }
        }
        Ok(())
    }

    fn authority(&self, folder: &Path, tls: &Tls) -> Result<Authority> {
        if folder.join("root.pem").is_file() {
            return Authority::open(folder, self.env.clone());
        }
        let domain = tls.trust_domain.as_deref().unwrap_or(&self.platform);
        Authority::init(folder, domain, self.env.clone())
    }

    /// Does that again until `stop`. What fails is told in the log and tried again.
    pub(super) async fn keep(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(LOOK_EVERY) => {}
            }
            if let Err(error) = self.prepare() {
                tracing::warn!(error = %report(&error), "certificates for development can't be renewed");
            }
        }
    }
}

/// The folder, for one process at a time.
fn claim(folder: &Path) -> std::io::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(".lock"))?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn unusable(folder: &Path, error: std::io::Error) -> Error {
    let text = "the folder of the certificates for development can't be written";
    Error::unavailable("authority_unusable", text)
        .with("folder", folder.display())
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn development(folder: &Path, env: &Env, names: &[&'static str]) -> Development {
        let mut config = Config::default();
        config.data = folder.to_owned();
        config.tls = Some(Tls {
            development: true,
            ..Tls::default()
        });
        Development {
            config: Arc::new(config),
            platform: "shop".into(),
            names: names.iter().copied().map(ByteString::from).collect(),
            env: env.clone(),
        }
    }

    #[test]
    fn what_is_missing_or_ends_soon_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let (env, clock) = Env::manual(1);
        let cert = |name: &str| {
            let path = folder.path().join("certs").join(name).join("cert.pem");
            std::fs::read_to_string(path).unwrap()
        };
        let first = development(folder.path(), &env, &["orders"]);
        first.prepare().unwrap();
        let made = cert("orders");
        let both = development(folder.path(), &env, &["orders", "stock"]);
        both.prepare().unwrap();
        assert_eq!(cert("orders"), made, "it was there");
        cert("stock");
        clock.advance(RENEW_WITHIN);
        first.prepare().unwrap();
        assert_ne!(cert("orders"), made);
    }

    #[test]
    fn those_who_start_together_share_one_ca() {
        let folder = tempfile::tempdir().unwrap();
        let env = Env::system();
        let names = ["a", "b", "c", "d"];
        std::thread::scope(|scope| {
            for name in &names {
                let one = development(folder.path(), &env, std::slice::from_ref(name));
                scope.spawn(move || one.prepare().unwrap());
            }
        });
        let authority = Authority::open(folder.path().join("certs"), env).unwrap();
        let issued = authority.overview().unwrap().issued;
        assert_eq!(issued.len(), 4);
        assert!(issued.iter().all(|leaf| leaf.by_current_root));
    }
}
