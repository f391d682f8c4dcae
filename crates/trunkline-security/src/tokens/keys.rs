//! The keys that sign tokens, in a folder.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::Jwk;
use trunkline_core::{Env, Error, Result, Timestamp};

use super::LIFETIME_MAX;
use crate::keys::{KEYS_MAX, KeySet};
use crate::{Secret, Signer};

/// When keys change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenKeysPolicy {
    /// How long a key signs: 30 days.
    pub rotate_every: Duration,
    /// How long a key is published before it signs: 15 minutes, three times as long as readers keep a document.
    pub publish_ahead: Duration,
    /// How often the folder is looked at: once a minute.
    pub tend_every: Duration,
}

impl Default for TokenKeysPolicy {
    fn default() -> Self {
        Self {
            rotate_every: Duration::from_secs(30 * 86_400),
            publish_ahead: Duration::from_secs(15 * 60),
            tend_every: Duration::from_secs(60),
        }
    }
}

/// Keys of Ed25519 that sign tokens, kept in a folder and rotated. Cheap to clone; never printed.
///
/// # Guarantees
/// A key is published before it signs, and stays published until the last token that it signed is gone. Processes
/// that share the folder sign with the same keys. The files are their owner's alone (0600).
///
/// # Shape
/// A file for each key, `<second since 1970 from which it signs>.key`, with 32 bytes in base64url.
#[derive(Clone)]
pub struct TokenKeys(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    policy: TokenKeysPolicy,
    env: Env,
    loaded: ArcSwap<Loaded>,
}

/// What the folder held.
struct Loaded {
    /// The oldest first, and never none.
    keys: Vec<TokenKey>,
    public: KeySet,
}

struct TokenKey {
    begins: i64,
    signer: Signer,
}

impl TokenKeys {
    /// The keys in `folder`; on the first start one is made that signs at once.
    ///
    /// # Errors
    /// As [`Secret::load_or_create`].
    pub fn open(folder: impl Into<PathBuf>, policy: TokenKeysPolicy, env: Env) -> Result<Self> {
        let folder = folder.into();
        let mut found = read(&folder)?;
        if found.is_empty() {
            make(&folder, env.now().as_second(), &env)?;
            found = read(&folder)?;
        }
        let keys = Self(Arc::new(Inner {
            folder,
            policy,
            env,
            loaded: ArcSwap::from_pointee(Loaded::of(found)?),
        }));
        keys.tend()?;
        Ok(keys)
    }

    /// Makes a key that is published now and signs in a while. Says from when.
    ///
    /// # Errors
    /// As [`Secret::load_or_create`]; `Conflict` with 32 keys there already.
    pub fn rotate(&self) -> Result<Timestamp> {
        let inner = &*self.0;
        if inner.loaded.load().keys.len() >= KEYS_MAX {
            return Err(Error::conflict(
                "token_keys_too_many",
                "there are as many keys as a published set may have",
            ));
        }
        let begins = inner.env.after(inner.policy.publish_ahead);
        make(&inner.folder, begins.as_second(), &inner.env)?;
        inner.load(read(&inner.folder)?)?;
        Ok(begins)
    }

    /// Reads the folder again, makes the next key if it is time, and removes those whose tokens are gone.
    ///
    /// # Errors
    /// As [`Secret::load_or_create`]; the keys that were there stay.
    pub fn tend(&self) -> Result<()> {
        let inner = &*self.0;
        let found = read(&inner.folder)?;
        if found.is_empty() {
            return Err(no_key(&inner.folder));
        }
        let now = inner.env.now().as_second();
        let gone = retired(&found, now);
        let newest = found.last().map_or(now, |key| key.begins);
        inner.load(found)?;
        if newest.saturating_add(seconds(inner.policy.rotate_every)) <= now {
            self.rotate()?;
        }
        if !gone.is_empty() {
            for begins in gone {
                // Another process may have been faster.
                if let Err(error) = fs::remove_file(path(&inner.folder, begins)) {
                    tracing::debug!(%error, begins, "a retired key was not removed");
                }
            }
            inner.load(read(&inner.folder)?)?;
        }
        Ok(())
    }

    /// Tends the keys until `stop`; what fails is told in the log and tried again.
    pub async fn keep(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = tokio::time::sleep(self.0.policy.tend_every) => {}
            }
            if let Err(error) = self.tend() {
                tracing::warn!(error = %trunkline_core::report(&error), "token keys can't be tended");
            }
        }
    }

    /// The JWKS document that others verify with, for `/.well-known/jwks.json`. Readers may keep it for
    /// [`super::RemoteKeysPolicy::fresh_for`].
    pub fn jwks(&self) -> serde_json::Value {
        document(&self.0.loaded.load().keys)
    }

    /// The public halves.
    pub(crate) fn public(&self) -> KeySet {
        self.0.loaded.load().public.clone()
    }

    pub(super) fn signer(&self, now: Timestamp) -> Result<Signer> {
        self.current(now, |key| key.signer.clone())
    }

    /// From when the key signs that signs now.
    pub(super) fn signs_since(&self, now: Timestamp) -> Result<i64> {
        self.current(now, |key| key.begins)
    }

    pub(super) fn env(&self) -> &Env {
        &self.0.env
    }

    fn current<T>(&self, now: Timestamp, get: impl FnOnce(&TokenKey) -> T) -> Result<T> {
        let loaded = self.0.loaded.load();
        let keys = &loaded.keys;
        let now = now.as_second();
        let begun = keys.iter().rev().find(|key| key.begins <= now);
        // With the clock set back nobody has begun: the oldest is the best known.
        let key = begun.or_else(|| keys.first());
        key.map(get).ok_or_else(|| no_key(&self.0.folder))
    }
}

impl Inner {
    fn load(&self, keys: Vec<TokenKey>) -> Result<()> {
        self.loaded.store(Arc::new(Loaded::of(keys)?));
        Ok(())
    }
}

impl Loaded {
    fn of(keys: Vec<TokenKey>) -> Result<Self> {
        let public = KeySet::jwks(&document(&keys).to_string())?;
        Ok(Self { keys, public })
    }
}

fn document(keys: &[TokenKey]) -> serde_json::Value {
    let public: Vec<&Jwk> = keys.iter().filter_map(|key| key.signer.jwk()).collect();
    serde_json::json!({ "keys": public })
}

/// Those that the next has replaced for longer than their tokens live.
fn retired(keys: &[TokenKey], now: i64) -> Vec<i64> {
    let after = seconds(LIFETIME_MAX);
    keys.windows(2)
        .filter_map(|pair| {
            let [old, next] = pair else { return None };
            (next.begins.saturating_add(after) <= now).then_some(old.begins)
        })
        .collect()
}

fn make(folder: &Path, begins: i64, env: &Env) -> Result<()> {
    Secret::load_or_create(&path(folder, begins), env).map(drop)
}

fn path(folder: &Path, begins: i64) -> PathBuf {
    folder.join(format!("{begins}.key"))
}

fn read(folder: &Path) -> Result<Vec<TokenKey>> {
    let failed = |error: std::io::Error| {
        Error::unavailable(
            "token_keys_unreadable",
            "the folder of the keys can't be read",
        )
        .with("folder", folder.display())
        .with_source(error)
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut keys = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let begins = name.to_str().and_then(|name| name.strip_suffix(".key"));
        let Some(begins) = begins.and_then(|begins| begins.parse().ok()) else {
            continue;
        };
        match Secret::load(&path(folder, begins)) {
            Ok(secret) => keys.push(TokenKey {
                begins,
                signer: Signer::ed25519(&secret)?,
            }),
            // Removed by another process between the two looks.
            Err(_) if !path(folder, begins).exists() => {}
            Err(error) => return Err(error),
        }
    }
    keys.sort_unstable_by_key(|key| key.begins);
    Ok(keys)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn no_key(folder: &Path) -> Error {
    Error::unavailable("token_key_missing", "there is no key to sign tokens with")
        .with("folder", folder.display())
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loaded = self.0.loaded.load();
        let begins: Vec<i64> = loaded.keys.iter().map(|key| key.begins).collect();
        f.debug_struct("TokenKeys")
            .field("folder", &self.0.folder)
            .field("begin", &begins)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
